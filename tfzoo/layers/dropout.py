"""Dropout whose bits are a function of (seed, step, layer) and of the row in the global batch.

Every split of a batch over replicas or microbatches draws the bits that the whole batch would draw, and a resumed run
needs no saved random state. Under plain Keras (no `step_randomness`) it draws from a Keras seed generator.
"""
import contextlib
import hashlib

import keras
import tensorflow as tf

from tfzoo.layers import fused

_active, _repeat = [], [0]


@contextlib.contextmanager
def step_randomness(seed, step, first_row=0):
    """Key the dropout of the calls inside by step and row, and let training compute in fused kernels.

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


@contextlib.contextmanager
def repeat(number):
    """Key the dropout of the calls inside by how often their layers, which are shared, were called before in the step.

    Args:
        number: int, 0 for the first call.
    """
    _repeat.append(number)
    try:
        yield
    finally:
        _repeat.pop()


def randomness_of(path):
    """Return what keys the dropout of a layer where `step_randomness` holds, as keep_mask takes it, else None.

    Args:
        path: str, the layer's.

    Returns:
        [uint32 [2], step, first_row] or None.
    """
    if not _active:
        return None
    seed, step, first_row = _active[-1]
    again = f"#{_repeat[-1]}" if _repeat[-1] else ""
    digest = hashlib.sha256(f"{seed}/{path}{again}".encode()).digest()
    key = [int.from_bytes(digest[place:place + 4], "little") for place in (0, 4)]
    return [tf.constant(key, tf.uint32), tf.convert_to_tensor(step), tf.convert_to_tensor(first_row)]


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
        randomness = randomness_of(self.path)
        if randomness is None:
            return keras.random.dropout(inputs, self.rate, seed=self.seed_generator)
        return fused.dropout([inputs], randomness, self.rate)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
