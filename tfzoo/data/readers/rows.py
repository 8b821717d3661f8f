"""Rows from .jsonl .tsv .csv, plain text from .txt, and .gz of each; all of them in flat memory.

Invalid UTF-8 becomes U+FFFD as Python's `decode(errors="replace")` has it, and is counted. No quoting in .tsv.
"""
import contextlib
import csv
import gzip
import hashlib
import json
import pathlib
import re
import sys
import zlib

from tfzoo.errors import ConfigError, DataError

ENDINGS = (".jsonl", ".tsv", ".csv", ".txt")
FIELDS = ("text", "text_pair", "label")
REPLACEMENT = "\ufffd"
BLOCK = 2 ** 14  # bytes read at once, and the characters of a piece of a long document
_SPLIT = {"paragraph": re.compile(r"\n[ \t\r]*\n").split, "line": lambda text: text.split("\n"),
          "file": lambda text: [text]}
DOCUMENTS = tuple(_SPLIT)
_SHARD = re.compile(r"[-_]\d+[-_]of[-_]\d+$")  # behind the ending: data.jsonl-00000-of-00002


def find_ending(path):
    """Return the lower-case ending of a data file without .gz and the number of a shard; "-" is standard input: .txt."""
    name = {"-": "-.txt"}.get(str(path), str(path)).lower().removesuffix(".gz")
    return pathlib.Path(_SHARD.sub("", "x" + name if name.startswith("-") else name)).suffix


def ending_of(path, allowed=ENDINGS):
    """Return the ending of a data file as `find_ending`, or raise ConfigError."""
    ending = find_ending(path)
    if ending not in allowed:
        raise ConfigError(f"{path}: allowed are files ending in {' '.join(allowed)}, or those with .gz")
    return ending


@contextlib.contextmanager
def _opened(path):
    """Open a file, decompressed; "-" and what begins with it is standard input."""
    try:
        if str(path).startswith("-"):
            yield sys.stdin.buffer
            return
        with (gzip.open if str(path).lower().endswith(".gz") else open)(path, "rb") as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); get it again") from None


def hash_content(path):
    """Return the SHA-256 of a file's bytes, decompressed, as hex."""
    with _opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Lines:
    """Iterate over the lines of a file, decompressed and decoded, and count what was met.

    Args:
        path: str or path; "-" (or "-.jsonl" and the like) is standard input.

    Attributes:
        raw_bytes: int, decompressed bytes read so far.
        replaced: int, U+FFFD put in for invalid UTF-8 so far.
    """

    def __init__(self, path):
        self.path, self.raw_bytes, self.replaced = path, 0, 0

    def __iter__(self):
        with _opened(self.path) as stream:
            for raw in self._parts(stream):
                text = raw.decode("utf-8", "replace")
                self.raw_bytes += len(raw)
                if REPLACEMENT in text:
                    self.replaced += text.count(REPLACEMENT) - raw.count(REPLACEMENT.encode())
                yield text

    def _parts(self, stream):
        return stream


class Blocks(Lines):
    """Iterate over the text of a file as Lines does, in blocks of about BLOCK bytes that end anywhere."""

    def _parts(self, stream):
        left = b""
        while data := stream.read(BLOCK):
            data = left + data
            # A character that may go on waits for the next block: each decodes as it would in the whole.
            begun = next((back for back in (1, 2, 3) if data[-back:][:1] >= b"\xc0"), 0)
            yield data[:len(data) - begun]
            left = data[len(data) - begun:]
        if left:
            yield left


def json_objects(lines):
    """Yield (line number, dict or None, reason for None) of the lines of a .jsonl that are not blank."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.removeprefix("\ufeff"))
        except (ValueError, RecursionError) as error:
            yield number, None, f"bad JSON ({error})"
            continue
        yield number, *((record, "") if isinstance(record, dict) else (None, "not a JSON object"))


def _records(path, lines):
    """Yield (line number, dict or None, reason) of a file of rows."""
    ending = ending_of(path)
    numbered = enumerate((line.removesuffix("\n").removesuffix("\r") for line in lines), 1)
    if ending == ".txt":
        yield from ((number, {"text": line}, "") for number, line in numbered)
    elif ending == ".jsonl":
        yield from json_objects(lines)
    else:
        rows = ((number, line.split("\t")) for number, line in numbered) if ending == ".tsv" else _csv_rows(lines)
        header = next(rows, (1, []))[1] or []
        header = [name.removeprefix("\ufeff") for name in header]
        for number, row in rows:
            if row is None or len(row) != len(header):
                reason = "not CSV" if row is None else f"{len(row)} columns, the header has {len(header)}"
                yield number, None, reason
            else:
                yield number, dict(zip(header, row)), ""


def _csv_rows(lines):
    csv.field_size_limit(2 ** 31 - 1)
    reader = csv.reader(iter(lines))
    while True:
        try:
            yield reader.line_num + 1, next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield reader.line_num, None


def _problem(row, needed):
    missing = [key for key in needed if not isinstance(row.get(key), str)]
    if missing:
        return f"no string in {', '.join(missing)}"
    return "" if isinstance(row.get("text_pair", ""), str) else "no string in text_pair"


def skip_bad(path, found, needed, max_bad_rows, on_bad):
    """Yield the rows of (line number, row, reason why it is bad), of which `max_bad_rows` may be bad; see read_rows."""
    skipped = 0
    for number, row, reason in found:
        if not reason:
            yield row
            continue
        skipped += 1
        message = f"{path} line {number}: {reason}"
        if skipped > max_bad_rows:
            raise DataError(f"{message}; needed are {' and '.join(needed)}; fix it or raise --max_bad_rows")
        if on_bad:
            on_bad(message)


def read_rows(lines, needed=("text", "label"), max_bad_rows=0, on_bad=None):
    """Read rows one by one.

    Args:
        lines: Lines of a .jsonl, of a .tsv (no quoting) or .csv with a header, or of a .txt (each line a text).
        needed: tuple of the columns that each row must have; text_pair is read where it is, others are ignored.
        max_bad_rows: int, so many bad rows are skipped.
        on_bad: callable of a message for each skipped row, or None.

    Yields:
        dict of str: text, and text_pair, label where the row has them; a label that is a whole number becomes str.

    Raises:
        ConfigError: for another ending, and for rows without labels where they are needed from a .txt.
        DataError: for one bad row more than allowed, with file, line and reason.
        FileNotFoundError, OSError: where the file cannot be read.
    """
    path = lines.path
    if ending_of(path) == ".txt" and "label" in needed:
        raise ConfigError(f"{path}: allowed for labelled texts are .jsonl, .tsv and .csv, or those with .gz")
    yield from skip_bad(path, _texts(path, lines, needed), needed=needed, max_bad_rows=max_bad_rows, on_bad=on_bad)


def _texts(path, lines, needed):
    """Yield (line number, row, reason) of the texts of a file."""
    for number, record, reason in _records(path, lines):
        row = {key: record[key] for key in FIELDS if record.get(key) is not None} if record is not None else {}
        if isinstance(row.get("label"), int):
            row["label"] = str(row["label"])
        yield number, row, reason or _problem(row, needed)


def read_documents(parts, document="paragraph"):
    """Divide a text into documents, in flat memory.

    Args:
        parts: iterable of str, the text in parts of any length, as Blocks or Lines of a .txt.
        document: what is one document: "paragraph" (between blank lines), "line" or "file".

    Yields:
        (str, bool): documents that are not blank, and True; one that is long comes in several pieces, and True with its
        last, which may be empty.

    Raises:
        ConfigError: for an unknown kind of document.
    """
    if document not in DOCUMENTS:
        raise ConfigError(f"--document={document}: allowed are {', '.join(DOCUMENTS)}")
    left, begun = "", False
    for part in parts:
        *whole, left = _SPLIT[document](left + part)
        for text in whole:
            if begun or (text and not text.isspace()):
                yield text, True
            begun = False
        if len(left) >= BLOCK and (begun or not left.isspace()):
            end = len(left.rstrip(" \t\r"))
            end -= left[end - 1:end] == "\n"  # it may begin a separator
            yield left[:end], False
            left, begun = left[end:], True
    if begun or (left and not left.isspace()):
        yield left, True


def whole_documents(pieces):
    """Yield the documents of (str, bool), see read_documents, each as one str."""
    held = []
    for text, ends in pieces:
        held.append(text)
        if ends:
            yield "".join(held)
            held = []
