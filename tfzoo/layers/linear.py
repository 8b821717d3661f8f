"""A projection of the last axis as one two-dimensional matrix product, which is the fast path on a CPU in bfloat16.

The only reader of kernels: what adapts, masks or rounds a kernel belongs here, and holds wherever the kernel is used.
"""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers import context, kernels
from tfzoo.layers.initializers import truncated_normal
from tfzoo.layers.products import multiply


@keras.saving.register_keras_serializable(package="tfzoo")
class Linear(keras.layers.Layer):
    """Project the last axis: `inputs @ kernel + bias`.

    Args:
        units: int, width of the result.
        use_bias: bool.
        initializer_range: float, standard deviation of the truncated normal initializer; 0 is 1 / sqrt(D).

    Call arguments:
        inputs: float [..., D].

    Returns:
        float [..., units] in the compute dtype.
    """

    def __init__(self, units, use_bias=True, initializer_range=0.02, **layer):
        super().__init__(**layer)
        self.units = units
        self.use_bias = use_bias
        self.initializer_range = initializer_range

    def build(self, input_shape):
        spread = self.initializer_range or input_shape[-1] ** -0.5
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units),
                                      initializer=truncated_normal(spread, "kernel"))
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros") if self.use_bias else None
        self.built = True

    def call(self, inputs):
        product = self.product(inputs)
        return product if self.bias is None else tf.nn.bias_add(product, tf.cast(self.bias, product.dtype))

    def weight(self):
        """Return the effective kernel, float [D, units] in the compute dtype."""
        return ops.cast(self.kernel, self.compute_dtype)

    def product(self, inputs):
        """Return `inputs @ kernel` without the bias, for a caller that hands both to a kernel of `kernels`."""
        return project(inputs, [self])

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "use_bias": self.use_bias,
                "initializer_range": self.initializer_range}


def project(inputs, linears):
    """Multiply inputs with the kernels of several Linear at once, without their biases.

    Args:
        inputs: float [..., D].
        linears: list of Linear of this D.

    Returns:
        float [..., sum of units], one result beside the other.
    """
    weights = [linear.weight() for linear in linears]
    weight = weights[0] if len(weights) == 1 else tf.concat(weights, 1)
    flat = multiply(ops.reshape(inputs, (-1, weight.shape[0])), weight)
    return ops.reshape(flat, (*ops.shape(inputs)[:-1], weight.shape[1]))


def project_heads(inputs, linears, width):
    """Project to heads of a width K: list of float [B, H, T, K], one for each Linear.

    One product for all is faster where there are many rows; elsewhere joining the kernels would cost more.
    """
    if not context.current().fused:
        return [kernels.split_heads(linear.product(inputs), linear.bias, (linear.units // width,))[0]
                for linear in linears]
    biases = [ops.zeros(linear.units, linear.compute_dtype) if linear.bias is None
              else ops.cast(linear.bias, linear.compute_dtype) for linear in linears]
    bias = None if all(linear.bias is None for linear in linears) else tf.concat(biases, 0)
    return kernels.split_heads(project(inputs, linears), bias, tuple(linear.units // width for linear in linears))
