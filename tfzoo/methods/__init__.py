"""Training methods, which determine which weights are trained and may extend the task's objective."""
from tfzoo.errors import ConfigError
from tfzoo.methods.lora import LoRA
from tfzoo.methods.method import Method, hash_base, hash_weights
from tfzoo.tasks.registry import named

METHODS = named(__name__, Method)  # all named Method classes in the modules of this package


def method_of(name, **settings):
    """Create a training method.

    Args:
        name: str, one of METHODS.
        settings: arguments for the method's constructor.

    Returns:
        Method.

    Raises:
        ConfigError: if the name is unknown, or the constructor raises it.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; choose from {', '.join(METHODS)}")
    return METHODS[name](**settings)


__all__ = ["METHODS", "LoRA", "Method", "hash_base", "hash_weights", "method_of"]
