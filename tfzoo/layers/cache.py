"""Keys and values that decoding keeps (the key/value cache), and those of a source that is read at every step."""
import typing

import tensorflow as tf
from keras import ops


class Keys(typing.NamedTuple):
    """Projected keys and values: float [B, G, S, K] both."""

    key: object
    value: object


class Cache:
    """The keys and values of one attention layer while its text grows.

    Args:
        length: int, columns in all.
        keys: Keys of that many columns, as `keys` of the step before; None before the first one.
        column: int or integer scalar tensor, where the next ones are written.
    """

    def __init__(self, length, keys=None, column=0):
        self.length, self.keys, self.column = length, keys, column

    def extend(self, new):
        """Write the Keys of the next columns; returns the Keys to attend to: these alone at first, then all columns."""
        if self.keys is None:
            room = self.length - ops.shape(new.key)[2]
            self.keys = Keys(*(tf.pad(each, ((0, 0), (0, 0), (0, room), (0, 0))) for each in new))
            return new
        self.keys = Keys(*(ops.slice_update(old, (0, 0, self.column, 0), ops.cast(each, old.dtype))
                           for old, each in zip(self.keys, new)))
        return self.keys
