"""Correlations against SciPy, and their values where they are undefined."""
import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import matthews_corrcoef

from tfzoo.errors import DataError
from tfzoo.metrics.confusion import confusion_metrics
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


@pytest.mark.parametrize("values", [[1.0, np.nan, 2.0], [np.inf, 1.0, 2.0]])
def test_correlations_with_values_that_are_not_finite_are_0(values):
    assert pearson(values, [1, 2, 3]) == pearson([1, 2, 3], values) == spearman(values, [1, 2, 3]) == 0
    assert is_constant(values)


def test_matthews_correlation_is_scikit_learn_s():
    rng = np.random.default_rng(0)
    for labels, count in ((2, 30), (2, 3), (5, 200), (9, 4)):
        true, found = rng.integers(0, labels, count), rng.integers(0, labels, count)
        found = np.where(rng.random(count) < 0.4, true, found)
        counts = [np.bincount(ids, minlength=labels) for ids in (true[true == found], true, found)]
        metrics = confusion_metrics(counts, [str(label) for label in range(labels)])
        assert metrics["mcc"] == pytest.approx(matthews_corrcoef(true, found), abs=1e-12)
    # By hand: 6 true positives, 3 true negatives, 1 false positive, 2 false negatives.
    metrics = confusion_metrics([[3, 6], [4, 8], [5, 7]], ["no", "yes"])
    assert metrics["mcc"] == pytest.approx((6 * 3 - 1 * 2) / (7 * 8 * 4 * 5) ** 0.5)
    assert confusion_metrics([[0, 3], [2, 3], [0, 5]], ["no", "yes"])["mcc"] == 0  # constant predictions
