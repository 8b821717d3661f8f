"""Recall and reciprocal ranks by hand; ties do not favour the relevant candidate."""
import numpy as np
import pytest

from tfzoo.metrics import retrieval
from tfzoo.metrics.retrieval import cosines, retrieval_scores


def slow_ranks(query, candidates, relevant, ignored):
    """Rank by sorting, with relevant candidates last among equals."""
    def similarity(number):
        one = candidates[number]
        return round(float(query @ one / np.linalg.norm(query) / np.linalg.norm(one)), 6)

    kept = [number for number in range(len(candidates)) if number in relevant or number not in ignored]
    kept.sort(key=lambda number: (-similarity(number), number in relevant))
    return [kept.index(number) + 1 for number in relevant]


def test_metrics_are_those_of_a_full_sort(monkeypatch):
    monkeypatch.setattr(retrieval, "BLOCK", 100)  # several blocks
    rng = np.random.default_rng(0)
    queries, candidates = rng.integers(-2, 3, (30, 3)) + 0.5, rng.integers(-2, 3, (40, 3)) + 0.5  # many ties
    relevant = [list(map(int, rng.choice(40, rng.integers(1, 4), replace=False))) for _ in queries]
    ignored = [list(map(int, rng.choice(40, 2))) for _ in queries]
    ranks = [slow_ranks(*each) for each in zip(queries, [candidates] * 30, relevant, ignored)]
    found = {name: values.mean() for name, values in retrieval_scores(queries, candidates, relevant, ignored).items()}
    for k in (1, 5, 10):
        assert found[f"recall@{k}"] == pytest.approx(np.mean([np.mean(np.array(each) <= k) for each in ranks]))
    assert found["mrr"] == pytest.approx(np.mean([1 / min(each) if min(each) <= 10 else 0 for each in ranks]))
    assert 0 < found["recall@1"] < found["recall@10"] < 1


def test_equal_vectors_find_nothing():
    same = np.ones((20, 4), np.float32)
    found = retrieval_scores(same[:3], same * 3, [[0], [1], [19]])
    assert {name: values.tolist() for name, values in found.items()} == dict.fromkeys(
        ("recall@1", "recall@5", "recall@10", "mrr"), [0, 0, 0])
    assert retrieval_scores(same[:1], same[:1], [[0]])["mrr"] == [1]


def test_cosines_of_zero_vectors_are_zero():
    assert cosines([[0, 0], [3, 4]], [[1, 0], [3, 0]]) == pytest.approx([0, 0.6])
