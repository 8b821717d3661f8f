"""Layers whose configuration consists of the arguments that they were created with."""
import keras


def arguments(given):
    """Return the arguments of an `__init__`: dict, without self and those that Keras' base class takes.

    Args:
        given: dict, the `locals()` of an `__init__` that has assigned no variables yet.
    """
    return {name: value for name, value in given.items() if name not in ("self", "layer", "model", "__class__")}


class Configured(keras.layers.Layer):
    """Base class of layers whose `config`, a dict, has the arguments that recreate them."""

    def get_config(self):
        return {**super().get_config(), **self.config}
