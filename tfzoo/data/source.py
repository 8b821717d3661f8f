"""A data set as an indexed source: from files and folders, from TFDS, or from the installed Python."""
import collections
import functools
import hashlib
import json
import re

import numpy as np

from tfzoo.data.plan import split_rows
from tfzoo.data.readers import ENDINGS, SENTENCE_ENDINGS, Lines, read_rows
from tfzoo.data.splits import EVAL, TRAIN, files_of
from tfzoo.data.text_files import TextFiles
from tfzoo.errors import ConfigError, DataError
from tfzoo.files import local_path
from tfzoo.progress import tell

SHOWN = 8  # file names listed in a message
_WHOLE = re.compile(r"-?\d{1,4000}")  # within the digits that `int` accepts


class Source:
    """Hold the examples of a data set in memory: a length, and an item by index.

    Args:
        name: str, the origin of the data.
        columns: dict of column (text and, optionally, text_pair and label) to list of N str; see Sentences for tagging.
        replaced: int, the number of U+FFFD inserted for invalid UTF-8.
        skipped: int, the number of bad rows skipped.

    Raises:
        DataError: no examples.
    """

    raw_bytes = rows = None  # see TextFiles
    numbers = None  # indices of the examples in the data set this was split from, int [N]; None if it is the whole

    def __init__(self, name, columns, replaced=0, skipped=0):
        self.name, self.columns = name, columns
        if not len(self):
            raise DataError(f"{name}: no examples; at least one is needed")
        self.replaced, self.skipped = replaced, skipped

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index):
        return {key: values[index] for key, values in self.columns.items()}

    @property
    def texts(self):
        """Return the text columns: a tuple of one or two lists of N str."""
        return tuple(self.columns[key] for key in ("text", "text_pair") if key in self.columns)

    def passages(self):
        """Yield the texts to learn a vocabulary from."""
        return (text for texts in self.texts for text in texts)

    def all_pieces(self):
        """Yield (str, True) for each text, as TextFiles does."""
        return ((text, True) for text in self.columns["text"])

    @property
    def characters(self):
        """Return the number of characters of all texts (without text_pair)."""
        return sum(map(len, self.columns["text"]))

    @property
    def content(self):
        """Return the hash that identifies the texts, as TextFiles does."""
        return self.fingerprint

    def verify(self):
        """Do nothing, as data in memory does not change; see TextFiles."""

    @functools.cached_property
    def fingerprint(self):
        """Return the SHA-256 of all examples in order, as hex."""
        digest = hashlib.sha256()
        for key, values in sorted(self.columns.items()):
            digest.update(json.dumps([key, len(values)]).encode())
            for value in values:
                data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()
                digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    def labels(self):
        """Return the distinct labels, sorted (by value if all are whole numbers): list of str."""
        found = sorted(set(self.columns["label"]))  # first as text, so that 1 and 01 have a fixed order
        return sorted(found, key=int) if all(_WHOLE.fullmatch(label) for label in found) else found

    def label_ids(self, labels):
        """Return the index of each example's label.

        Args:
            labels: list of str.

        Returns:
            int32 [N].

        Raises:
            DataError: a label is not in `labels`.
        """
        index = {label: number for number, label in enumerate(labels)}
        unknown = collections.Counter(label for label in self.columns["label"] if label not in index)
        if unknown:
            label, count = unknown.most_common(1)[0]
            row = self.columns["label"].index(label)
            raise DataError(f"{self.name}: label {label!r} of {count} examples (first: number {row + 1}) is unknown; "
                            f"allowed are {', '.join(labels[:20])}{' ...' if len(labels) > 20 else ''}")
        return np.array([index[label] for label in self.columns["label"]], np.int32)

    def take(self, rows, name=None):
        """Return a source of some rows.

        Args:
            rows: int array, row indices in any order.
            name: str, of the new source; None keeps the name.
        """
        columns = {key: [values[row] for row in rows] for key, values in self.columns.items()}
        part = type(self)(name or self.name, columns, replaced=self.replaced, skipped=self.skipped)
        part.numbers = np.asarray(rows) if self.numbers is None else self.numbers[rows]
        return part

    def split(self, fraction, seed):
        """Split into (training, evaluation) at random, see `split_rows`; ConfigError if one would be empty."""
        train, evaluation = split_rows(len(self), fraction, seed)
        return self.take(train), self.take(evaluation, f"{self.name} (evaluation share)")


def _from_rows(name, rows, **counts):
    rows = list(rows)
    if not rows:
        raise DataError(f"{name}: no examples; at least one is needed")
    keys = [key for key in ("text", "text_pair", "label") if any(key in row for row in rows)]
    if "text_pair" in keys and not all("text_pair" in row for row in rows):
        bare = next(number for number, row in enumerate(rows, 1) if "text_pair" not in row)
        raise DataError(f"{name}: example {bare} has no text_pair but others have one; allowed is all or none")
    keys = [key for key in keys if all(key in row for row in rows)]
    return Source(name, {key: [row[key] for row in rows] for key in keys}, **counts)


def read_files(paths, columns, max_bad_rows=0):
    """Read data files into one source.

    Args:
        paths: list of paths of one or more files.
        columns: tuple of the required columns, such as ("text", "label").
        max_bad_rows: int, skip up to this many bad rows over all files.

    Returns:
        Source.

    Raises:
        DataError: no examples, or text_pair in only some examples.
        Also as read_rows.
    """
    rows, replaced, bad = [], 0, []
    for path in paths:
        lines = Lines(path)
        rows += read_rows(lines, columns, max_bad_rows=max_bad_rows - len(bad), on_bad=bad.append)
        replaced += lines.replaced
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    return _from_rows(name, rows, replaced=replaced, skipped=len(bad))


def open_source(spec, columns=("text", "label"), split="train", document="paragraph", max_bad_rows=0,
                allow_download=False):
    """Open a data set.

    Args:
        spec: str or path: a file; a folder (see `splits.files_of`; files that are not read are reported); tfds:NAME; or
            builtin:NAME.
        columns: tuple of the required columns: ("text",) or ("text", "label"); for tagging ("tokens", "tags") or
            ("tokens",), from files and folders only.
        split: "train" or "eval".
        document, max_bad_rows: see TextFiles.
        allow_download: bool, tfds:NAME may use the network.

    Returns:
        TextFiles for columns ("text",) of a file or folder, Sentences for tokens, else Source; None if split is "eval"
        and a folder or tfds:NAME has no evaluation part. A file is the same for both splits.

    Raises:
        FileNotFoundError: there is no such data.
        ConfigError, DataError: see the readers.
    """
    spec = spec if isinstance(spec, str) else str(local_path(spec, "the data"))
    stems = TRAIN if split == "train" else EVAL
    endings = SENTENCE_ENDINGS if "tokens" in columns else ENDINGS
    if "tokens" in columns and spec.startswith(("builtin:", "tfds:")):
        raise ConfigError(f"{spec} has no {' and '.join(columns)}: allowed are files ending in {' '.join(endings)}, "
                          "also with .gz, or a folder of them")
    if spec.startswith("builtin:"):
        from tfzoo.data.builtin import read_builtin
        return _from_rows(spec, read_builtin(spec.removeprefix("builtin:"), columns, split))
    if spec.startswith("tfds:"):
        from tfzoo.data.tfds import read_tfds
        bad = []
        rows = read_tfds(spec.removeprefix("tfds:"), columns, splits=stems, allow_download=allow_download,
                         max_bad_rows=max_bad_rows, on_bad=bad.append)
        return None if rows is None else _from_rows(spec, rows, skipped=len(bad))
    path = local_path(spec, "the data")
    if not path.exists():
        raise FileNotFoundError(f"no data at {spec}: allowed are a file ({' '.join(endings)}, also with .gz), a "
                                "folder of them, builtin:NAME and tfds:NAME")
    files, left = files_of(path, stems, endings) if path.is_dir() else ([path], [])
    if not files and split == "eval":
        return None
    more = f"{', '.join(left[:SHOWN])}{f' and {len(left) - SHOWN} more' if len(left) > SHOWN else ''}"
    if not files:
        raise DataError(f"{spec}: no data files{f' for training (there are {more})' if left else ''}; needed are files "
                        f"ending in {' '.join(endings)}, also with .gz, whose names mention no evaluation split")
    if left and split == "train":
        tell(f"{spec}: not read: {more}")
    if "tokens" in columns:
        from tfzoo.data.sentences import read_sentence_files
        return read_sentence_files(files, columns, max_bad_rows)
    if columns == ("text",):
        return TextFiles(files, document, max_bad_rows)
    return read_files(files, columns, max_bad_rows)


def has_own_eval(spec):
    """Return whether a data set may have an evaluation part of its own: a folder, tfds:NAME or builtin:NAME."""
    return spec.startswith(("builtin:", "tfds:")) or local_path(spec).is_dir()
