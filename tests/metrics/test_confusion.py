"""Test accuracy, precision, recall and F1 against manual counts and scikit-learn."""
import time

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report, precision_recall_fscore_support

from tfzoo.metrics.confusion import confusion_metrics


def counts_of(true, predicted, labels):
    right = true[true == predicted]
    return np.stack([np.bincount(ids, minlength=labels) for ids in (right, true, predicted)])


def test_metrics_of_a_small_matrix():
    # The confusion matrix is [[3, 1, 0], [2, 4, 0], [0, 0, 0]].
    metrics = confusion_metrics([[3, 4, 0], [4, 6, 0], [5, 5, 0]], ["a", "b", "c"])
    assert metrics["accuracy"] == pytest.approx(0.7)
    assert metrics["precision"] == pytest.approx((3 / 5 + 4 / 5) / 2)
    assert metrics["recall"] == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert metrics["f1/a"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    assert metrics["f1"] == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert "f1/c" not in metrics


def test_no_example_at_all_counts_as_0():
    assert set(confusion_metrics(np.zeros((3, 2)), ["a", "b"]).values()) == {0}


@pytest.mark.parametrize("labels, rows", [(2, 1), (2, 30), (3, 7), (5, 6), (17, 40), (100, 60), (3000, 2000)])
def test_metrics_are_those_of_scikit_learn(labels, rows):
    names, generator = [f"label {number}" for number in range(labels)], np.random.default_rng(labels)
    for _ in range(20 if labels < 1000 else 2):
        true, predicted = generator.integers(labels, size=(2, rows))
        true = np.where(generator.random(rows) < 0.5, predicted, true)
        metrics = confusion_metrics(counts_of(true, predicted, labels), names)
        theirs = precision_recall_fscore_support(true, predicted, average="macro", zero_division=0)[:3]
        assert [metrics[name] for name in ("precision", "recall", "f1")] == pytest.approx(theirs, abs=1e-12)
        assert metrics["accuracy"] == pytest.approx(accuracy_score(true, predicted), abs=1e-12)
        report = classification_report(true, predicted, output_dict=True, zero_division=0) if labels <= 100 else {}
        theirs = {f"f1/label {name}": row["f1-score"] for name, row in report.items() if name.isdigit()}
        assert {name: value for name, value in metrics.items() if "/" in name} == pytest.approx(theirs)


def test_metrics_of_many_labels_are_quick():
    counts, start = np.ones((3, 100_000), np.int64), time.perf_counter()
    assert confusion_metrics(counts, [str(number) for number in range(100_000)])["f1"] == 1
    assert time.perf_counter() - start < 2
