"""Intervals and tests by resampling against exact distributions, scipy, and resamples scored one by one."""
import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, precision_score

from experiments.report import bootstrap as module
from experiments.report.bootstrap import (
    Score, bootstrap, correlation, f1, interval, macro, mcnemar, paired, precision, share)
from experiments.report.calibration import calibration
from experiments.report.evidence import one_hot_counts


@pytest.mark.parametrize("count, right", [(50, 40), (400, 30), (1000, 999)])
def test_an_accuracy_is_resampled_from_the_binomial_distribution(count, right):
    score = Score(np.arange(count) < right)
    draws = bootstrap({"accuracy": score}, resamples=20000)["accuracy"]
    share_right = right / count
    assert score.value == share_right and draws.mean() == pytest.approx(share_right, abs=5e-3)
    assert draws.std() == pytest.approx((share_right * (1 - share_right) / count) ** 0.5, rel=0.05)
    exact = stats.binom.ppf([0.025, 0.975], count, share_right) / count
    assert np.abs(np.array(interval(draws)) - exact).max() < 1.01 / count


def test_each_resample_is_scored_as_sklearn_scores_it():
    rng = np.random.default_rng(1)
    true, predicted = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    true[true == 3] = 0  # a class that is only predicted, and so absent from some resamples
    counts = one_hot_counts(true, predicted, 5)
    draws = bootstrap({"f1": Score(counts, macro(f1)), "precision": Score(counts, macro(precision)),
                       "classes": Score(counts, f1)}, resamples=30, seed=7)
    drawn = np.random.default_rng(7).integers(60, size=(30, 60))
    for number, rows in enumerate(drawn):
        one, other = true[rows], predicted[rows]
        assert draws["f1"][number] == pytest.approx(f1_score(one, other, average="macro", zero_division=0))
        assert draws["precision"][number] == pytest.approx(precision_score(one, other, average="macro",
                                                                           zero_division=0))
        assert draws["classes"][number] == pytest.approx(f1_score(one, other, average=None, labels=range(5),
                                                                  zero_division=0))


def test_micro_averages_weigh_examples_by_their_counts(monkeypatch):
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 3, (40, 3))
    counts[:, 0] = counts.min(1)
    words = np.stack([counts[:, 0], counts[:, 0] + 1], 1)
    scores = {"f1": Score(counts, f1), "accuracy": Score(words, share)}
    draws = bootstrap(scores, resamples=30, seed=3)
    for number, rows in enumerate(np.random.default_rng(3).integers(40, size=(30, 40))):
        right, true, predicted = counts[rows].sum(0)
        assert draws["f1"][number] == pytest.approx(2 * right / (true + predicted))
        assert draws["accuracy"][number] == words[rows, 0].sum() / words[rows, 1].sum()
    monkeypatch.setattr(module, "_DRAWN", 100)  # in chunks, with the same result
    assert all(np.array_equal(each, draws[name]) for name, each in bootstrap(scores, resamples=30, seed=3).items())


@pytest.mark.parametrize("ranked, reference", [(False, stats.pearsonr), (True, stats.spearmanr)])
def test_correlations_of_resamples_are_those_of_scipy(ranked, reference):
    rng = np.random.default_rng(6)
    x = rng.integers(0, 8, 30) / 2  # with ties
    y = x + 1e6 + 2 * rng.standard_normal(30)
    score = correlation(x, y, ranked)
    assert score.value == pytest.approx(reference(x, y).statistic)
    draws = bootstrap({"correlation": score}, resamples=50, seed=8)["correlation"]
    for number, rows in enumerate(np.random.default_rng(8).integers(30, size=(50, 30))):
        assert draws[number] == pytest.approx(reference(x[rows], y[rows]).statistic)
    assert correlation([1, 1, 1], [1, 2, 3], ranked).value == 0


@pytest.mark.parametrize("ranked", [False, True])
def test_the_correlation_of_a_constant_resample_is_0(ranked):
    # Constant numbers differ from their rounded mean: numpy/numpy#32446, pola-rs/polars#29344.
    x, y = np.array([0.1, 0.3, 0.3, 0.3, 0.3, 0.3]), np.array([5.0, 0.1, 0.7, 1.1, 2.3, 0.2])
    times = np.array(list(itertools.product(range(4), repeat=5)), np.float64)[1:]
    times = np.concatenate([np.zeros((len(times), 1)), times], 1)  # without the one that differs
    for one, other in ((x, y), (y, x)):
        assert not correlation(one, other, ranked).on(times).any()


def test_a_model_does_not_differ_from_itself():
    score = Score(np.arange(100) < 70)
    draws = bootstrap({"a": score})["a"]
    assert paired(score.value, score.value, draws, draws) == {"difference": 0.0, "low": 0.0, "high": 0.0,
                                                              "p_value": 1.0}


@pytest.mark.parametrize("better, worse", [(60, 40), (52, 48), (150, 80)])
def test_a_paired_difference_follows_its_normal_approximation(better, worse):
    right = np.arange(1000) < better
    other = (np.arange(1000) >= better) & (np.arange(1000) < better + worse)
    one, two = Score(right), Score(other)
    draws = bootstrap({"one": one, "two": two}, resamples=20000)
    found = paired(one.value, two.value, draws["one"], draws["two"])
    difference = (better - worse) / 1000
    error = ((better + worse) / 1000 - difference ** 2) ** 0.5 / 1000 ** 0.5
    assert found["difference"] == pytest.approx(difference)
    assert (found["low"], found["high"]) == pytest.approx(
        (difference - 1.96 * error, difference + 1.96 * error), abs=0.1 * error)
    expected = 2 * stats.norm.sf((difference - 0.0005) / error)  # with the correction for steps of 1 / 1000
    assert found["p_value"] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("one, other", [(0, 0), (1, 0), (10, 3), (3, 10), (5, 5), (600, 500), (2000, 2100)])
def test_mcnemar_is_the_binomial_test_of_the_examples_on_which_they_differ(one, other):
    right = np.repeat([True, True, False, False], [20, one, other, 7])
    other_right = np.repeat([True, False, True, False], [20, one, other, 7])
    found = mcnemar(right, other_right)
    assert (found["only_one"], found["only_other"]) == (one, other)
    expected = stats.binomtest(one, one + other).pvalue if one + other else 1.0
    assert found["p_value"] == pytest.approx(expected, rel=1e-9)


def test_the_calibration_error_by_hand():
    found = calibration([0.95, 0.95, 0.55, 1.0, 0.2], [True, False, True, True, False])
    # (14/15, 1]: three with mean 2.9 / 3 and accuracy 2 / 3; (8/15, 9/15]: one, 0.55 and 1; (2/15, 3/15]: one, 0.2, 0.
    assert found["ece"] == pytest.approx((3 * (2.9 / 3 - 2 / 3) + 0.45 + 0.2) / 5)
    full = {number: each for number, each in enumerate(found["bins"]) if each["count"]}
    assert list(full) == [2, 8, 14] and [each["count"] for each in full.values()] == [1, 1, 3]
    assert full[14]["accuracy"] == pytest.approx(2 / 3) and full[14]["probability"] == pytest.approx(2.9 / 3)
    assert calibration([0.0], [False])["bins"][0]["count"] == 1 and len(found["bins"]) == 15


def test_perfectly_calibrated_answers_have_almost_no_error():
    probabilities = np.random.default_rng(0).random(100000)
    right = np.random.default_rng(1).random(100000) < probabilities
    assert calibration(probabilities, right)["ece"] < 0.01
    assert calibration(probabilities, right & (np.arange(100000) % 2 == 0))["ece"] == pytest.approx(0.25, abs=0.01)
