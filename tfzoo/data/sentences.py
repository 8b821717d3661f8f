"""Sentences split into words, with a tag for each word, as an indexed source."""
import collections
import sys

import numpy as np

from tfzoo.data.readers import Lines, read_sentences
from tfzoo.data.source import Source
from tfzoo.errors import DataError
from tfzoo.records.tags import are_entities, labels_of, to_scheme


class Sentences(Source):
    """Hold sentences in memory: a length, and an item by index.

    Args:
        name: str, the origin of the data.
        columns: dict of tokens and, optionally, tags (lists of N lists of str; entity tags in IOB2 or IO) and document
            (list of N int).
        replaced, skipped: see Source.

    Raises:
        DataError: no sentences.
    """

    @property
    def texts(self):
        """Return the sentences with their words joined by spaces: a tuple of one list of N str."""
        return ([" ".join(tokens) for tokens in self.columns["tokens"]],)

    def all_pieces(self):
        return ((text, True) for text in self.texts[0])

    @property
    def characters(self):
        """Return the number of characters of all words."""
        return sum(len(token) for tokens in self.columns["tokens"] for token in tokens)

    @property
    def words(self):
        """Return the number of words of all sentences."""
        return sum(map(len, self.columns["tokens"]))

    def labels(self):
        """Return the labels to train with: list of str, see `records.tags.labels_of`."""
        return labels_of(_tags_in(self.columns))

    def label_ids(self, labels):
        """Return the index of each word's tag.

        Args:
            labels: list of str.

        Returns:
            List of N int32 [words of the sentence].

        Raises:
            DataError: a tag is not in `labels`.
        """
        index = {label: number for number, label in enumerate(labels)}
        unknown = collections.Counter(tag for tags in self.columns["tags"] for tag in tags if tag not in index)
        if unknown:
            tag, count = unknown.most_common(1)[0]
            row = next(number for number, tags in enumerate(self.columns["tags"], 1) if tag in tags)
            raise DataError(f"{self.name}: tag {tag!r} of {count} words (first: sentence {row}) is unknown; "
                            f"allowed are {', '.join(labels[:20])}{' ...' if len(labels) > 20 else ''}")
        return [np.array([index[tag] for tag in tags], np.int32) for tags in self.columns["tags"]]


def _tags_in(columns):
    return {tag for tags in columns["tags"] for tag in tags}


def read_sentence_files(paths, columns, max_bad_rows=0):
    """Read files of sentences into one source.

    Args:
        paths: list of paths of one or more files.
        columns: ("tokens", "tags") or ("tokens",).
        max_bad_rows: int, skip up to this many bad sentences over all files.

    Returns:
        Sentences. Entity tags are converted to IOB2 or IO whatever their scheme; if the files mark documents, the
        column document numbers them from 1.

    Raises:
        DataError: no sentences, or a tag that is not an entity tag among entity tags.
        Also as read_sentences.
    """
    found, bad = {key: [] for key in (*columns, "document")}, []
    replaced, documents = 0, 0  # documents: those of the previous files
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
