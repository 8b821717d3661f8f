"""Correlations against SciPy, and their values where they are undefined."""
import numpy as np
import pytest
import scipy.stats

from tfzoo.errors import DataError
from tfzoo.metrics.correlation import is_constant, pearson, spearman


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_correlations_are_those_of_scipy_with_ties_at_any_scale(scale):
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = np.round(rng.standard_normal(50), 1)  # many ties
        y = np.round(x + rng.standard_normal(50), 1)
        assert spearman(x * scale, y) == pytest.approx(scipy.stats.spearmanr(x, y)[0], abs=1e-12)
        assert pearson(x * scale, y) == pytest.approx(scipy.stats.pearsonr(x, y)[0], abs=1e-12)


def test_constant_values_have_no_correlation():
    assert pearson([1, 1], [1, 2]) == spearman([1, 2], [3, 3]) == pearson([], []) == pearson([1], [2]) == 0.0
    assert is_constant([0.1] * 3) and is_constant([]) and not is_constant([1, 2])
    with pytest.raises(DataError, match="got 2 and 3"):
        spearman([1, 2], [1, 2, 3])
