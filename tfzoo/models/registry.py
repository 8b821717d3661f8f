"""List, configure and build models by name, and count their parameters."""
import difflib
import inspect
import math

import keras

from tfzoo.errors import ConfigError
from tfzoo.layers import shapes_only
from tfzoo.models.families import (albert, bert, distilbert, electra, gpt, gpt2, gpt3, llama, mistral, qwen2, roberta,
                                   t5, transformer)
from tfzoo.models.family import SIZED

FAMILIES = tuple(module.FAMILY for module in (bert, roberta, distilbert, albert, electra, gpt, gpt2, gpt3, llama,
                                              mistral, qwen2, transformer, t5))
MAY_BE_ZERO = ("num_segments", "embedding_dim", "position_offset", "num_kv_heads", "head_dim", "window")


def list_models():
    """Return the names of all models, grouped by family: list of str."""
    return [name for family in FAMILIES for name in family.sizes]


def family_of(name):
    """Return the Family for a model or family name; raise ConfigError with similar names if the name is unknown."""
    name = name if isinstance(name, str) else repr(name)
    for family in FAMILIES:
        if name in family.sizes or name == family.name:
            return family
    near = difflib.get_close_matches(name, list_models(), 3) or list_models()
    raise ConfigError(f"unknown model {name!r}; choose from {', '.join(near[:8])} (tfzoo.list_models() lists all)")


def config_of(name, **overrides):
    """Return a model's full configuration.

    Args:
        name: str, a name from `list_models`, or a family name, which sets only the values that all of its sizes share.
        overrides: arguments of the body's class, which take precedence over the values from `name`.

    Returns:
        dict of plain values.

    Raises:
        ConfigError: if the name or an argument is unknown, a family name is given without the arguments that define a
            size, or a value has the wrong type or is out of range.
    """
    family = family_of(name)
    arguments = inspect.signature(family.body.__init__).parameters
    allowed = {key: value.default for key, value in arguments.items() if key not in ("self", "model")}
    config = {key: value for key, value in allowed.items() if value is not inspect.Parameter.empty}
    config.update(family.sizes[name] if name in family.sizes else family.common)
    missing = [key for key in SIZED if key not in {**config, **overrides}]
    if missing:
        raise ConfigError(f"{name} is a family, not a model; set {', '.join(missing)}, or choose one of its models")
    for key, value in overrides.items():
        if key not in allowed:
            raise ConfigError(f"unknown argument {key!r} of {name}; choose from {', '.join(sorted(allowed))}")
        wanted = dict if key == "rope_scaling" else type(config.get(key, 1))
        fits = isinstance(value, (int, float) if wanted is float else wanted) or (wanted is dict and value is None)
        if not fits or isinstance(value, bool) != (wanted is bool):
            raise ConfigError(f"{key} must be of type {wanted.__name__}, got {value!r}")
        least = 0 if key in MAY_BE_ZERO or wanted is float else 1
        if wanted in (int, float) and not value >= least:
            raise ConfigError(f"{key} must be {least} or more, got {value}")
        if key == "dropout" and value >= 1:
            raise ConfigError(f"dropout must be at least 0 and less than 1, got {value}")
        config[key] = value
    return config


def build_body(name, dtype=None, **overrides):
    """Build a model without a head, with newly initialized weights.

    Args:
        name: str, a name from `list_models` or a family name.
        dtype: str or Keras dtype policy; None uses Keras' global policy.
        overrides: see `config_of`.

    Returns:
        Body, a keras.Model.

    Raises:
        ConfigError: if dtype is invalid, or for any of the reasons listed in `config_of`.
    """
    config = config_of(name, **overrides)
    try:
        dtype = keras.dtype_policies.get(dtype)
    except (ValueError, TypeError):
        raise ConfigError(f"dtype must be a Keras policy such as float32 or mixed_bfloat16, got {dtype!r}") from None
    return family_of(name).body(**config, dtype=dtype, name=name)


def count_parameters(name, **overrides):
    """Count a model's parameters without allocating them. For arguments and errors, see `build_body`."""
    layers = config_of(name, **overrides)["num_layers"]

    def count(num_layers):
        with shapes_only():
            body = build_body(name, **{**overrides, "num_layers": num_layers})
        return sum(math.prod(variable.shape) for variable in body.weights)

    one = count(1)
    return one if layers == 1 else one + (layers - 1) * (count(2) - one)  # each additional layer adds the same number
