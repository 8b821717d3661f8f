"""The initializer of every weight of the zoo."""
import contextlib

import keras
from keras.src.backend.common import global_state

NOTED = "uninitialized_variables"  # Keras' own name
_blank = [False]


@contextlib.contextmanager
def blank_weights():
    """Let the weights that are made inside begin as zeros: they will be read from a file."""
    _blank.append(True)
    try:
        yield
    finally:
        _blank.pop()


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


def truncated_normal(stddev):
    """Return a normal initializer of this standard deviation cut at two of them, so 0.88 of it, as TensorFlow 1's."""
    return keras.initializers.Zeros() if _blank[-1] else keras.initializers.TruncatedNormal(stddev=stddev)
