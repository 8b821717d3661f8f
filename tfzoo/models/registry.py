"""Models by name: list, configure, build and count the parameters of all families' sizes."""
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
    """Return the model names that `build_body` accepts, by family and in the order of its sizes: list of str."""
    return [name for family in FAMILIES for name in family.sizes]


def family_of(name):
    """Return the Family of a model name or a family name ("bert"), or raise ConfigError with the closest names."""
    name = name if isinstance(name, str) else repr(name)
    for family in FAMILIES:
        if name in family.sizes or name == family.name:
            return family
    near = difflib.get_close_matches(name, list_models(), 3) or list_models()
    raise ConfigError(f"unknown model {name!r}: allowed are {', '.join(near[:8])}; tfzoo.list_models() lists all")


def config_of(name, **overrides):
    """Return a model's full configuration.

    Args:
        name: str, from `list_models`; or a family's name, which sets only the values that all its sizes share.
        overrides: arguments of the body's class that replace those of the size.

    Returns:
        dict of plain values.

    Raises:
        ConfigError: unknown name or argument, a family's name without its sizes, a value of the wrong type or range.
    """
    family = family_of(name)
    arguments = inspect.signature(family.body.__init__).parameters
    allowed = {key: value.default for key, value in arguments.items() if key not in ("self", "model")}
    config = {key: value for key, value in allowed.items() if value is not inspect.Parameter.empty}
    config.update(family.sizes[name] if name in family.sizes else family.common)
    missing = [key for key in SIZED if key not in {**config, **overrides}]
    if missing:
        raise ConfigError(f"{name} is a family and sets no sizes: add {', '.join(missing)}, or name one of its models")
    for key, value in overrides.items():
        if key not in allowed:
            raise ConfigError(f"unknown argument {key!r} of {name}: allowed are {', '.join(sorted(allowed))}")
        wanted = dict if key == "rope_scaling" else type(config.get(key, 1))
        fits = isinstance(value, (int, float) if wanted is float else wanted) or (wanted is dict and value is None)
        if not fits or isinstance(value, bool) != (wanted is bool):
            raise ConfigError(f"{key} is {value!r}: allowed is a value of type {wanted.__name__}")
        least = 0 if key in MAY_BE_ZERO or wanted is float else 1
        if wanted in (int, float) and not value >= least:
            raise ConfigError(f"{key} is {value}: allowed is {least} or more")
        if key == "dropout" and value >= 1:
            raise ConfigError(f"dropout is {value}: allowed is a rate from 0 to below 1")
        config[key] = value
    return config


def build_body(name, dtype=None, **overrides):
    """Build a model without a head, with freshly initialized weights.

    Args:
        name: str, from `list_models`.
        dtype: str or Keras dtype policy; None: Keras' global policy.
        overrides: see `config_of`.

    Returns:
        Body, a keras.Model.

    Raises:
        ConfigError: see `config_of`.
    """
    config = config_of(name, **overrides)
    try:
        dtype = keras.dtype_policies.get(dtype)
    except (ValueError, TypeError):
        raise ConfigError(f"dtype is {dtype!r}: allowed are Keras' policies, as float32, mixed_bfloat16") from None
    return family_of(name).body(**config, dtype=dtype, name=name)


def count_parameters(name, **overrides):
    """Return the number of parameters of a model, without allocating them; arguments and errors as `build_body`."""
    layers = config_of(name, **overrides)["num_layers"]

    def count(num_layers):
        with shapes_only():
            body = build_body(name, **{**overrides, "num_layers": num_layers})
        return sum(math.prod(variable.shape) for variable in body.weights)

    one = count(1)
    return one if layers == 1 else one + (layers - 1) * (count(2) - one)  # every layer adds the same count
