"""Confidence intervals and paired tests by resampling examples (Efron and Tibshirani 1993), vectorized.

A score is a function of sums over examples, such as accuracy, micro-averaged F1 or corpus BLEU. A resample of the
examples is a vector of how often each one is drawn, so the sums of all resamples are one matrix product.
"""
import dataclasses
import typing

import numpy as np

RESAMPLES, INTERVAL = 1000, (2.5, 97.5)  # percentiles
_DRAWN = 2 ** 22  # examples drawn at once


def average(totals, count):
    """Return the mean over examples, [R], of one value per example."""
    return totals / count


def share(totals, count=None):
    """Return the ratio [R] of sums [R, 2] (part, whole); 0 if the whole is 0."""
    return totals[..., 0] / np.where(totals[..., 1], totals[..., 1], 1)


def precision(totals, count=None):
    """Return precision [...] from counts [..., 3] (right, true, predicted); 0 if nothing is predicted."""
    return share(totals[..., [0, 2]])


def recall(totals, count=None):
    """Return recall [...] from counts [..., 3] (right, true, predicted); 0 if nothing is true."""
    return share(totals[..., :2])


def f1(totals, count=None):
    """Return F1 [...] from counts [..., 3] (right, true, predicted); 0 if nothing is true or predicted."""
    return share(np.stack([2 * totals[..., 0], totals[..., 1] + totals[..., 2]], -1))


def macro(ratio):
    """Return the function that averages a ratio of counts [R, C, 3] over the classes that occur: callable -> [R]."""
    def averaged(totals, count=None):
        present = totals[..., 1:].any(-1)
        return (ratio(totals) * present).sum(-1) / np.maximum(present.sum(-1), 1)

    return averaged


@dataclasses.dataclass(frozen=True)
class Score:
    """A score of a data set as a function of sums over its examples.

    Attributes:
        values: [N, ...], what each example adds to the sums.
        of: callable that maps (sums [R, ...] over R data sets, their number of examples) to the scores, [R].
        summed: bool; if False, `of` gets how often each example is drawn, [R, N], instead of sums.
    """

    values: np.ndarray
    of: typing.Callable = average
    summed: bool = True

    @property
    def value(self):
        """Return the score of the data set itself: float."""
        return float(self.on(np.ones((1, len(self.values))))[0])

    def on(self, times):
        """Return the scores [R] of data sets in which each example occurs a number of times, float64 [R, N]."""
        if not self.summed:
            return self.of(times, times.shape[1])
        values = np.asarray(self.values, np.float64)
        return self.of((times @ values.reshape(len(values), -1)).reshape(len(times), *values.shape[1:]), len(values))


def correlation(x, y, ranked=False):
    """Return the Score of Pearson's correlation of two sequences of N numbers, or Spearman's, if ranked.

    It is 0 where either of them is constant.
    """
    x, y = (np.asarray(values, np.float64) for values in (x, y))

    def of(times, count):
        one, other = (_ranks(values, times) if ranked else values - values.mean() for values in (x, y))
        one, other = (values - (values * times).sum(1, keepdims=True) / count for values in (one, other))
        squares = (one ** 2 * times).sum(1) * (other ** 2 * times).sum(1)
        undefined = (squares == 0) | _is_constant(x, times) | _is_constant(y, times)
        return (one * other * times).sum(1) / np.sqrt(np.where(undefined, np.inf, squares))

    return Score(x, of, summed=False)


def _is_constant(values, times):
    # Whether all numbers drawn are equal, [R]; their distances from their mean need not be 0, because it is rounded.
    lowest, highest = (np.where(times > 0, values, limit) for limit in (np.inf, -np.inf))
    return lowest.min(1) == highest.max(1)


def _ranks(values, times):
    # The ranks [R, N] in data sets in which each number occurs a number of times; equal numbers share the mean rank.
    unique, inverse = np.unique(values, return_inverse=True)
    firsts = np.searchsorted(values[np.argsort(values, kind="stable")], unique)
    totals = np.add.reduceat(times[:, np.argsort(values, kind="stable")], firsts, axis=1)
    return (np.cumsum(totals, axis=1) - (totals - 1) / 2)[:, inverse]


def bootstrap(scores, resamples=RESAMPLES, seed=0):
    """Compute scores on random resamples of the examples, with replacement.

    Args:
        scores: dict of name to Score, all of the same N examples.
        resamples: int, R.
        seed: int; the same seed, N and R draw the same resamples.

    Returns:
        dict of name to float64 [R].

    Example:
        >>> draws = bootstrap({"accuracy": Score(np.array([1, 1, 0, 1]))}, resamples=1000)["accuracy"]
        >>> draws.shape, sorted(set(draws.tolist()))
        ((1000,), [0.0, 0.25, 0.5, 0.75, 1.0])
    """
    count = len(next(iter(scores.values())).values) if scores else 0
    rng, found = np.random.default_rng(seed), {name: [] for name in scores}
    for first in range(0, resamples, max(1, _DRAWN // max(count, 1))):
        rows = min(max(1, _DRAWN // max(count, 1)), resamples - first)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        for name, score in scores.items():
            found[name].append(score.on(times))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def interval(draws):
    """Return the 95 % percentile interval of a score's resamples [R]: (float, float)."""
    low, high = np.percentile(draws, INTERVAL)
    return float(low), float(high)


def paired(one, other, draws, other_draws):
    """Compare two systems on the same resamples of the same examples.

    The p-value is two-sided: the share of resamples in which the difference is as far from the observed one as the
    observed one is from 0 (the bootstrap of a difference shifted to the null hypothesis; Riezler and Maxwell 2005).

    Args:
        one, other: float, the scores of the systems.
        draws, other_draws: float [R], from `bootstrap` with the same seed.

    Returns:
        dict of float: `difference` (one - other), `low`, `high` and `p_value`.
    """
    difference, differences = one - other, draws - other_draws
    low, high = interval(differences)
    far = np.abs(differences - difference) >= abs(difference) - 1e-12  # rounding does not make a difference
    return {"difference": difference, "low": low, "high": high,
            "p_value": float((far.sum() + 1) / (len(far) + 1))}


def mcnemar(right, other_right):
    """Test whether two classifiers have the same accuracy (McNemar 1947; the exact binomial test).

    Args:
        right, other_right: bool [N], whether each classifier is right about each example.

    Returns:
        dict: `only_one` and `only_other`, int, the number of examples that only one of them gets right; and `p_value`,
        float, two-sided.
    """
    right, other_right = np.asarray(right, bool), np.asarray(other_right, bool)
    one, other = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    total, term, tail = one + other, 1, 0
    for number in range(min(one, other) + 1):  # exact integers, however many
        tail += term
        term = term * (total - number) // (number + 1)
    return {"only_one": one, "only_other": other, "p_value": min(1.0, 2 * tail / 2 ** total)}
