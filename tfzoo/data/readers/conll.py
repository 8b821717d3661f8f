"""Readers for tagged sentences: .conll files with CoNLL columns and .jsonl files with {"tokens", "tags"}, or gzipped.

Columns are separated by spaces and tabs only, so U+00A0 and U+3000 can be tokens. If the number of tabs in a line
matches its number of columns, only tabs separate columns, so tokens may contain spaces. # never starts a comment.
"""
import re

from tfzoo.data.readers.rows import ending_of, json_objects, skip_bad
from tfzoo.errors import shown

SENTENCE_ENDINGS = (".conll", ".jsonl")
DOCUMENT = "-DOCSTART-"
_BLANKS = re.compile(r"[ \t]+")


def read_sentences(lines, needed=("tokens", "tags"), max_bad_rows=0, on_bad=None):
    """Yield sentences one at a time.

    Args:
        lines: Lines of a .conll file (one word per line, with the token first and its tag last; sentences end at blank
            lines, and documents start at -DOCSTART- lines) or of a .jsonl file.
        needed: tuple of str, ("tokens", "tags") or ("tokens",).
        max_bad_rows: int, the number of bad sentences to skip before an error is raised.
        on_bad: callable that receives a message (str) for each skipped sentence, or None.

    Yields:
        dict: tokens and, if needed, tags, lists of str of equal length; and document, int, the number of -DOCSTART-
        lines before the sentence.

    Raises:
        ConfigError: if the file extension is not supported.
        DataError: if there are more bad sentences than allowed; the message gives the file, line and reason.
        OSError: if the file cannot be read; FileNotFoundError if it does not exist.
    """
    tagged = "tags" in needed
    if ending_of(lines.path, SENTENCE_ENDINGS) == ".jsonl":
        found = _of_objects(lines, tagged)
    else:
        found = _of_columns(lines, tagged)
    return skip_bad(lines.path, found, needed=needed, max_bad_rows=max_bad_rows, on_bad=on_bad)


def _of_objects(lines, tagged):
    for number, record, reason in json_objects(lines):
        if not reason:
            reason = _problem(record, tagged)
        yield number, None if reason else {"tokens": record["tokens"], **({"tags": record["tags"]} if tagged else {}),
                                           "document": 0}, reason


def _problem(record, tagged):
    for key in ("tokens", "tags")[:1 + tagged]:
        values = record.get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            return f"{key} is not a list of strings"
    if not tagged:
        return ""
    if len(record["tokens"]) != len(record["tags"]):
        return f"{len(record['tokens'])} tokens and {len(record['tags'])} tags"
    return "" if all(tag.strip() for tag in record["tags"]) else "an empty tag"


def _of_columns(lines, tagged):
    # Yield (line number, sentence or None, reason). The line number of a bad sentence is that of its first bad line.
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
    return number, {"tokens": [cells[0] for cells in rows], **tags, "document": document}, ""
