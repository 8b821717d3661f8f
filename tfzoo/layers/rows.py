"""Texts as one matrix: products, biases, norms and activations then need no reshapes between them."""
import dataclasses

import tensorflow as tf

from tfzoo.layers.kernels import shape_of


@dataclasses.dataclass(frozen=True)
class Rows:
    """The shape of texts whose positions are the rows of a matrix.

    Attributes:
        batch, length: int or int32 scalar tensor, B and T.
    """

    batch: object
    length: object

    @classmethod
    def of(cls, hidden):
        """Return the Rows of `hidden`, float [B, T, D], and its matrix, float [B x T, D]."""
        batch, length, width = shape_of(hidden)
        return cls(batch, length), tf.reshape(hidden, (-1, width))

    def split(self, matrix):
        """Return the texts, float [B, T, D], of their matrix, float [B x T, D]."""
        return tf.reshape(matrix, (self.batch, self.length, matrix.shape[1]))
