"""Ways to train a model: what trains, and what an update does beside the task's own."""
from tfzoo.errors import ConfigError
from tfzoo.methods.lora import LoRA
from tfzoo.methods.method import Method, hash_base, hash_weights
from tfzoo.tasks.registry import named

METHODS = named(__name__, Method)  # each module of this package that defines a Method with a name is one


def method_of(name, **settings):
    """Return the method of a name, with its class's arguments; ConfigError for an unknown name."""
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}: allowed are {', '.join(METHODS)}")
    return METHODS[name](**settings)


__all__ = ["METHODS", "LoRA", "Method", "hash_base", "hash_weights", "method_of"]
