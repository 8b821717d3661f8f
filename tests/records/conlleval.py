"""Extract chunks by conlleval's two tables, as a reference; written from the Perl script, not from tfzoo.

The script knows B, I, E and O. S, a chunk of one word, and the end of a chunk before a B after an E follow seqeval
1.2.2, whose default mode is what papers report for BIOES.
"""
import random

END = {"BB", "BS", "BO", "IB", "IS", "IO", "EB", "EI", "EE", "ES", "EO", "SB", "SI", "SE", "SS", "SO"}
START = {"BB", "IB", "OB", "EB", "SB", "OI", "EI", "SI", "OE", "EE", "SE", "OS", "BS", "IS", "ES", "SS"}
SAME = {"U": "S", "L": "E", "M": "I"}
SCHEMES = {"IO": "I", "IOB": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}


def chunks(tags):
    """Return the chunks: set of (type, first word, end), where end is the word after the last."""
    found, begin, last, last_type = set(), 0, "O", ""
    for place, tag in enumerate(list(tags) + ["O"]):
        mark, kind = (tag[0], tag[2:]) if tag != "O" else ("O", "")
        mark = SAME.get(mark, mark)
        if last + mark in END or (last != "O" and kind != last_type):
            found.add((last_type, begin, place))
        if last + mark in START or (mark != "O" and kind != last_type):
            begin = place
        last, last_type = mark, kind
    return found


def random_sentences(scheme, count, seed, types=("PER", "LOC", "creative-work")):
    """Return random sentences of up to 12 tags of a scheme, well-formed or not."""
    draw = random.Random(f"{scheme} {seed}")
    tags = ["O"] + [f"{mark}-{kind}" for mark in SCHEMES[scheme] for kind in types]
    return [[draw.choice(tags) if draw.random() < 0.7 else "O" for _ in range(draw.randrange(13))]
            for _ in range(count)]
