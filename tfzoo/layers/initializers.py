"""Weight initializers, and building without values."""
import contextlib

import keras
from keras.src.backend.common import global_state
from keras.src.backend.common.name_scope import current_path

from tfzoo.layers import context

NOTED = "uninitialized_variables"  # Keras' own name for its list


@contextlib.contextmanager
def shapes_only():
    """Give the weights of layers built inside shapes but no values, so that they take no memory.

    Keras lists such variables and would initialize them after the next symbolic call of any layer; the list is restored
    on exit.
    """
    before = list(global_state.get_global_attribute(NOTED) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(NOTED, before)


def truncated_normal(stddev, name):
    """Return a normal initializer truncated at two standard deviations, as in TensorFlow 1.

    Args:
        stddev: float, before truncation, which reduces it to 0.88 of this.
        name: str, of the weight in the layer being built; with the layer's path it keys the values, see
            context.initial_weights.
    """
    return _keyed(name, lambda seed: keras.initializers.TruncatedNormal(stddev=stddev, seed=seed))


def uniform(limit, name):
    """Return a uniform initializer from -limit to limit, a float; name: see truncated_normal."""
    return _keyed(name, lambda seed: keras.initializers.RandomUniform(-limit, limit, seed=seed))


def _keyed(name, make):
    value = context.current()
    if value.blank:
        return keras.initializers.Zeros()
    return make(None if value.initial is None else context.key_of(value.initial, current_path(), name)[0])
