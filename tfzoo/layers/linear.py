"""A projection of the last axis as one two-dimensional matrix product, which is the fast path on a CPU in bfloat16."""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers.initializers import truncated_normal


@keras.saving.register_keras_serializable(package="tfzoo")
class Linear(keras.layers.Layer):
    """Project the last axis: `inputs @ kernel + bias`.

    Args:
        units: int, width of the result.
        use_bias: bool.
        initializer_range: float, standard deviation of the truncated normal initializer; 0 is 1 / sqrt(D).

    Call arguments:
        inputs: float [..., D].
        biased: bool, False leaves the bias to the caller.

    Returns:
        float [..., units] in the compute dtype.
    """

    def __init__(self, units, use_bias=True, initializer_range=0.02, **layer):
        super().__init__(**layer)
        self.units = units
        self.use_bias = use_bias
        self.initializer_range = initializer_range

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units),
                                      initializer=truncated_normal(self.initializer_range or input_shape[-1] ** -0.5))
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros") if self.use_bias else None
        self.built = True

    def call(self, inputs, biased=True):
        flat = ops.reshape(inputs, (-1, self.kernel.shape[0]))
        flat = ops.matmul(flat, self.kernel)
        if self.use_bias and biased:
            # Not `+`: the gradient of TensorFlow's own op sums the rows twice as fast on a CPU.
            flat = tf.nn.bias_add(flat, self.bias)
        return ops.reshape(flat, (*ops.shape(inputs)[:-1], self.units))

    def bias_vector(self):
        """Return the bias, float [units], zeros where there is none, for a caller that adds it in a fused kernel."""
        return tf.convert_to_tensor(self.bias) if self.use_bias else tf.zeros(self.units, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "use_bias": self.use_bias,
                "initializer_range": self.initializer_range}
