"""Rows from .jsonl .tsv .csv, plain text from .txt, and .gz of each; all of them in flat memory.

Invalid UTF-8 becomes U+FFFD as Python's `decode(errors="replace")` has it, and is counted. A UTF-8 byte order mark is
no text.
"""
import codecs
import contextlib
import gzip
import hashlib
import json
import pathlib
import re
import sys
import zlib

from tfzoo.data.readers.tables import table_rows
from tfzoo.errors import ConfigError, DataError, shown
from tfzoo.files import local_path

ENDINGS = (".jsonl", ".tsv", ".csv", ".txt")
FIELDS = ("text", "text_pair", "label")
REPLACEMENT = "\ufffd"
BLOCK = 2 ** 14  # bytes read at once, and the characters of a piece of a long document
_SPLIT = {"paragraph": re.compile(r"\n[ \t\r]*\n").split, "line": lambda text: text.split("\n"),
          "file": lambda text: [text]}
DOCUMENTS = tuple(_SPLIT)
_SHARD = re.compile(r"[-_]\d+[-_]of[-_]\d+$")  # behind the ending: data.jsonl-00000-of-00002


def find_ending(path):
    """Return the lower-case ending of a data file without .gz and a shard's number; "-" is standard input: .txt."""
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
        self.path = path if str(path).startswith("-") else local_path(path, "the data")
        self.raw_bytes, self.replaced = 0, 0

    def __iter__(self):
        with _opened(self.path) as stream:
            for number, raw in enumerate(self._parts(stream)):
                if number == 0:
                    raw = self._without_mark(raw)
                text = raw.decode("utf-8", "replace")
                self.raw_bytes += len(raw)
                if REPLACEMENT in text:
                    self.replaced += text.count(REPLACEMENT) - raw.count(REPLACEMENT.encode())
                yield text

    def _without_mark(self, raw):
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
            raise DataError(f"{self.path} is UTF-16 or UTF-32 by its first bytes: write it as UTF-8")
        return raw.removeprefix(codecs.BOM_UTF8)

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
            record = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            yield number, None, f"bad JSON ({error})"
            continue
        yield number, *((record, "") if isinstance(record, dict) else (None, "not a JSON object"))


def _once(pairs):
    record = dict(pairs)
    if len(record) < len(pairs):
        key = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
        raise ValueError(f"the key {shown(key)} occurs twice")
    return record


def _records(lines, needed):
    """Return (line number, dict or None, reason) of the rows of a file."""
    ending = ending_of(lines.path)
    if ending == ".txt":
        return ((number, {"text": line.removesuffix("\n").removesuffix("\r")}, "")
                for number, line in enumerate(lines, 1))
    return json_objects(lines) if ending == ".jsonl" else table_rows(lines, ending, needed, known=FIELDS)


def _problem(row, needed):
    wrong = [key for key in {**dict.fromkeys(needed), "text_pair": None} if not isinstance(row.get(key, ""), str)]
    if wrong:
        return f"{wrong[0]} is {shown(row[wrong[0]])}, no string{' or whole number' if wrong[0] == 'label' else ''}"
    missing = [key for key in needed if key not in row]
    if missing:
        return f"no string in {', '.join(missing)}"
    return "an empty label" if "label" in needed and not row["label"].strip() else ""


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
        lines: Lines of a .jsonl, of a .tsv or .csv with a header (see `tables`), or of a .txt (each line a text).
        needed: tuple of the columns that each row must have; text_pair is read where it is, others are ignored.
        max_bad_rows: int, so many bad rows are skipped.
        on_bad: callable of a message for each skipped row, or None.

    Yields:
        dict of str: text, and text_pair, label where the row has them; a label that is a whole number becomes str.
        Blank lines of a .jsonl, .tsv and .csv are none.

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
    for number, record, reason in _records(lines, needed):
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
