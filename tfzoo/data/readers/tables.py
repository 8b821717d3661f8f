"""Readers for .csv and .tsv files as written by Python's csv module and spreadsheets, with any line endings.

In .csv files, quotes follow RFC 4180. In .tsv files, each line is a row, and quotes are text unless they enclose a
well-formed quoted field. A quoted field in a .tsv file may contain tabs or line breaks only if its lines are not valid
rows individually but together form a row with as many fields as the header. Blank lines are skipped.
"""
import collections
import csv
import itertools
import re

from tfzoo.data.readers.glue import COLA, NO_LABEL, is_cola
from tfzoo.errors import DataError, shown

AHEAD = 1000  # the maximum number of lines that one row in a .tsv file may span
_LONE_RETURN = re.compile(r"(?<=\r)(?!\n)")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def table_rows(lines, ending, needed, known, glue=None):
    """Read a table with a header.

    Args:
        lines: Lines.
        ending: ".csv" or ".tsv".
        needed: tuple of str, the columns that the header must contain.
        known: tuple of str, the columns that must not occur more than once in the header.
        glue: callable, `glue.names_for` of a task that may read files of GLUE, or None.

    Yields:
        (int, dict, str): the number of the row's first line; a dict of column to str, or None if the row is bad; and
        why the row is bad, or "" if it is not.

    Raises:
        DataError: if a required column is missing from the header, a known column occurs twice, or a quote is never
            closed.
    """
    rows = (_csv_rows if ending == ".csv" else _tsv_rows)(lines.path, _divide(lines))
    number, header, reason = next(rows, (1, (), ""))
    names, given = {}, header
    if glue and header:
        if ending == ".tsv" and is_cola(header):
            rows, header = itertools.chain([(number, header, "")], rows), COLA
        names = glue(tuple(header))
        header = [names.get(name, f"({name})" if name in names.values() else name) for name in header]
    wrong = [f"no column is named {name}" for name in needed if header is not None and name not in header]
    wrong += [f"{count} columns are named {given[header.index(name)]}" for name in known
              if (count := list(header or ()).count(name)) > 1]
    if reason or header and wrong:
        raise DataError(f"{lines.path} line {number}: {reason or wrong[0]}; the header is {shown(given)}, but must "
                        f"contain {' and '.join(needed)}, separated by {'commas' if ending == '.csv' else 'tabs'}")
    for number, row, reason in rows:
        if row is not None and len(row) != len(header):
            row, reason = None, f"{len(row)} columns, but the header has {len(header)}"
        record = None if row is None else dict(zip(header, row))
        if names and record and record.get("label") == NO_LABEL:
            del record["label"]
        yield number, record, reason


def _divide(lines):
    # A lone carriage return also ends a line.
    for line in lines:
        yield from filter(None, _LONE_RETURN.split(line)) if "\r" in line else (line,)


def _next_record(reader):
    # Fields may have any length. The limit is global to the process, so restore it afterwards.
    limit = csv.field_size_limit(2 ** 31 - 1)
    try:
        return next(reader)
    finally:
        csv.field_size_limit(limit)


def _csv_rows(path, lines):
    reader = csv.reader(lines, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            row = _next_record(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if str(error) == "unexpected end of data":  # all remaining lines would become a single bad row
                raise DataError(f"{path} line {number}: a quote that opens in this row is never closed") from None
            yield number, None, f"not CSV ({error})"
            continue
        if row:
            yield number, row, ""


def _tsv_rows(path, lines):
    lines, held, number, width = iter(lines), collections.deque(), 1, None
    while line := next(_ahead(held, lines), None):
        cells, used, reason = _cells(line), 1, ""
        record, count = _quoted_record(_ahead(held, lines)) if '"' in line and width and (
            len(cells) != width or _opens(cells[-1])) else ([], 0)
        if len(record) == len(cells) == width == 1:
            reason = (f"a quote opens here and closes on line {number + count - 1}, but in a one-column .tsv, each "
                      "line is a separate text: use .csv or .jsonl instead")
        elif record and len(record) == width and not (
                len(cells) == width == len(_cells(next(_ahead(held, lines, 1))))):
            cells, used = record, count
        else:
            cells = [cell[1:-1].replace('""', '"') if _QUOTED.fullmatch(cell) else cell for cell in cells]
        for _ in range(used):
            held.popleft()
        if line.strip("\r\n"):
            yield number, None if reason else cells, reason
            width = width or len(cells)
        number += used


def _opens(cell):
    return cell.startswith('"') and not _QUOTED.fullmatch(cell)


def _cells(line):
    return line.removesuffix("\n").removesuffix("\r").split("\t")


def _ahead(held, lines, start=0):
    # Look ahead up to AHEAD lines, which stay in `held`.
    for place in range(start, AHEAD):
        while place >= len(held):
            line = next(lines, None)
            if line is None:
                return
            held.append(line)
        yield held[place]


def _quoted_record(lines):
    # The first record under the rules for .csv, and the number of lines that it spans; ([], 0) if there is none.
    reader = csv.reader(lines, delimiter="\t", strict=True)
    try:
        return _next_record(reader), reader.line_num
    except (csv.Error, StopIteration):
        return [], 0
