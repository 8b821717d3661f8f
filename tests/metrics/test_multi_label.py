"""Metrics of sets of labels against scikit-learn at every threshold, and by hand."""
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tfzoo.metrics.multi_label import label_set_metrics


def at(threshold, true, probabilities):
    found = probabilities >= threshold
    values = {f"{name}_f1": f1_score(true, found, average=f"{name}{'s' * (name == 'sample')}", zero_division=0)
              for name in ("micro", "macro", "sample")}
    return {**values, "subset_accuracy": accuracy_score(true, found)}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_they_are_scikit_learn_s_and_the_best_over_all_thresholds(share):
    rng = np.random.default_rng(int(10 * share))
    for digits, rows, labels in ((1, 1, 2), (1, 12, 3), (5, 9, 3)):
        true = rng.random((rows, labels)) < share
        probabilities = np.round(rng.random((rows, labels)), digits).astype(np.float32)
        metrics = label_set_metrics(true, probabilities, [str(label) for label in range(labels)])
        every = [at(threshold, true, probabilities) for threshold in (*np.unique(probabilities), 2)]
        for name, value in at(0.5, true, probabilities).items():
            assert metrics[name] == pytest.approx(value, abs=1e-12)
            assert metrics[f"best_{name}"] == pytest.approx(max(one[name] for one in every), abs=1e-12)
        assert metrics["best_micro_f1"] == pytest.approx(
            at(metrics["best_threshold"], true, probabilities)["micro_f1"], abs=1e-12)


def test_by_hand():
    true = [[1, 0], [1, 1], [0, 0]]
    metrics = label_set_metrics(true, np.array([[0.9, 0.2], [0.3, 0.5], [0.1, 0.25]]), ["a", "b"])
    # At 0.5: a is found in row 1 and b in row 2; a is missed in row 2.
    assert metrics["micro_f1"] == 2 * 2 / (2 + 3) and metrics["f1/a"] == 2 / 3 and metrics["f1/b"] == 1
    assert metrics["macro_f1"] == (2 / 3 + 1) / 2 and metrics["sample_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert metrics["subset_accuracy"] == 2 / 3  # rows 1 and 3
    # At 0.3, all three are found and nothing else.
    assert metrics["best_threshold"] == 0.3
    assert metrics["best_micro_f1"] == metrics["best_macro_f1"] == metrics["best_subset_accuracy"] == 1
    assert not [name for name in label_set_metrics(np.eye(101), np.eye(101), list(map(str, range(101)))) if "/" in name]
