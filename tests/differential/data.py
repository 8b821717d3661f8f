"""Random .csv, .tsv and .jsonl files, intact and damaged, compared with Python's csv and json modules."""
import csv
import io
import json
import pathlib
import re
import tempfile

import numpy as np

from tfzoo.data.readers import Lines, read_rows
from tfzoo.errors import DataError

PARTS = ["a", "word", " ", "  ", "\u00fc", "\u4e2d\u6587", "\U0001f600", ",", ";", "\t", '"', '""', "'", "\n", "\r\n",
         "\r", "\u2028", "\x85", "\x0b", "\x00", "\\", "\\n", "#", "=1", "\ufeff", "null", "1.0", "{}"]
ENDS = ["\n", "\r\n", "\r"]
DAMAGE = [b'"', b'""', b",", b"\n", b"\n\n", b"\r", b"\t", b"\\", b"\xff", b"}", b"[", b"\x00", b'"label": "x", ']


def check(reference_python, count, seed):
    """Compare `read_rows` with Python's own modules on the same bytes.

    Args:
        reference_python: unused, but required by other comparisons.
        count: int, the number of files of each kind.
        seed: int.

    Returns:
        List of str, one for each file that is read differently.
    """
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            for kind in (_csv, _tsv, _plain_tsv, _jsonl):
                rng = np.random.default_rng([seed, number, *kind.__name__.encode()])
                ending, content, expected = kind(rng)
                path = pathlib.Path(folder) / f"data{ending}"
                path.write_bytes(content)
                found = _read(path)
                if found != expected:
                    findings.append(f"{kind.__name__[1:]} {number} of seed {seed}: {content[:300]!r} gives "
                                    f"{str(found)[:300]}, expected {str(expected)[:300]}")
    return findings


def _read(path):
    # Return the rows, or "refused".
    try:
        return [(row["text"], row["label"]) for row in read_rows(Lines(path))]
    except DataError as error:
        return "refused" if str(error).isprintable() else f"{str(error)!r} has more than one line"


def _rows(rng, without=()):
    parts = [part for part in PARTS if not any(letter in part for letter in without)]
    long = "x" * 140000 if rng.random() < 0.1 else ""  # longer than csv.field_size_limit
    return [("".join(rng.choice(parts, rng.integers(0, 8))) + long,
             str(rng.choice(["x", "1", "01", "ja", '"y"', "True"]))) for _ in range(rng.integers(1, 8))]


def _damaged(content, rng):
    # Insert or remove something in half of the cases.
    if rng.random() < 0.5:
        return content
    place = int(rng.integers(len(content) + 1))
    kept = content[place + int(rng.integers(0, 4)):] if rng.random() < 0.5 else content[place:]
    return content[:place] + DAMAGE[rng.integers(len(DAMAGE))] + kept


def _written(rng, rows, delimiter, end):
    file, columns = io.StringIO(newline=""), list(rng.permutation(["id", "text", "label"]))
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end,
                        quoting=[csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC][rng.integers(3)])
    writer.writerow(columns)
    for number, (text, label) in enumerate(rows):
        values = {"id": number, "text": text, "label": label}
        writer.writerow([values[column] for column in columns])
        if rng.random() < 0.1:
            file.write("\n")
    mark = "\ufeff" if rng.random() < 0.3 else ""
    return (mark + file.getvalue()).encode("utf-8")


def _csv(rng):
    content = _damaged(_written(rng, _rows(rng), ",", end=str(rng.choice(ENDS))), rng)
    text = content.decode("utf-8", "replace").removeprefix("\ufeff")
    limit = csv.field_size_limit(2 ** 31 - 1)
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:
        return ".csv", content, "refused"
    finally:
        csv.field_size_limit(limit)
    places = [header.index(name) for name in ("text", "label") if header.count(name) == 1]
    if len(places) < 2 or any(len(row) != len(header) or not row[places[1]].strip() for row in rows):
        return ".csv", content, "refused"
    return ".csv", content, [tuple(row[place] for place in places) for row in rows]


def _tsv(rng):
    # A line break followed by a tab in a quoted field looks like two rows with quotes in their texts.
    rows, end = _rows(rng, without="\t" if rng.random() < 0.5 else "\r\n"), str(rng.choice(ENDS))
    rows = [(re.sub("\r\n|\r|\n", end, text), label) for text, label in rows]  # csv.writer quotes only these
    return ".tsv", _written(rng, rows, "\t", end=end), rows


def _plain_tsv(rng):
    rows = [(text.strip('"'), label) for text, label in _rows(rng, without="\t\r\n")]
    rows = [(rng.choice(['"', "", '"" ']) + text, label.strip('"')) for text, label in rows]
    content = "label\ttext\n" + "".join(f"{label}\t{text}\n" for text, label in rows)
    return ".tsv", content.encode("utf-8"), rows


def _jsonl(rng):
    lines = [json.dumps({"text": text, "label": label, "id": 1.5, "more": [{}]}, ensure_ascii=bool(rng.integers(2)))
             for text, label in _rows(rng)]
    content = _damaged(str(rng.choice(["\n", "\r\n", "\n\n", "\n \n"])).join(lines).encode("utf-8"), rng)
    found = []
    try:
        for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
            if line.strip():
                pairs = json.loads(line.decode("utf-8", "replace"), object_pairs_hook=lambda pairs: pairs)
                record = dict(pairs)
                if len(record) < len(pairs) or not isinstance(record["text"], str) or not record["label"].strip():
                    return ".jsonl", content, "refused"
                found.append((record["text"], record["label"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ".jsonl", content, "refused"
    return ".jsonl", content, found
