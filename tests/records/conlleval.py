"""A reference implementation of conlleval's chunk extraction, written from the Perl script independently of tfzoo.

The script supports B, I, E and O. S (a chunk of one word) and the end of a chunk between E and B follow seqeval 1.2.2,
whose default mode papers use to report scores for BIOES.
"""
import random

END = {"BB", "BS", "BO", "IB", "IS", "IO", "EB", "EI", "EE", "ES", "EO", "SB", "SI", "SE", "SS", "SO"}
START = {"BB", "IB", "OB", "EB", "SB", "OI", "EI", "SI", "OE", "EE", "SE", "OS", "BS", "IS", "ES", "SS"}
SAME = {"U": "S", "L": "E", "M": "I"}
SCHEMES = {"IO": "I", "IOB": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}


def chunks(tags):
    """Return the chunks of a sentence: set of (type, first word, end), where the end is exclusive."""
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
    """Return random sentences of up to 12 tags of a scheme, which may be malformed."""
    draw = random.Random(f"{scheme} {seed}")
    tags = ["O"] + [f"{mark}-{kind}" for mark in SCHEMES[scheme] for kind in types]
    return [[draw.choice(tags) if draw.random() < 0.7 else "O" for _ in range(draw.randrange(13))]
            for _ in range(count)]
