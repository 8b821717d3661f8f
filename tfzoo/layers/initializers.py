"""The initializer of every weight of the zoo."""
import contextlib

import keras
from keras.src.backend.common import global_state
from keras.src.backend.common.name_scope import current_path

from tfzoo.layers import context

NOTED = "uninitialized_variables"  # Keras' own name


@contextlib.contextmanager
def shapes_only():
    """Let the layers that are built inside have shapes and no values, which take no memory.

    Keras notes such variables and would give them values after the next symbolic call of any layer: the note goes.
    """
    before = list(global_state.get_global_attribute(NOTED) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(NOTED, before)


def truncated_normal(stddev, name):
    """Return a normal initializer of this standard deviation cut at two of them, so 0.88 of it, as TensorFlow 1's.

    Args:
        stddev: float.
        name: str, of the weight in the layer that is being built: with its path it keys the values, see
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
