"""Weight initializers, and a way to build layers without allocating their weights."""
import contextlib

import keras
from keras.src.backend.common import global_state
from keras.src.backend.common.name_scope import current_path

from tfzoo.layers import context

NOTED = "uninitialized_variables"  # the name of Keras' internal list


@contextlib.contextmanager
def shapes_only():
    """Create weights in the `with` block with shapes but no values, so that they take up no memory.

    Keras adds such variables to a list and would initialize them after the next symbolic call to any layer; on exit,
    the list is restored.
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
        stddev: float, standard deviation before truncation, which reduces it by a factor of 0.88.
        name: str, name of the weight in the layer being built. Within `context.initial_weights`, the initial values
            depend only on the seed, this name and the layer's path.
    """
    return _keyed(name, lambda seed: keras.initializers.TruncatedNormal(stddev=stddev, seed=seed))


def uniform(limit, name):
    """Return an initializer that is uniform over [-limit, limit]. For `name`, see `truncated_normal`."""
    return _keyed(name, lambda seed: keras.initializers.RandomUniform(-limit, limit, seed=seed))


def _keyed(name, make):
    value = context.current()
    if value.blank:
        return keras.initializers.Zeros()
    return make(None if value.initial is None else context.key_of(value.initial, current_path(), name)[0])
