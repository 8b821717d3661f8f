"""Layer normalization (Ba et al. 2016, arXiv:1607.06450), and by the root mean square (Zhang, Sennrich 2019).

The first is Keras' own, and one pass over memory while training; for the second see arXiv:1910.07467.
"""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.errors import ConfigError
from tfzoo.layers import fused
from tfzoo.layers.dropout import randomness_of


@keras.saving.register_keras_serializable(package="tfzoo")
class LayerNorm(keras.layers.LayerNormalization):
    """Normalize the last axis, then scale by gamma and shift by beta.

    Args:
        epsilon: float, added to the variance.

    Call arguments:
        inputs: float [..., D].
        training: bool.

    Returns:
        As the input.
    """

    def call(self, inputs, training=None):
        if training and randomness_of(self.path) is not None:
            return fused.normalized([inputs, *self.vectors()], [], self.epsilon)
        return super().call(inputs)

    def vectors(self):
        """Return gamma and beta, float [D], in the compute dtype where Keras casts."""
        return [tf.convert_to_tensor(variable) for variable in (self.gamma, self.beta)]


@keras.saving.register_keras_serializable(package="tfzoo")
class RMSNorm(keras.layers.Layer):
    """Divide the last axis by its root mean square, computed in float32, then scale by gamma.

    Args:
        epsilon: float, added to the mean square.

    Call arguments, returns: as LayerNorm.
    """

    def __init__(self, epsilon=1e-6, **layer):
        super().__init__(**layer)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
        self.built = True

    def call(self, inputs, training=None):
        if training and randomness_of(self.path) is not None:
            return fused.rms_normalized([inputs, tf.convert_to_tensor(self.gamma)], [], self.epsilon)
        values = ops.cast(inputs, "float32")
        values = values * ops.rsqrt(ops.mean(ops.square(values), -1, keepdims=True) + self.epsilon)
        return ops.cast(values, self.compute_dtype) * self.gamma

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


NORMS = {"layer": LayerNorm, "rms": RMSNorm}


def make_norm(kind, epsilon, name, dtype):
    """Return a norm of a kind, "layer" or "rms", or raise ConfigError."""
    if kind not in NORMS:
        raise ConfigError(f"norm is {kind!r}: allowed are {', '.join(NORMS)}")
    return NORMS[kind](epsilon=epsilon, name=name, dtype=dtype)
