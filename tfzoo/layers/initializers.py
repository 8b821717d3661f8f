"""The initializer of every weight of the zoo."""
import keras


def truncated_normal(stddev):
    """Return a truncated normal initializer (cut at two standard deviations) of this standard deviation."""
    return keras.initializers.TruncatedNormal(stddev=stddev)
