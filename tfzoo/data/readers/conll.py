"""Reader for tagged sentences in .conll files, optionally gzipped, with CoNLL columns.

Columns are separated by spaces and tabs only, so U+00A0 and U+3000 can be tokens. If the number of tabs in a line
matches its number of columns, only tabs separate columns, so tokens may contain spaces. # never starts a comment.
"""
import re

from tfzoo.errors import shown

DOCUMENT = "-DOCSTART-"
_BLANKS = re.compile(r"[ \t]+")


def sentences_of(lines, tagged=True):
    """Yield sentences one at a time.

    Args:
        lines: Lines of a .conll file: one word per line, with the token first and its tag last; sentences end at blank
            lines, and documents start at -DOCSTART- lines.
        tagged: bool, whether each word must have a tag.

    Yields:
        (int, dict, str): the line number; the sentence, or None if it is bad; and why it is bad, or "". A sentence has
        `tokens`, `tags` if `tagged` (lists of str of equal length), and, if the file marks documents, `document`, the
        number of -DOCSTART- lines before the sentence. The line number of a bad sentence is that of its first bad line.
    """
    rows, width, document, bad, number = [], None, 0, None, 0
    for number, line in enumerate(lines, 1):
        cells = _BLANKS.split(line.strip(" \t\r\n"))
        if line.strip() and cells[0] != DOCUMENT:
            width = width or (len(cells) if len(cells) > 1 else None)
            if line.count("\t") + 1 == width:
                cells = [cell.strip(" ") or cell for cell in line.rstrip("\r\n").split("\t")]
            reason = _wrong(cells, width) if tagged and not bad else ""
            bad = (number, reason) if reason else bad
            rows.append(cells)
            continue
        if rows:
            yield _sentence(rows, tagged=tagged, document=document, bad=bad, number=number)
        document += cells[0] == DOCUMENT
        rows, bad = [], None
    if rows:
        yield _sentence(rows, tagged=tagged, document=document, bad=bad, number=number)


def _wrong(cells, width):
    if len(cells) < 2 or not cells[-1].strip():
        return f"no tag after {shown(cells[0])}"
    return "" if len(cells) == width else f"{len(cells)} columns, but the first word has {width}"


def _sentence(rows, tagged, document, bad, number):
    if bad:
        return bad[0], None, bad[1]
    tags = {"tags": [cells[-1] for cells in rows]} if tagged else {}
    documents = {"document": document} if document else {}
    return number, {"tokens": [cells[0] for cells in rows], **tags, **documents}, ""
