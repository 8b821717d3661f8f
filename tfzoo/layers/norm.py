"""Layer normalization (Ba et al. 2016, arXiv:1607.06450): Keras' own, and one pass over memory while training."""
import keras
import tensorflow as tf

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
