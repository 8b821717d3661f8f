"""The position-wise feed-forward layer (Vaswani et al. 2017, arXiv:1706.03762, section 3.3), with any activation."""
import math

import keras
from keras import ops

from tfzoo.errors import ConfigError
from tfzoo.layers import context, kernels
from tfzoo.layers.configured import Configured, arguments
from tfzoo.layers.linear import Linear


def gelu(x):
    """Return the exact GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415); twice as fast as Keras' erfc version."""
    return x * 0.5 * (1 + ops.erf(x * 0.5 ** 0.5))


def gelu_tanh(x):
    """Return the tanh approximation of GELU; faster than Keras' version because it avoids a power of 3."""
    return x * 0.5 * (1 + ops.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x * x * x)))


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": ops.relu, "silu": ops.silu, "tanh": ops.tanh}


GATED = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh"}  # name -> activation applied to the gate


def activation_of(name):
    """Return the activation function with this name; raise ConfigError if the name is unknown."""
    if name not in ACTIVATIONS:
        raise ConfigError(f"activation must be one of {', '.join([*ACTIVATIONS, *GATED])}, got {name!r}")
    return ACTIVATIONS[name]


@keras.saving.register_keras_serializable(package="tfzoo")
class FeedForward(Configured):
    """Project up, apply an activation or an activated gate (Shazeer 2020, arXiv:2002.05202), and project down.

    Args:
        ffn_dim, hidden_dim: int, F and D.
        activation: "gelu" (exact), "gelu_tanh", "relu", "silu" or "tanh"; or, with a gate, "swiglu", "geglu" or
            "geglu_tanh".
        initializer_range: float (see `Linear`).
        use_bias: bool, add a bias to every projection.

    Call arguments:
        inputs: float [B, T, D], or [N, D] while not training.
        training: bool.

    Returns:
        float [B, T, D] or [N, D].
    """

    def __init__(self, ffn_dim, hidden_dim, activation="gelu", initializer_range=0.02, use_bias=True, **layer):
        super().__init__(**layer)
        self.config = arguments(locals())
        self.activation = activation_of(GATED.get(activation, activation))
        self.gate = Linear(ffn_dim, use_bias, initializer_range, name="gate", dtype=self.dtype_policy) \
            if activation in GATED else None
        self.up = Linear(ffn_dim, use_bias, initializer_range, name="up", dtype=self.dtype_policy)
        self.down = Linear(hidden_dim, use_bias, initializer_range, name="down", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        for child in (self.gate, self.up):
            if child is not None:
                child.build((None, None, self.config["hidden_dim"]))
        self.down.build((None, None, self.config["ffn_dim"]))
        self.built = True

    def call(self, inputs, training=None):
        return self.down(self.activated(inputs, training), training=training)

    def activated(self, inputs, training=None):
        """Return the input to `down`: float [B, T, F] or [N, F]."""
        if training or context.current().fused:
            return self._activated(inputs, training)
        # As matrices, since TensorFlow on a CPU fuses a product, bias and activation only without a reshape in between.
        if inputs.shape.rank == 2:
            return self._activated(inputs)
        flat = self._activated(ops.reshape(inputs, (-1, self.config["hidden_dim"])))
        return ops.reshape(flat, (*ops.shape(inputs)[:-1], self.config["ffn_dim"]))

    def _activated(self, inputs, training=None):
        values, bias = self.up.product(inputs, training)
        if self.gate is None:
            return kernels.activate(values, bias, self.activation)
        return kernels.gate(*self.gate.product(inputs, training), values=values, bias=bias, activation=self.activation)
