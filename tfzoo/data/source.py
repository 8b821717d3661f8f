"""Data sets with access by index, read from files and folders, TFDS, or the installed Python."""
import collections
import functools
import hashlib
import json
import re

import numpy as np

from tfzoo.data.plan import split_rows
from tfzoo.data.readers import LABELLED, Lines, read_rows
from tfzoo.data.splits import EVAL, TEST, TRAIN, files_of
from tfzoo.data.text_files import TextFiles
from tfzoo.errors import DataError
from tfzoo.files import local_path
from tfzoo.progress import tell

SHOWN = 8  # the maximum number of file names listed in a message
_WHOLE = re.compile(r"-?\d{1,4000}")  # within the number of digits that `int` accepts


def sorted_labels(labels):
    """Return the distinct ones of an iterable of labels, sorted (numerically if all are integers): list of str."""
    found = sorted(set(labels))  # sort as text first, so that 1 and 01 have a fixed order
    return sorted(found, key=int) if all(_WHOLE.fullmatch(label) for label in found) else found


def index_of(labels, rows, name, message="unknown label {!r} in {} examples (first: example {}); expected one of"):
    """Return the index of each label: dict of str to int.

    Args:
        labels: list of str.
        rows: list of collections of str, the labels that each row has.
        name: str, the name of the data.
        message: str, about an unknown label, the number of its occurrences, and the number of the first such row.

    Raises:
        DataError: if a row has a label that is not in `labels`.
    """
    index = {label: number for number, label in enumerate(labels)}
    unknown = collections.Counter(label for row in rows for label in row if label not in index)
    if unknown:
        label, count = unknown.most_common(1)[0]
        first = next(number for number, row in enumerate(rows, 1) if label in row)
        raise DataError(f"{name}: {message.format(label, count, first)} {', '.join(labels[:20])}"
                        f"{' ...' if len(labels) > 20 else ''}")
    return index


class Source:
    """In-memory examples of a data set that support `len` and indexing.

    Args:
        name: str, the origin of the data.
        columns: dict of column (see `readers.schema.COLUMNS`) to list of N values. `document` numbers documents from 1;
            0 is for examples outside documents.
        replaced: int, the number of U+FFFD characters that replace invalid UTF-8.
        skipped: int, the number of bad rows skipped.

    Raises:
        DataError: if there are no examples.
    """

    raw_bytes = rows = None  # these only apply to TextFiles
    numbers = None  # int [N], the indices of the examples in the original data set; None if this is the original

    def __init__(self, name, columns, replaced=0, skipped=0):
        self.name, self.columns = name, columns
        if not len(self):
            raise DataError(f"{name}: no examples; at least one is required")
        self.replaced, self.skipped = replaced, skipped

    @classmethod
    def of_rows(cls, name, rows, **counts):
        """Make a source from rows.

        Args:
            name, counts: see the class.
            rows: list of dict of column to value.

        Raises:
            DataError: if there are no rows, or only some of them have a column.
        """
        keys = dict.fromkeys(key for row in rows for key in row)
        for key in keys:
            bare = next((number for number, row in enumerate(rows, 1) if key not in row), None)
            if bare is not None and key != "document":
                raise DataError(f"{name}: example {bare} has no {key}, but others do: all examples or none must have "
                                "one")
        return cls(name, {key: [row.get(key, 0) for row in rows] for key in keys}, **counts)

    def __len__(self):
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, index):
        return {key: values[index] for key, values in self.columns.items()}

    @property
    def texts(self):
        """Return the text columns: tuple of one or two lists of N str."""
        return tuple(self.columns[key] for key in ("text", "text_pair") if key in self.columns)

    def passages(self):
        """Return an iterator over the texts (str) from which to learn a vocabulary."""
        texts = self.texts or [self.columns[key] for key in ("source", "target") if key in self.columns]
        return (text for column in texts for text in column)

    def all_pieces(self):
        """Return an iterator that yields (text, True) for each text, in the format of `TextFiles.all_pieces`."""
        return ((text, True) for text in self.columns["text"])

    @property
    def characters(self):
        """Return the total number of characters in the `text` column."""
        return sum(map(len, self.columns["text"]))

    @property
    def content(self):
        """Return a hash that identifies the texts, like `TextFiles.content`."""
        return self.fingerprint

    def verify(self):
        """Do nothing: unlike the files that `TextFiles.verify` checks, data in memory does not change."""

    @functools.cached_property
    def fingerprint(self):
        """Return the hexadecimal SHA-256 of all examples in order."""
        digest = hashlib.sha256()
        for key, values in sorted(self.columns.items()):
            digest.update(json.dumps([key, len(values)]).encode())
            for value in values:
                data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()
                digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    def labels(self):
        """Return the distinct labels, sorted (numerically if all are integers): list of str."""
        return sorted_labels(self.columns["label"])

    def label_ids(self, labels):
        """Return the index of each example's label in a list of labels.

        Args:
            labels: list of str.

        Returns:
            int32 [N].

        Raises:
            DataError: if a label is not in `labels`.
        """
        index = index_of(labels, list(zip(self.columns["label"])), self.name)
        return np.array([index[label] for label in self.columns["label"]], np.int32)

    def take(self, rows, name=None):
        """Return a new source that contains only the selected rows.

        Args:
            rows: int array, row indices in any order.
            name: str, the name of the new source; None keeps the current name.
        """
        columns = {key: [values[row] for row in rows] for key, values in self.columns.items()}
        part = type(self)(name or self.name, columns, replaced=self.replaced, skipped=self.skipped)
        part.numbers = np.asarray(rows) if self.numbers is None else self.numbers[rows]
        return part

    def split(self, fraction, seed):
        """Split the examples at random with `split_rows` and return two sources, (training, evaluation).

        Raises:
            ConfigError: if one of the parts would be empty.
        """
        train, evaluation = split_rows(len(self), fraction, seed)
        return self.take(train), self.take(evaluation, f"{self.name} (evaluation share)")


def read_files(paths, schema=LABELLED, max_bad_rows=0):
    """Read data files into a single source.

    Args:
        paths: list of str or path, one or more files.
        schema: Schema, the columns to read.
        max_bad_rows: int, the total number of bad rows to skip before an error is raised.

    Returns:
        Source, or the schema's own class.

    Raises:
        DataError: if there are no examples, or `Source.of_rows` or `read_rows` raises it.
        ConfigError, OSError: if `read_rows` raises it.
    """
    rows, replaced, bad, documents = [], 0, [], {}
    for path in paths:
        lines = Lines(path)
        for row in read_rows(lines, schema, max_bad_rows=max_bad_rows - len(bad), on_bad=bad.append):
            if "document" in row:
                row["document"] = documents.setdefault((path, row["document"]), len(documents) + 1)
            rows.append(row)
        replaced += lines.replaced
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    return (schema.source or Source).of_rows(name, rows, replaced=replaced, skipped=len(bad))


def open_source(spec, schema=LABELLED, split="train", document="paragraph", max_bad_rows=0, allow_download=False):
    """Open a data set.

    Args:
        spec: str or path: a file, a folder (see `splits.files_of`), tfds:NAME or builtin:NAME. Files in the folder that
            are ignored are reported.
        schema: Schema, the columns to read.
        split: str, "train", "eval" (a test part if there is no other) or "test".
        document, max_bad_rows: see `TextFiles`.
        allow_download: bool, whether tfds:NAME may be downloaded.

    Returns:
        TextFiles if the schema is streamed and `spec` is a file or folder; otherwise Source, or the schema's own class.
        None if `split` is not "train" and the folder or tfds:NAME has no such part; builtin:NAME has no test part. A
        single file is read in full for any split.

    Raises:
        FileNotFoundError: if the data does not exist.
        ConfigError, DataError: if a reader raises it.
    """
    spec = spec if isinstance(spec, str) else str(local_path(spec, "the data"))
    stems, kind = {"train": TRAIN, "eval": EVAL, "test": TEST}[split], schema.source or Source
    if spec.startswith("builtin:"):
        if split == "test":
            return None
        from tfzoo.data.builtin import read_builtin
        return kind.of_rows(spec, read_builtin(spec.removeprefix("builtin:"), schema, split))
    if spec.startswith("tfds:"):
        from tfzoo.data.tfds import read_tfds
        bad = []
        rows = read_tfds(spec.removeprefix("tfds:"), schema, splits=stems, allow_download=allow_download,
                         max_bad_rows=max_bad_rows, on_bad=bad.append)
        return None if rows is None else kind.of_rows(spec, rows, skipped=len(bad))
    path, endings = local_path(spec, "the data"), schema.allowed()
    if not path.exists():
        raise FileNotFoundError(f"no data at {spec}: expected a file ({' '.join(endings)}, optionally with .gz), a "
                                "folder of such files, builtin:NAME or tfds:NAME")
    files, left = files_of(path, stems, endings) if path.is_dir() else ([path], [])
    if not files and split != "train":
        return None
    more = f"{', '.join(left[:SHOWN])}{f' and {len(left) - SHOWN} more' if len(left) > SHOWN else ''}"
    if not files:
        raise DataError(f"{spec}: no data files{f' for training (only {more})' if left else ''}; expected files ending "
                        f"in {' '.join(endings)}, optionally with .gz, whose names do not mention an evaluation split")
    if left and split == "train":
        tell(f"{spec}: not used for training or evaluation: {more}")
    return TextFiles(files, document, max_bad_rows) if schema.streamed else read_files(files, schema, max_bad_rows)


def has_own_eval(spec):
    """Return whether a data set may have its own evaluation part, which is true of everything except single files."""
    return spec.startswith(("builtin:", "tfds:")) or local_path(spec).is_dir()
