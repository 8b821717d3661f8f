"""Layer normalization (Ba et al. 2016, arXiv:1607.06450) and RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467).

Both compute in float32.
"""
import keras

from tfzoo.errors import ConfigError
from tfzoo.layers import kernels
from tfzoo.layers.configured import Configured, arguments


@keras.saving.register_keras_serializable(package="tfzoo")
class LayerNorm(Configured):
    """Normalize the last axis, then scale by gamma and shift by beta.

    Args:
        epsilon: float, added to the variance.

    Call arguments:
        inputs: float [..., D].

    Returns:
        float [..., D], in the dtype of the inputs.
    """

    def __init__(self, epsilon=1e-12, **layer):
        super().__init__(**layer)
        self.config = arguments(locals())

    def build(self, input_shape):
        # As in Keras' own norm, the weights are not cast to the compute dtype.
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros", autocast=False)
        self.built = True

    def call(self, inputs):
        return kernels.normalize(inputs, gamma=self.gamma, beta=self.beta, epsilon=self.config["epsilon"])

    def add(self, hidden, result, bias, drop):
        """Normalize hidden + dropout(result + bias) (see `kernels.add` for the arguments)."""
        return kernels.add_normalize(hidden, result, bias=bias, drop=drop, gamma=self.gamma, beta=self.beta,
                                     epsilon=self.config["epsilon"])


@keras.saving.register_keras_serializable(package="tfzoo")
class RMSNorm(Configured):
    """Divide by the root mean square of the last axis, then scale by gamma.

    Args:
        epsilon: float, added to the mean square.

    For call arguments and return values, see LayerNorm.
    """

    def __init__(self, epsilon=1e-6, **layer):
        super().__init__(**layer)
        self.config = arguments(locals())

    def build(self, input_shape):
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
        self.built = True

    def call(self, inputs):
        return kernels.rms_normalize(inputs, self.gamma, self.config["epsilon"])

    def add(self, hidden, result, bias, drop):
        """Normalize hidden + dropout(result + bias) (see `kernels.add` for the arguments)."""
        return self.call(kernels.add(hidden, result, bias=bias, drop=drop))


NORMS = {"layer": LayerNorm, "rms": RMSNorm}


def make_norm(kind, epsilon, name, dtype):
    """Return a LayerNorm (kind "layer") or RMSNorm ("rms"); raise ConfigError for any other kind."""
    if kind not in NORMS:
        raise ConfigError(f"norm must be one of {', '.join(NORMS)}, got {kind!r}")
    return NORMS[kind](epsilon=epsilon, name=name, dtype=dtype)
