"""The key/value cache for decoding, and the projected keys and values of a source."""
import typing

import tensorflow as tf
from keras import ops

from tfzoo.layers import context


class Keys(typing.NamedTuple):
    """Projected keys and values, both float [B, G, S, K]."""

    key: object
    value: object


class Cache:
    """Store the keys and values of one attention layer during decoding.

    Args:
        length: int, total number of columns S.
        keys: Keys with `length` columns, from the attribute `keys` after the previous step; None for the first step.
        column: int or integer scalar tensor, the index of the next column to write.
    """

    def __init__(self, length, keys=None, column=0):
        self.length, self.keys, self.column = length, keys, column

    def extend(self, new):
        """Write `new`, the Keys for the next columns; return the Keys to attend to: first `new`, later all columns."""
        if self.keys is None:
            room = self.length - ops.shape(new.key)[2]
            self.keys = Keys(*(tf.pad(each, ((0, 0), (0, 0), (0, room), (0, 0))) for each in new))
            return new
        self.keys = Keys(*(_written(old, tf.cast(each, old.dtype), self.column) for old, each in zip(self.keys, new)))
        return self.keys


def _written(old, new, column):
    if context.current().compiled or tf.executing_eagerly():
        return ops.slice_update(old, (0, 0, column, 0), new)
    # Outside XLA, slice_update would launch a compiled kernel and copy the cache; this op writes in place, but XLA
    # does not have it.
    end = column + tf.shape(new)[2]
    return tf.raw_ops.TensorStridedSliceUpdate(input=old, begin=[0, 0, column, 0], end=[0, 0, end, 0], begin_mask=11,
                                               end_mask=11, strides=[1, 1, 1, 1], value=new)
