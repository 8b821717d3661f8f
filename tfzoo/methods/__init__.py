"""Training methods: which weights train, and what an update does besides the task's objective."""
from tfzoo.errors import ConfigError
from tfzoo.methods.lora import LoRA
from tfzoo.methods.method import Method, hash_base, hash_weights
from tfzoo.tasks.registry import named

METHODS = named(__name__, Method)  # all Methods with a name in the modules of this package


def method_of(name, **settings):
    """Make the method of a name; settings: arguments of its class. Raise ConfigError for an unknown name."""
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}: allowed are {', '.join(METHODS)}")
    return METHODS[name](**settings)


__all__ = ["METHODS", "LoRA", "Method", "hash_base", "hash_weights", "method_of"]
