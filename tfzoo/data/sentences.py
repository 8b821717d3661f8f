"""Indexed sources of sentences that are split into words, with a tag for each word."""
import collections
import sys

import numpy as np

from tfzoo.data.readers import Lines, read_sentences
from tfzoo.data.source import Source
from tfzoo.errors import DataError
from tfzoo.records.tags import are_entities, labels_of, to_scheme


class Sentences(Source):
    """In-memory sentences that support `len` and indexing.

    Args:
        name: str, the origin of the data.
        columns: dict with the keys `tokens` and, optionally, `tags` (each a list of N lists of str; entity tags must be
            IOB2 or IO) and `document` (a list of N int).
        replaced, skipped: see Source.

    Raises:
        DataError: if there are no sentences.
    """

    @property
    def texts(self):
        """Return the sentences with their words joined by spaces: tuple of one list of N str."""
        return ([" ".join(tokens) for tokens in self.columns["tokens"]],)

    def all_pieces(self):
        return ((text, True) for text in self.texts[0])

    @property
    def characters(self):
        """Return the total number of characters of the words."""
        return sum(len(token) for tokens in self.columns["tokens"] for token in tokens)

    @property
    def words(self):
        """Return the total number of words of the sentences."""
        return sum(map(len, self.columns["tokens"]))

    def labels(self):
        """Return the labels for training: list of str, see `records.tags.labels_of`."""
        return labels_of(_tags_in(self.columns))

    def label_ids(self, labels):
        """Return the index of each word's tag in a list of labels.

        Args:
            labels: list of str.

        Returns:
            List of N arrays, int32 [words of the sentence].

        Raises:
            DataError: if a tag is not in `labels`.
        """
        index = {label: number for number, label in enumerate(labels)}
        unknown = collections.Counter(tag for tags in self.columns["tags"] for tag in tags if tag not in index)
        if unknown:
            tag, count = unknown.most_common(1)[0]
            row = next(number for number, tags in enumerate(self.columns["tags"], 1) if tag in tags)
            raise DataError(f"{self.name}: unknown tag {tag!r} on {count} words (first: sentence {row}); "
                            f"expected one of {', '.join(labels[:20])}{' ...' if len(labels) > 20 else ''}")
        return [np.array([index[tag] for tag in tags], np.int32) for tags in self.columns["tags"]]


def _tags_in(columns):
    return {tag for tags in columns["tags"] for tag in tags}


def read_sentence_files(paths, columns, max_bad_rows=0):
    """Read files of sentences into a single source.

    Args:
        paths: list of the paths of one or more files.
        columns: tuple of str, ("tokens", "tags") or ("tokens",).
        max_bad_rows: int, the number of bad sentences in all files to skip before an error is raised.

    Returns:
        Sentences. Entity tags of any scheme are converted to IOB2 or IO. If the files mark documents, the column
        document numbers them from 1.

    Raises:
        DataError: if there are no sentences, entity tags are mixed with other tags, or `read_sentences` raises it.
        ConfigError, OSError: if `read_sentences` raises it.
    """
    found, bad = {key: [] for key in (*columns, "document")}, []
    replaced, documents = 0, 0  # `documents` counts those of the previous files
    for path in paths:
        lines, document = Lines(path), 0
        for row in read_sentences(lines, columns, max_bad_rows=max_bad_rows - len(bad), on_bad=bad.append):
            document = row["document"]
            for key in columns:
                found[key].append([sys.intern(value) for value in row[key]])  # equal strings share memory
            found["document"].append(documents + document)
        replaced, documents = replaced + lines.replaced, documents + document
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if not documents:
        del found["document"]
    if "tags" in columns:
        try:
            if are_entities(_tags_in(found)):
                labels = labels_of(_tags_in(found))
                found["tags"] = [to_scheme(tags, labels) for tags in found["tags"]]
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
    return Sentences(name, found, replaced=replaced, skipped=len(bad))
