"""Readers for the lines and documents of files, optionally gzipped, in constant memory.

Invalid UTF-8 is replaced with U+FFFD, as in Python's `decode(errors="replace")`, and the replacements are counted. A
UTF-8 byte order mark is dropped.
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

from tfzoo.data.readers.schema import ENDINGS
from tfzoo.errors import ConfigError, DataError
from tfzoo.files import local_path, once

REPLACEMENT = "\ufffd"
BLOCK = 2 ** 14  # bytes to read at once; also the minimum number of characters in each piece of a long document
_SPLIT = {"paragraph": re.compile(r"\n[ \t\r]*\n").split, "line": lambda text: text.split("\n"),
          "file": lambda text: [text]}
DOCUMENTS = tuple(_SPLIT)
_SHARD = re.compile(r"[-_]\d+[-_]of[-_]\d+$")  # follows the extension: data.jsonl-00000-of-00002


def find_ending(path):
    """Return a data file's extension in lowercase, ignoring .gz and a shard number, or ".txt" for "-" (stdin)."""
    name = {"-": "-.txt"}.get(str(path), str(path)).lower().removesuffix(".gz")
    return pathlib.Path(_SHARD.sub("", "x" + name if name.startswith("-") else name)).suffix


def ending_of(path, allowed=ENDINGS):
    """Return the ending of a data file (see `find_ending`) after checking that it is allowed.

    Raises:
        ConfigError: if the extension is not in `allowed`.
    """
    ending = find_ending(path)
    if ending not in allowed:
        raise ConfigError(f"{path}: the name must end in {' '.join(allowed)}, optionally with .gz")
    return ending


@contextlib.contextmanager
def _opened(path):
    # Yield the decompressed stream; names that begin with "-" refer to standard input.
    try:
        if str(path).startswith("-"):
            yield sys.stdin.buffer
            return
        with (gzip.open if str(path).lower().endswith(".gz") else open)(path, "rb") as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzip file ({error}); download it again") from None


def hash_content(path):
    """Return the SHA-256 of a file's decompressed bytes, in hexadecimal."""
    with _opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Lines:
    """Iterate over the decompressed and decoded lines of a file, counting bytes and replacements.

    Args:
        path: str or path; "-" or a name such as "-.jsonl" refers to standard input.

    Attributes:
        raw_bytes: int, the number of decompressed bytes read so far, excluding a byte order mark.
        replaced: int, the number of U+FFFD characters that have replaced invalid UTF-8 so far.

    Raises:
        DataError: during iteration, if the file is UTF-16 or UTF-32 or an incomplete gzip file.
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
            raise DataError(f"{self.path} is UTF-16 or UTF-32, judging by its byte order mark: convert it to UTF-8")
        return raw.removeprefix(codecs.BOM_UTF8)

    def _parts(self, stream):
        return stream


class Blocks(Lines):
    """Iterate over the text of a file like `Lines`, but in blocks of about BLOCK bytes, regardless of line breaks."""

    def _parts(self, stream):
        left = b""
        while data := stream.read(BLOCK):
            data = left + data
            # Hold back a character that may continue in the next block, so that no character is decoded in two parts.
            begun = next((back for back in (1, 2, 3) if data[-back:][:1] >= b"\xc0"), 0)
            yield data[:len(data) - begun]
            left = data[len(data) - begun:]
        if left:
            yield left


def json_objects(lines):
    """Yield (line number, dict, "") or (line number, None, error message) for each non-blank line in a .jsonl file."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=once)
        except (ValueError, RecursionError) as error:
            yield number, None, f"bad JSON ({error})"
            continue
        yield number, *((record, "") if isinstance(record, dict) else (None, "not a JSON object"))


def skip_bad(path, found, needs, max_bad_rows, on_bad, unit="line"):
    """Yield the good rows, skipping up to `max_bad_rows` bad ones.

    Args:
        path: str or path, the file to mention in messages.
        found: iterable of (int, row, str): the line number, the row, and why the row is bad, or "" if it is not.
        needs: str, what a row must contain, for the error message.
        max_bad_rows: int, the number of bad rows to skip before an error is raised.
        on_bad: callable that receives a message (str) for each skipped row, or None.
        unit: str, what the numbers count.

    Raises:
        DataError: if there are more bad rows than allowed.
    """
    skipped = 0
    for number, row, reason in found:
        if not reason:
            yield row
            continue
        skipped += 1
        message = f"{path} {unit} {number}: {reason}"
        if skipped > max_bad_rows:
            raise DataError(f"{message}; required: {needs}; fix it or increase --max_bad_rows")
        if on_bad:
            on_bad(message)


def read_documents(parts, document="paragraph"):
    """Split a text into documents, in constant memory.

    Args:
        parts: iterable of str, the text in parts of any length, such as Blocks or Lines of a .txt file.
        document: str, what counts as a document: a "paragraph" (separated by blank lines), a "line" or the whole
            "file".

    Yields:
        (str, bool): a piece of a document, and whether it is the document's last piece. Long documents are yielded in
        several pieces, the last of which may be empty. Blank documents are skipped.

    Raises:
        ConfigError: if `document` is unknown.
    """
    if document not in DOCUMENTS:
        raise ConfigError(f"--document={document}: choose from {', '.join(DOCUMENTS)}")
    left, begun = "", False
    for part in parts:
        *whole, left = _SPLIT[document](left + part)
        for text in whole:
            if begun or (text and not text.isspace()):
                yield text, True
            begun = False
        if len(left) >= BLOCK and (begun or not left.isspace()):
            end = len(left.rstrip(" \t\r"))
            end -= left[end - 1:end] == "\n"  # the line break may begin a blank line
            yield left[:end], False
            left, begun = left[end:], True
    if begun or (left and not left.isspace()):
        yield left, True


def whole_documents(pieces):
    """Join the pieces of documents from `read_documents` and yield each document as one str."""
    held = []
    for text, ends in pieces:
        held.append(text)
        if ends:
            yield "".join(held)
            held = []
