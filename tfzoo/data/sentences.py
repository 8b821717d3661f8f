"""Indexed sources of sentences that are split into words, with a tag for each word."""
import collections
import sys

import numpy as np

from tfzoo.data.readers import Schema
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

    @classmethod
    def of_rows(cls, name, rows, **counts):
        """Make a source from rows (see `Source.of_rows`); entity tags of any scheme are converted to IOB2 or IO.

        Raises:
            DataError: if entity tags are mixed with other tags, or `Source.of_rows` raises it.
        """
        source = super().of_rows(name, rows, **counts)
        for key in ("tokens", "tags"):  # equal strings share memory
            if key in source.columns:
                source.columns[key] = [[sys.intern(value) for value in values] for values in source.columns[key]]
        try:
            if "tags" in source.columns and are_entities(_tags_in(source.columns)):
                labels = source.labels()
                source.columns["tags"] = [to_scheme(tags, labels) for tags in source.columns["tags"]]
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        return source

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


def _check(row, tagged):
    if not tagged:
        if "tokens" in row:
            row.pop("text", None)
        return "" if "tokens" in row or "text" in row else "no value for tokens or text"
    row.pop("text", None)
    missing = [name for name in ("tokens", "tags") if name not in row]
    if missing:
        return f"no value for {' and '.join(missing)}"
    if len(row["tokens"]) != len(row["tags"]):
        return f"{len(row['tokens'])} tokens and {len(row['tags'])} tags"
    return "" if all(tag.strip() for tag in row["tags"]) else "an empty tag"


SENTENCES = Schema(inputs=(), optional=("tokens", "text", "document"), optional_targets=("tags",), check=_check,
                   endings=(".conll", ".jsonl"), needs=("tokens or text", "tokens and tags"), source=Sentences)
