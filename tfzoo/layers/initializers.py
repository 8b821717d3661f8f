"""The initializer of every weight of the zoo."""
import contextlib

import keras

_blank = [False]


@contextlib.contextmanager
def blank_weights():
    """Let the weights that are made inside begin as zeros: they will be read from a file."""
    _blank.append(True)
    try:
        yield
    finally:
        _blank.pop()


def truncated_normal(stddev):
    """Return a truncated normal initializer (cut at two standard deviations) of this standard deviation."""
    return keras.initializers.Zeros() if _blank[-1] else keras.initializers.TruncatedNormal(stddev=stddev)
