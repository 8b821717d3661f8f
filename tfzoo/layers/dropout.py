"""Dropout whose bits are a function of (seed, step, layer) and of the row in the global batch.

Every split of a batch over replicas or microbatches draws the bits that the whole batch would draw, and a resumed run
needs no saved random state. Under plain Keras (no `step_randomness`) it draws from a Keras seed generator.
"""
import contextlib
import hashlib

import keras
import tensorflow as tf
from keras import ops

_active = []


@contextlib.contextmanager
def step_randomness(seed, step, first_row=0):
    """Key the dropout of the calls inside by step and row.

    Args:
        seed: int of the run.
        step: int or integer scalar tensor.
        first_row: int or integer scalar tensor, where this slice begins in the global batch.
    """
    _active.append((seed, step, first_row))
    try:
        yield
    finally:
        _active.pop()


def row_bits(shape, seed, path, step, first_row):
    """Draw 16 random bits for each element of a slice of a global batch.

    Args:
        shape: shape of the slice, rows first; all but the first may be static or tensors.
        seed, path: int and str, the constants of the key.
        step, first_row: see `step_randomness`.

    Returns:
        uint16 of that shape.
    """
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    key = tf.constant([int.from_bytes(digest[:8], "little")], tf.uint64)
    rows = shape[0]
    size = 1
    for extent in shape[1:]:
        size = size * extent
    padded = (size + 7) // 8 * 8  # one count of Philox gives four words of 32 bits: eight elements
    first = tf.cast(first_row, tf.uint64) * tf.cast(padded // 8, tf.uint64)
    counter = tf.stack([first, tf.cast(step, tf.uint64)])
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=tf.stack([rows, padded // 2]), key=key, counter=counter, alg=1, dtype=tf.uint32)
    halves = tf.reshape(tf.bitcast(bits, tf.uint16), tf.stack([rows, padded]))
    return tf.reshape(halves[:, :size], tf.stack(list(shape)))


@keras.saving.register_keras_serializable(package="tfzoo")
class Dropout(keras.layers.Layer):
    """Set a share of the elements to zero and scale the others up, in training only.

    Args:
        rate: float in [0, 1), the share.

    Call arguments:
        inputs: float [B, ...].
        training: bool.

    Returns:
        As the input.

    Reference: Srivastava et al. 2014, Dropout.
    """

    def __init__(self, rate, **layer):
        super().__init__(**layer)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(0) if rate else None

    def build(self, input_shape=None):
        self.built = True  # Keras sets the path here, which keys the bits: the layer above must call it

    def call(self, inputs, training=None):
        if not training or not self.rate:
            return inputs
        if not _active:
            return keras.random.dropout(inputs, self.rate, seed=self.seed_generator)
        seed, step, first_row = _active[-1]
        bits = row_bits(ops.shape(inputs), seed, self.path, step, first_row)
        keep = bits >= tf.constant(round(self.rate * 2 ** 16), tf.uint16)
        return tf.where(keep, inputs * (1 / (1 - self.rate)), tf.zeros((), inputs.dtype))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
