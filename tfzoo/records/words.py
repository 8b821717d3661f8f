"""Split raw text into words, and find words in a text (see tfzoo.text.words)."""
import itertools
import typing

import numpy as np

KEEP, ALONE, BLANK, DELETE = range(4)  # kinds of code points: in words, words of their own, between words, ignored
POINTS = 0x110000


class SplitWords(typing.NamedTuple):
    """The words of B texts, as lists of B lists or as RaggedTensors [B, None].

    Attributes:
        words: str (tf.string), the words.
        starts, ends: int (int32), the start and end (exclusive) of each word, in code points.
    """

    words: typing.Any
    starts: typing.Any
    ends: typing.Any


def kinds_of(ranges):
    """Return the kind of each code point, uint8 [POINTS], from the [first code point, kind] of ranges, in order."""
    first, kinds = np.array(ranges, np.int64).T
    return np.repeat(kinds, np.diff([*first, POINTS])).astype(np.uint8)


def ranges_of(kinds):
    """Return the inverse of `kinds_of`: list of [int, int]."""
    first = np.flatnonzero(np.diff(kinds, prepend=-1))
    return np.stack([first, kinds[first]], 1).tolist()


def split(texts, kinds):
    """Split texts into words.

    Args:
        texts: list of B str of valid Unicode.
        kinds: uint8 [POINTS], the kind of each code point.

    Returns:
        SplitWords, with lists.
    """
    points = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
    lengths = np.array([len(text) for text in texts], np.int64)
    text = np.repeat(np.arange(len(texts)), lengths)
    place = np.arange(len(points)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kind = kinds[points]
    kept = kind != DELETE
    kind, text, place = kind[kept], text[kept], place[kept]
    goes_on = np.zeros(len(kind) + 1, bool)  # whether each character continues the word of the previous one
    goes_on[1:-1] = (kind[1:] == KEEP) & (kind[:-1] == KEEP) & (text[1:] == text[:-1])
    letters = kind <= ALONE
    first, last = letters & ~goes_on[:-1], letters & ~goes_on[1:]
    cuts = np.cumsum(np.bincount(text[first], minlength=len(texts)))[:-1]
    starts, ends = ([part.tolist() for part in np.split(values, cuts)][:len(texts)] for values in (
        place[first], place[last] + 1))
    words = [[whole[start:end] for start, end in zip(*edges)] for whole, *edges in zip(texts, starts, ends)]
    return SplitWords(words, starts, ends)


def find_words(row, split_one):
    """Return the words of a row and their places in its text.

    Args:
        row: dict with `text`, `tokens` or both; and `offsets`, if known.
        split_one: callable (list of one str) -> SplitWords.

    Returns:
        (str, list of str, list of (int, int)): the text (without one, the words joined by spaces), its words (without
        `tokens`, those that `split_one` finds), and the start and end (exclusive) of each word in code points; None
        instead of the places if a word is not in the text after those before it.
    """
    if "tokens" not in row:
        (words,), (starts,), (ends,) = split_one([row["text"]])
        return row["text"], words, list(zip(starts, ends))
    words, text, places, end = row["tokens"], row.get("text"), [], 0
    if text is None:
        ends = list(itertools.accumulate((len(word) + 1 for word in words), initial=0))
        return " ".join(words), words, [(start, start + len(word)) for start, word in zip(ends, words)]
    if row.get("offsets") is not None:
        return text, words, row["offsets"]
    for word in words:
        start = text.find(word, end)
        if start < 0:
            return text, words, None
        end = start + len(word)
        places.append((start, end))
    return text, words, places
