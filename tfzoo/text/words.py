"""Split raw text into words as BERT's basic tokenizer does (Devlin et al. 2018, arXiv:1810.04805), with offsets.

Unlike a tokenizer's words, these words are slices of the raw text, neither lowercased nor normalized. They are
separated by whitespace; each punctuation mark and each Chinese character is a word of its own. Characters that BERT
deletes (control and format characters, U+FFFD) belong to a word only if they occur inside it. Offsets are in code
points.
"""
import functools

import numpy as np
import tensorflow as tf

from tfzoo.records.words import ALONE, BLANK, DELETE, KEEP, SplitWords, split
from tfzoo.text import wordpiece
from tfzoo.text.tokenizer import as_strings, as_texts

_KINDS = {tuple(row): number for number, row in enumerate((wordpiece.KEEP, wordpiece.ALONE, wordpiece.BLANK,
                                                           wordpiece.DELETE))}


@functools.cache
def kinds_of_code_points():
    """Return the kind of each code point in BERT's tokenization without lowercasing (see `records.words`)."""
    rows, replacements = wordpiece.code_point_table(lowercase=False)
    kinds = [_KINDS[tuple(int(part) for part in row if part != -1)] for row in replacements]
    kinds = np.array(kinds, np.uint8)[rows]
    kinds[ord(" ")] = BLANK  # the table keeps spaces, as it uses them to separate words
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
    return split(as_texts(texts), kinds_of_code_points())


def split_words_in_graph(texts):
    """Split texts into words with TensorFlow ops, with the same result as `split_words`.

    Args:
        texts: tf.string [B], or a list of str or bytes.

    Returns:
        SplitWords, with RaggedTensors [B, None]: `words` is tf.string, `starts` and `ends` are int32.
    """
    points = tf.strings.unicode_decode(as_strings(texts), "UTF-8", errors="replace")
    row = points.value_rowids()
    kind = tf.gather(tf.constant(kinds_of_code_points()), points.flat_values)
    kept = tf.where(kind != DELETE)[:, 0]  # indices into the flat code points
    kind, row = tf.gather(kind, kept), tf.gather(row, kept)
    goes_on = (kind[1:] == KEEP) & (kind[:-1] == KEEP) & (row[1:] == row[:-1])
    letters, edge = kind <= ALONE, tf.zeros([tf.minimum(tf.size(kind), 1)], bool)
    first, last = (letters & ~tf.concat(parts, 0) for parts in ([edge, goes_on], [goes_on, edge]))
    begin, end = tf.boolean_mask(kept, first), tf.boolean_mask(kept, last) + 1
    words = tf.gather(points.flat_values, tf.ragged.range(begin, end))
    row = tf.boolean_mask(row, first)
    before = tf.gather(points.row_starts(), row)
    return SplitWords(*(tf.RaggedTensor.from_value_rowids(values, row, points.nrows(), validate=False) for values in (
        tf.strings.unicode_encode(words, "UTF-8"), tf.cast(begin - before, tf.int32), tf.cast(end - before, tf.int32))))
