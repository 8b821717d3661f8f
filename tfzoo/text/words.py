"""Split raw text into words as BERT's basic tokenizer does (Devlin et al. 2018, arXiv:1810.04805), with offsets.

Unlike a tokenizer's words, these words are slices of the raw text, neither lowercased nor normalized. They are
separated by whitespace; each punctuation mark and each Chinese character is a word of its own. Characters that BERT
deletes (control and format characters, U+FFFD) belong to a word only if they occur inside it. Offsets are in code
points.
"""
import functools
import typing

import numpy as np
import tensorflow as tf

from tfzoo.text.tokenizer import as_strings, as_texts
from tfzoo.text.wordpiece import ALONE, BLANK, DELETE, KEEP, code_point_table

_KINDS = {tuple(row): number for number, row in enumerate((KEEP, ALONE, BLANK, DELETE))}
_KEEP, _ALONE, _BLANK, _DELETE = range(4)


class SplitWords(typing.NamedTuple):
    """The words of B texts, as lists of B lists or as RaggedTensors [B, None].

    Attributes:
        words: str (tf.string), the words.
        starts, ends: int (int32), the start and end (exclusive) of each word, in code points.
    """

    words: typing.Any
    starts: typing.Any
    ends: typing.Any


@functools.cache
def _kinds():
    # The kind of each code point (see _KINDS) in BERT's tokenization without lowercasing.
    rows, replacements = code_point_table(lowercase=False)
    kinds = [_KINDS[tuple(int(part) for part in row if part != -1)] for row in replacements]
    kinds = np.array(kinds, np.uint8)[rows]
    kinds[ord(" ")] = _BLANK  # the table keeps spaces, as it uses them to separate words
    return kinds


def split_words(texts):
    """Split texts into words.

    Args:
        texts: list of B str or bytes. Invalid UTF-8 is replaced with U+FFFD.

    Returns:
        SplitWords, with lists.

    Example:
        >>> split_words(["Don't  \U0001f600!"])
        SplitWords(words=[['Don', "'", 't', '\U0001f600', '!']], starts=[[0, 3, 4, 7, 8]], ends=[[3, 4, 5, 8, 9]])
    """
    texts = as_texts(texts)
    points = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
    lengths = np.array([len(text) for text in texts], np.int64)
    text = np.repeat(np.arange(len(texts)), lengths)
    place = np.arange(len(points)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kind = _kinds()[points]
    kept = kind != _DELETE
    kind, text, place = kind[kept], text[kept], place[kept]
    goes_on = np.zeros(len(kind) + 1, bool)  # whether each character continues the word of the previous one
    goes_on[1:-1] = (kind[1:] == _KEEP) & (kind[:-1] == _KEEP) & (text[1:] == text[:-1])
    letters = kind <= _ALONE
    first, last = letters & ~goes_on[:-1], letters & ~goes_on[1:]
    cuts = np.cumsum(np.bincount(text[first], minlength=len(texts)))[:-1]
    starts, ends = ([part.tolist() for part in np.split(values, cuts)][:len(texts)] for values in (
        place[first], place[last] + 1))
    words = [[whole[start:end] for start, end in zip(*edges)] for whole, *edges in zip(texts, starts, ends)]
    return SplitWords(words, starts, ends)


def split_words_in_graph(texts):
    """Split texts into words with TensorFlow ops, with the same result as `split_words`.

    Args:
        texts: tf.string [B], or a list of str or bytes.

    Returns:
        SplitWords, with RaggedTensors [B, None]: `words` is tf.string, `starts` and `ends` are int32.
    """
    points = tf.strings.unicode_decode(as_strings(texts), "UTF-8", errors="replace")
    row = points.value_rowids()
    kind = tf.gather(tf.constant(_kinds()), points.flat_values)
    kept = tf.where(kind != _DELETE)[:, 0]  # indices into the flat code points
    kind, row = tf.gather(kind, kept), tf.gather(row, kept)
    goes_on = (kind[1:] == _KEEP) & (kind[:-1] == _KEEP) & (row[1:] == row[:-1])
    letters, edge = kind <= _ALONE, tf.zeros([tf.minimum(tf.size(kind), 1)], bool)
    first, last = (letters & ~tf.concat(parts, 0) for parts in ([edge, goes_on], [goes_on, edge]))
    begin, end = tf.boolean_mask(kept, first), tf.boolean_mask(kept, last) + 1
    words = tf.gather(points.flat_values, tf.ragged.range(begin, end))
    row = tf.boolean_mask(row, first)
    before = tf.gather(points.row_starts(), row)
    return SplitWords(*(tf.RaggedTensor.from_value_rowids(values, row, points.nrows(), validate=False) for values in (
        tf.strings.unicode_encode(words, "UTF-8"), tf.cast(begin - before, tf.int32), tf.cast(end - before, tf.int32))))
