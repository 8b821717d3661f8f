"""Precision, recall and F1 against counts done by hand."""
import pytest

from tfzoo.metrics.confusion import confusion_metrics


def test_metrics_of_a_small_matrix():
    metrics = confusion_metrics([[3, 1, 0], [2, 4, 0], [0, 0, 0]], ["a", "b", "c"])
    assert metrics["accuracy"] == pytest.approx(0.7)
    assert metrics["precision"] == pytest.approx((3 / 5 + 4 / 5 + 0) / 3)
    assert metrics["recall"] == pytest.approx((3 / 4 + 4 / 6 + 0) / 3)
    assert metrics["f1/a"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    assert metrics["f1"] == pytest.approx((6 / 9 + 8 / 11 + 0) / 3)


def test_a_matrix_of_zeros_counts_as_0():
    assert set(confusion_metrics([[0, 0], [0, 0]], ["a", "b"]).values()) == {0}
