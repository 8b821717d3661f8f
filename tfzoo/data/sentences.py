"""Indexed sources of sentences that are split into words, with a tag for each word."""
import itertools
import sys

import numpy as np

from tfzoo.data.readers import Schema
from tfzoo.data.source import Source, index_of
from tfzoo.errors import DataError, shown
from tfzoo.records.tags import are_entities, labels_of, tags_of, to_scheme
from tfzoo.records.words import find_words
from tfzoo.text import split_words


class Sentences(Source):
    """In-memory sentences that support `len` and indexing.

    Args:
        name: str, the origin of the data.
        columns: dict with the keys `tokens` and, optionally, `tags` (each a list of N lists of str; entity tags must be
            IOB2 or IO), `document` and `predicate` (lists of N int; a predicate is the index of a word), `text` and
            `offsets` (the raw texts and the places of the words in them, see `located`), and `widened` (the number of
            entities in each sentence that did not end at the edges of words).
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
        if any("widened" in row for row in rows):
            rows = [{**row, "widened": row.get("widened", 0)} for row in rows]
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

    def passages(self):
        return iter(self.texts[0])

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
        index = index_of(labels, self.columns["tags"], self.name,
                         "unknown tag {!r} on {} words (first: sentence {}); expected one of")
        return [np.array([index[tag] for tag in tags], np.int32) for tags in self.columns["tags"]]


def _tags_in(columns):
    return {tag for tags in columns["tags"] for tag in tags}


def located(row):
    """Return what `records.words.find_words` returns for a row whose text is split by `split_words`."""
    return find_words(row, split_words)


def _check(row, tagged):
    if tagged and "entities" in row and "tokens" not in row and "text" in row and (reason := _tag(row)):
        return reason
    if tagged:
        for name in ("text", "offsets", "entities"):
            row.pop(name, None)
        missing = [name for name in ("tokens", "tags") if name not in row]
        if missing:
            return f"no value for {' and '.join(missing)}"
        if len(row["tokens"]) != len(row["tags"]):
            return f"{len(row['tokens'])} tokens and {len(row['tags'])} tags"
        if not all(tag.strip() for tag in row["tags"]):
            return "an empty tag"
    elif "tokens" not in row and "text" not in row:
        return "no value for tokens or text"
    else:
        if row.get("offsets") is None or not _fit(row):
            row.pop("offsets", None)
        row["text"], row["tokens"], row["offsets"] = located(row)
        if row["offsets"] is None:
            return "the tokens do not occur in the text in this order"
    if row.get("predicate", -1) >= len(row["tokens"]):
        return f"predicate is {row['predicate']}, but there are {len(row['tokens'])} tokens, counted from 0"
    return ""


def _fit(row):
    # Whether the offsets of a row fit its tokens and text; others come from columns that mean something else.
    return "text" in row and len(row.get("tokens", ())) == len(row["offsets"]) and all(
        0 <= start <= end <= len(row["text"]) for start, end in row["offsets"])


def _tag(row):
    # Replaces the text and entities of a row by tokens and tags, and counts the entities that were widened to whole
    # words; returns why the row is bad, or "".
    text, words, places = located({"text": row["text"]})
    starts, ends = (np.array([place[side] for place in places], int) for side in (0, 1))
    found, widened = [], 0
    for entity in row["entities"]:
        start, end, kind = (entity.get(key) for key in ("start", "end", "type"))
        if type(start) is not int or type(end) is not int or not isinstance(kind, str) or not kind.strip():
            return f"the entity {shown(entity)} must have start and end (whole numbers) and type (a string)"
        if not 0 <= start < end <= len(text):
            return f"the entity {shown(entity)} must lie within the text of {len(text)} characters and not be empty"
        first, last = int(np.searchsorted(ends, start, "right")), int(np.searchsorted(starts, end, "left"))
        if first >= last:
            return f"the entity {shown(entity)} contains no word, only {shown(text[start:end])}"
        widened += int(starts[first] < start or ends[last - 1] > end)
        found.append((kind, first, last))
    found.sort(key=lambda entity: entity[1:])
    for (_, _, before), (_, first, _) in itertools.pairwise(found):
        if first < before:
            return f"entities overlap at the word {shown(words[first])} (an entity consists of whole words)"
    row.update(tokens=words, tags=tags_of(found, len(words)), **({"widened": widened} if widened else {}))
    return ""


SENTENCES = Schema(inputs=(), optional=("tokens", "text", "offsets", "document", "predicate"),
                   optional_targets=("tags", "entities"), check=_check, endings=(".conll", ".conllu", ".jsonl"),
                   needs=("tokens or text", "tokens and tags, or text and entities"), source=Sentences)
