"""Correlation of predicted and true values."""
import numpy as np

from tfzoo.errors import DataError


def pearson(x, y):
    """Return the linear correlation coefficient of two sequences of N numbers: float, 0 if either is constant.

    Raises:
        DataError: if the lengths differ.

    Example:
        >>> round(pearson([1, 2, 3], [1, 2, 4]), 4), pearson([1, 1, 1], [1, 2, 4])
        (0.982, 0.0)
    """
    x, y = (np.asarray(values, np.float64) for values in (x, y))
    if x.shape != y.shape:
        raise DataError(f"correlation requires one prediction per value, got {len(x)} and {len(y)}")
    if is_constant(x) or is_constant(y):
        return 0.0
    x, y = ((values - values.mean()) / np.abs(values - values.mean()).max() for values in (x, y))  # squares stay finite
    return float(np.clip((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()), -1.0, 1.0))


def spearman(x, y):
    """Return the rank correlation coefficient of two sequences of N numbers: float, 0 if either is constant.

    Equal numbers share the mean of their ranks.

    Raises:
        DataError: if the lengths differ.

    Example:
        >>> spearman([1, 2, 3], [1, 10, 100]), spearman([1, 1, 1], [1, 2, 4])
        (1.0, 0.0)
    """
    return 0.0 if is_constant(x) or is_constant(y) else pearson(_ranks(x), _ranks(y))


def is_constant(values):
    """Return whether correlation is undefined: a sequence has fewer than two different numbers, or one not finite."""
    values = np.asarray(values, np.float64)
    return not len(values) or not np.isfinite(values).all() or bool((values == values[0]).all())


def _ranks(values):
    _, inverse, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
