"""Reader for sentences of parts of speech in .conllu files, optionally gzipped (universaldependencies.org/format.html).

A line has 10 columns, separated by tabs. The tokens are the syntactic words (FORM) and the tags their universal parts
of speech (UPOS). Lines of surface tokens such as 3-4 and of empty nodes such as 8.1 are not words. A line that starts
with # is a comment; # newdoc starts a document.
"""
import itertools
import re

from tfzoo.errors import shown

COLUMNS = 10
_NUMBER = re.compile(r"(\d+)(?:([-.])(\d+))?")


def conllu_sentences(lines, tagged=True):
    """Yield sentences one at a time.

    Args:
        lines: Lines of a .conllu file.
        tagged: bool, whether each word must have a tag.

    Yields:
        (int, dict, str): the line number; the sentence, or None if it is bad; and why it is bad, or "", as from
        `conll.sentences_of`. A sentence has `tokens`; `tags` if `tagged`, otherwise `text`, rebuilt from the surface
        tokens and SpaceAfter=No, and `offsets`, the start and end of each token in it; and, if the file marks
        documents, `document`, the number of `# newdoc` lines before the sentence.
    """
    rows, document, bad, number = [], 0, None, 0
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            document += line[1:].split()[:1] == ["newdoc"]
        elif line.strip():
            cells = line.rstrip("\r\n").split("\t")
            reason = "" if bad else _wrong(cells, tagged)
            bad = (number, reason) if reason else bad
            rows.append(cells)
        elif rows:
            yield _sentence(rows, tagged=tagged, document=document, bad=bad, number=number)
            rows, bad = [], None
    if rows:
        yield _sentence(rows, tagged=tagged, document=document, bad=bad, number=number)


def _wrong(cells, tagged):
    if len(cells) != COLUMNS:
        return f"{len(cells)} columns separated by tabs, but .conllu files have {COLUMNS}"
    match = _NUMBER.fullmatch(cells[0])
    if not match:
        return f"{shown(cells[0])} is not the number of a word, such as 3, 3-4 or 8.1"
    if not cells[1]:
        return "an empty word"
    return f"no tag after {shown(cells[1])}" if tagged and not match[2] and cells[3] in ("", "_") else ""


def _sentence(rows, tagged, document, bad, number):
    if bad:
        return bad[0], None, bad[1]
    words = [cells for cells in rows if cells[0].isdecimal()]
    if not words:
        return number, None, "no words"
    content = {"tags": [cells[3] for cells in words]} if tagged else _text_of(rows)
    documents = {"document": document} if document else {}
    return number, {"tokens": [cells[1] for cells in words], **content, **documents}, ""


def _text_of(rows):
    # The text of a sentence, and the places of its words. If the words of a surface token do not spell it out, as for
    # "du" = "de" + "le", each of them has the place of the whole token.
    text, offsets, after, last = "", [], "", 0
    for row, (number, form, *_, misc) in enumerate(rows):
        match = _NUMBER.fullmatch(number)
        if match[2] == "." or not match[2] and int(number) <= last:  # the latter was placed with its surface token
            continue
        text += after
        start, text, words = len(text), text + form, [form]
        after = "" if "SpaceAfter=No" in misc.split("|") else " "
        if match[2]:
            last = int(match[3])
            words = [cells[1] for cells in rows[row + 1:] if cells[0].isdecimal() and int(cells[0]) <= last]
        ends = list(itertools.accumulate(map(len, words), initial=start))
        offsets += zip(ends, ends[1:]) if "".join(words) == form else [(start, len(text))] * len(words)
    return {"text": text, "offsets": offsets}
