"""Readers by ending: labelled texts from .jsonl .tsv .csv, plain text from .txt and .jsonl, and .gz of each."""
import csv
import gzip
import io
import json
import pathlib
import re
import zlib

from tfzoo.errors import ConfigError, DataError

ENDINGS = (".jsonl", ".tsv", ".csv", ".txt")
DOCUMENTS = ("paragraph", "line", "file")
FIELDS = ("text", "text_pair", "label")


def ending_of(path):
    """Return the ending of a data file without .gz, or raise ConfigError."""
    ending = pathlib.Path(str(path).removesuffix(".gz")).suffix
    if ending not in ENDINGS:
        raise ConfigError(f"{path}: allowed are files ending in {' '.join(ENDINGS)}, or those with .gz")
    return ending


def read_text(path):
    """Return a file's text, decompressed, invalid UTF-8 replaced by U+FFFD; raises DataError for a damaged .gz."""
    raw = pathlib.Path(path).read_bytes()
    if str(path).endswith(".gz"):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: not a whole gzip file ({error}); get it again") from None
    return raw.decode("utf-8", "replace")


def _records(path, text):
    """Yield (line number, dict or None, reason) of a .jsonl, .tsv or .csv."""
    ending = ending_of(path)
    if ending == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                yield number, None, f"bad JSON ({error})"
                continue
            yield number, *((record, "") if isinstance(record, dict) else (None, "not a JSON object"))
        return
    if ending == ".tsv":
        lines = [line.rstrip("\r").split("\t") for line in text.removesuffix("\n").split("\n")]
        rows = enumerate(lines, 1)
    else:
        csv.field_size_limit(2 ** 31 - 1)
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = ((reader.line_num, row) for row in reader)
    header = next(rows, (1, []))[1]
    for number, row in rows:
        if len(row) != len(header):
            yield number, None, f"{len(row)} columns, the header has {len(header)}"
        else:
            yield number, dict(zip(header, row)), ""


def read_labelled(path, max_bad_rows=0):
    """Read labelled texts.

    Args:
        path: .jsonl, or .tsv (no quoting) or .csv with a header; columns text, label and optionally text_pair.
        max_bad_rows: int, so many bad rows are skipped.

    Returns:
        (list of dict of str, count of skipped rows).

    Raises:
        ConfigError: for another ending.
        DataError: for one bad row more, with file, line and reason, and for a file without rows.
        FileNotFoundError, OSError: where the file cannot be read.
    """
    if ending_of(path) == ".txt":
        raise ConfigError(f"{path}: allowed for labelled texts are .jsonl, .tsv and .csv, or those with .gz")
    rows, skipped = [], 0
    for number, record, reason in _records(path, read_text(path)):
        row = {key: record[key] for key in FIELDS if key in record} if record is not None else {}
        if record is not None:
            if isinstance(row.get("label"), int):
                row["label"] = str(row["label"])
            missing = [key for key in ("text", "label") if not isinstance(row.get(key), str)]
            if missing or not isinstance(row.get("text_pair", ""), str):
                reason = f"no string in {', '.join(missing) or 'text_pair'}"
        if not reason:
            rows.append(row)
            continue
        skipped += 1
        if skipped > max_bad_rows:
            raise DataError(f"{path} line {number}: {reason}; needed are text and label; mend it or raise max_bad_rows")
    if not rows:
        raise DataError(f"{path}: no examples; needed is one or more")
    return rows, skipped


def read_documents(path, document="paragraph"):
    """Read plain text.

    Args:
        path: .txt, or .jsonl with a text in each line.
        document: what is one document of a .txt: "paragraph" (between blank lines), "line" or "file".

    Returns:
        List of str without empty ones.

    Raises:
        ConfigError: for another ending or document. DataError: for a bad line or where there is no text.
    """
    if document not in DOCUMENTS:
        raise ConfigError(f"document is {document!r}: allowed are {', '.join(DOCUMENTS)}")
    text = read_text(path)
    if ending_of(path) == ".txt":
        parts = {"file": lambda: [text], "line": lambda: text.split("\n"),
                 "paragraph": lambda: re.split(r"\n[ \t\r]*\n", text)}[document]()
    elif ending_of(path) == ".jsonl":
        parts = []
        for number, record, reason in _records(path, text):
            if reason or not isinstance(record.get("text"), str):
                raise DataError(f"{path} line {number}: {reason or 'no string in text'}; needed is text")
            parts.append(record["text"])
    else:
        raise ConfigError(f"{path}: allowed for plain text are .txt and .jsonl, or those with .gz")
    documents = [part for part in parts if part.strip()]
    if not documents:
        raise DataError(f"{path}: no text; needed is one character or more")
    return documents
