"""Precision, recall and F1 of entities, counted as in conlleval (Tjong Kim Sang and De Meulder 2003, arXiv:cs/0306050).

An entity is correct if its type, first word and end all match. Counts are summed over all sentences (micro average).
"""
import collections

import numpy as np

from tfzoo.errors import DataError
from tfzoo.metrics.confusion import confusion_metrics


def _ratio(part, whole):
    return part / whole if whole else 0.0


def _scores(right, true, predicted):
    return {"f1": _ratio(2 * right, true + predicted), "precision": _ratio(right, predicted),
            "recall": _ratio(right, true)}


def entity_metrics(true, predicted, types=()):
    """Score predicted entities.

    Args:
        true, predicted: sequences of N collections of (type, first word, end), one collection per sentence, such as the
            lists that `records.tags.entities` returns; end is the index after the last word.
        types: iterable of str, types to report even if they do not occur.

    Returns:
        dict of float: `f1`, `precision`, `recall`, and `f1/TYPE` for each type, sorted (`f1/_` for an empty type). A
        ratio with a zero denominator is 0.

    Raises:
        DataError: if `true` and `predicted` have different numbers of sentences.

    Example:
        >>> entity_metrics([[("PER", 0, 2), ("LOC", 3, 4)]], [[("PER", 0, 2), ("LOC", 2, 4)]])
        {'f1': 0.5, 'precision': 0.5, 'recall': 0.5, 'f1/LOC': 0.0, 'f1/PER': 1.0}
    """
    _same(len(true), len(predicted), "sentences")
    counts = {kind: collections.Counter() for kind in types}
    for theirs, ours in zip(true, predicted):
        for name, found in (("right", {*theirs} & {*ours}), ("true", {*theirs}), ("predicted", {*ours})):
            for entity in found:
                counts.setdefault(entity[0], collections.Counter())[name] += 1
    result = {name: _scores(*(part[key] for key in ("right", "true", "predicted")))
              for name, part in sorted(counts.items())}
    total = sum(counts.values(), collections.Counter())
    return {**_scores(total["right"], total["true"], total["predicted"]),
            **{f"f1/{name or '_'}": scores["f1"] for name, scores in result.items()}}


def word_accuracy(true, predicted):
    """Return the fraction of words with the correct tag: float, 0 if there are no words.

    Args:
        true, predicted: sequences of N sequences of str, the tags of each sentence.

    Raises:
        DataError: if `true` and `predicted` have different numbers of sentences, or of tags in a sentence.
    """
    pairs = list(_words(true, predicted))
    return _ratio(sum(one == other for one, other in pairs), len(pairs))


def class_metrics(true, predicted, labels):
    """Score predicted classes of words, such as parts of speech.

    Args:
        true, predicted: see `word_accuracy`.
        labels: list of C str, all possible tags.

    Returns:
        dict of float, as from `confusion_metrics`: `accuracy`; macro-averaged `f1`, `precision` and `recall`; and
        `f1/LABEL`.

    Raises:
        DataError: if `word_accuracy` raises it, or a tag is not in `labels`.
    """
    index, counts = {label: number for number, label in enumerate(labels)}, np.zeros((3, len(labels)), np.int64)
    for pair, count in collections.Counter(_words(true, predicted)).items():
        unknown = [tag for tag in pair if tag not in index]
        if unknown:
            raise DataError(f"the tag {unknown[0]!r} is unknown; expected one of {', '.join(labels[:20])}"
                            f"{' ...' if len(labels) > 20 else ''}")
        counts[0, index[pair[0]]] += count if pair[0] == pair[1] else 0
        counts[1, index[pair[0]]] += count
        counts[2, index[pair[1]]] += count
    return confusion_metrics(counts, labels)


def _words(true, predicted):
    _same(len(true), len(predicted), "sentences")
    for number, (theirs, ours) in enumerate(zip(true, predicted), 1):
        _same(len(theirs), len(ours), f"tags in sentence {number}")
        yield from zip(theirs, ours)


def _same(one, other, what):
    if one != other:
        raise DataError(f"got {one} {what} but predictions for {other}: the numbers must be equal")
