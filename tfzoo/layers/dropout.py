"""Dropout whose mask depends only on the seed, the step, the layer and the row in the global batch.

The masks do not depend on how a batch is split across replicas or into microbatches, and a resumed run needs no saved
random state. Outside `training_step`, as in plain Keras, masks come from a Keras seed generator.
"""
import keras
import tensorflow as tf

from tfzoo.layers import context, kernels


@keras.saving.register_keras_serializable(package="tfzoo")
class Dropout(keras.layers.Layer):
    """During training, set a fraction of the elements to zero and scale up the rest.

    Args:
        rate: float in [0, 1), the fraction to drop.

    Call arguments:
        inputs: float [B, ...].
        training: bool.

    Returns:
        float [B, ...], in the dtype of the inputs.

    Reference: Srivastava et al. 2014, Dropout.
    """

    def __init__(self, rate, **layer):
        super().__init__(**layer)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(0) if rate else None

    def build(self, input_shape=None):
        self.built = True  # Keras sets the path here, and masks depend on it, so the parent layer must call build

    def drop(self, training):
        """Return the `kernels.Drop` for one call, for kernels that apply the dropout themselves."""
        if not training or not self.rate:
            return kernels.NOTHING
        randomness = context.randomness_of(self.path)
        if randomness is None:
            randomness = [tf.cast(self.seed_generator.next(), tf.uint32), tf.constant(0), tf.constant(0)]
        return kernels.Drop(self.rate, randomness)

    def call(self, inputs, training=None):
        return kernels.dropout(inputs, self.drop(training))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
