"""Read rows from .jsonl, .tsv and .csv and plain text from .txt, also gzipped, in constant memory.

Invalid UTF-8 is replaced by U+FFFD, as Python's `decode(errors="replace")` does, and counted. A UTF-8 byte order mark
is dropped.
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
from tfzoo.files import local_path, once

ENDINGS = (".jsonl", ".tsv", ".csv", ".txt")
FIELDS = ("text", "text_pair", "label")
REPLACEMENT = "\ufffd"
BLOCK = 2 ** 14  # bytes read at once, and the least characters of a piece of a long document
_SPLIT = {"paragraph": re.compile(r"\n[ \t\r]*\n").split, "line": lambda text: text.split("\n"),
          "file": lambda text: [text]}
DOCUMENTS = tuple(_SPLIT)
_SHARD = re.compile(r"[-_]\d+[-_]of[-_]\d+$")  # after the ending: data.jsonl-00000-of-00002


def find_ending(path):
    """Return the lower-case ending of a data file, without .gz and a shard number; that of "-" (stdin) is .txt."""
    name = {"-": "-.txt"}.get(str(path), str(path)).lower().removesuffix(".gz")
    return pathlib.Path(_SHARD.sub("", "x" + name if name.startswith("-") else name)).suffix


def ending_of(path, allowed=ENDINGS):
    """Return the ending of a data file, see `find_ending`; ConfigError if it is not in `allowed`."""
    ending = find_ending(path)
    if ending not in allowed:
        raise ConfigError(f"{path}: allowed are files ending in {' '.join(allowed)}, also with .gz")
    return ending


@contextlib.contextmanager
def _opened(path):
    # Decompressed; a name that begins with "-" is standard input.
    try:
        if str(path).startswith("-"):
            yield sys.stdin.buffer
            return
        with (gzip.open if str(path).lower().endswith(".gz") else open)(path, "rb") as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzip file ({error}); get it again") from None


def hash_content(path):
    """Return the SHA-256 of a file's decompressed bytes, as hex."""
    with _opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Lines:
    """Iterate over the lines of a file, decompressed and decoded, and count bytes and replacements.

    Args:
        path: str or path; "-" (or "-.jsonl" and the like) is standard input.

    Attributes:
        raw_bytes: int, decompressed bytes read so far, without a byte order mark.
        replaced: int, the number of U+FFFD inserted for invalid UTF-8 so far.

    Raises:
        DataError: while iterating, UTF-16 or UTF-32, or an incomplete gzip file.
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
            raise DataError(f"{self.path} is UTF-16 or UTF-32 by its byte order mark: convert it to UTF-8")
        return raw.removeprefix(codecs.BOM_UTF8)

    def _parts(self, stream):
        return stream


class Blocks(Lines):
    """Iterate over the text of a file as Lines does, in blocks of about BLOCK bytes that may end anywhere."""

    def _parts(self, stream):
        left = b""
        while data := stream.read(BLOCK):
            data = left + data
            # Hold back a character that may continue in the next block, so that blocks decode as the whole file does.
            begun = next((back for back in (1, 2, 3) if data[-back:][:1] >= b"\xc0"), 0)
            yield data[:len(data) - begun]
            left = data[len(data) - begun:]
        if left:
            yield left


def json_objects(lines):
    """Yield (line number, dict or None, reason for None) for each line of a .jsonl that is not blank."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=once)
        except (ValueError, RecursionError) as error:
            yield number, None, f"bad JSON ({error})"
            continue
        yield number, *((record, "") if isinstance(record, dict) else (None, "not a JSON object"))


def _records(lines, needed):
    ending = ending_of(lines.path)
    if ending == ".txt":
        return ((number, {"text": line.removesuffix("\n").removesuffix("\r")}, "")
                for number, line in enumerate(lines, 1))
    return json_objects(lines) if ending == ".jsonl" else table_rows(lines, ending, needed, known=FIELDS)


def _problem(row, needed):
    wrong = [key for key in {**dict.fromkeys(needed), "text_pair": None} if not isinstance(row.get(key, ""), str)]
    if wrong:
        return f"{wrong[0]} is {shown(row[wrong[0]])}, not a string{' or whole number' if wrong[0] == 'label' else ''}"
    missing = [key for key in needed if key not in row]
    if missing:
        return f"no value for {', '.join(missing)}"
    return "an empty label" if "label" in needed and not row["label"].strip() else ""


def skip_bad(path, found, needed, max_bad_rows, on_bad):
    """Yield the good rows and skip up to `max_bad_rows` bad ones; see read_rows.

    Args:
        path: str or path, for messages.
        found: iterable of (line number, row, reason why it is bad or "").
        needed: tuple of str, the required columns, for the error.
        max_bad_rows, on_bad: see read_rows.

    Raises:
        DataError: one bad row more than allowed.
    """
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
        lines: Lines of a .jsonl, of a .tsv or .csv with a header (see `tables`), or of a .txt (one text per line).
        needed: tuple of the columns that each row must have; text, text_pair and label are read, others are ignored.
        max_bad_rows: int, skip up to this many bad rows.
        on_bad: callable of a message for each skipped row, or None.

    Yields:
        dict of str: text, text_pair and label, as far as the row has them; a label that is a whole number becomes str.
        Blank lines of a .jsonl, .tsv or .csv are skipped.

    Raises:
        ConfigError: an unsupported file ending, or labels needed from a .txt.
        DataError: more bad rows than allowed, with file, line and reason.
        FileNotFoundError, OSError: the file cannot be read.
    """
    path = lines.path
    if ending_of(path) == ".txt" and "label" in needed:
        raise ConfigError(f"{path}: allowed for labelled texts are .jsonl, .tsv and .csv, also with .gz")
    yield from skip_bad(path, _texts(path, lines, needed), needed=needed, max_bad_rows=max_bad_rows, on_bad=on_bad)


def _texts(path, lines, needed):
    for number, record, reason in _records(lines, needed):
        row = {key: record[key] for key in FIELDS if record.get(key) is not None} if record is not None else {}
        if isinstance(row.get("label"), int):
            row["label"] = str(row["label"])
        yield number, row, reason or _problem(row, needed)


def read_documents(parts, document="paragraph"):
    """Split a text into documents, in constant memory.

    Args:
        parts: iterable of str, the text in parts of any length, such as Blocks or Lines of a .txt.
        document: "paragraph" (separated by blank lines), "line" or "file", what counts as one document.

    Yields:
        (str, bool): pieces of documents that are not blank, and whether the piece ends its document. A long document
        comes in several pieces, the last of which may be empty.

    Raises:
        ConfigError: an unknown kind of document.
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
            end -= left[end - 1:end] == "\n"  # it may start a separator
            yield left[:end], False
            left, begun = left[end:], True
    if begun or (left and not left.isspace()):
        yield left, True


def whole_documents(pieces):
    """Join the pieces of documents, (str, bool) from read_documents, and yield each document as one str."""
    held = []
    for text, ends in pieces:
        held.append(text)
        if ends:
            yield "".join(held)
            held = []
