"""Weight initializers, and building layers without values."""
import contextlib

import keras
from keras.src.backend.common import global_state
from keras.src.backend.common.name_scope import current_path

from tfzoo.layers import context

NOTED = "uninitialized_variables"  # Keras' own name for its list


@contextlib.contextmanager
def shapes_only():
    """Give weights created in the `with` block shapes but no values, so that they take no memory.

    Keras keeps a list of such variables and would initialize them after the next symbolic call of any layer; the list
    is restored on exit.
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
        stddev: float, standard deviation before truncation; after it, it is 0.88 times as large.
        name: str, name of the weight in the layer being built; together with the path of the layer, it keys the values,
            see context.initial_weights.
    """
    return _keyed(name, lambda seed: keras.initializers.TruncatedNormal(stddev=stddev, seed=seed))


def uniform(limit, name):
    """Return a uniform initializer over [-limit, limit], a float; for `name` see truncated_normal."""
    return _keyed(name, lambda seed: keras.initializers.RandomUniform(-limit, limit, seed=seed))


def _keyed(name, make):
    value = context.current()
    if value.blank:
        return keras.initializers.Zeros()
    return make(None if value.initial is None else context.key_of(value.initial, current_path(), name)[0])
