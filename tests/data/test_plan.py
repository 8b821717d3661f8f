"""Properties of the batch plan: each example once per epoch, few shapes, little padding."""
import numpy as np
import pytest

from tfzoo.data.plan import BatchPlan, choose_buckets


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(3, 70, 1003)


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("epoch", [0, 3])
def test_each_example_is_in_an_epoch_once_and_fits_its_batch(lengths, seed, epoch):
    plan = BatchPlan(lengths, 32, 64, seed)
    batches = plan.batches(epoch)
    rows = np.concatenate([part for _, part in batches])
    assert sorted(rows[rows >= 0]) == list(range(1003))
    assert len(batches) == plan.batches_per_epoch == -(-1003 // 32)
    for length, part in batches:
        assert min(64, lengths[part[part >= 0]].max()) <= length
        assert len(part) == 32 and length % 8 == 0


def test_the_order_is_a_function_of_seed_and_epoch(lengths):
    plan, again, other = (BatchPlan(lengths, 32, 64, seed) for seed in (1, 1, 2))
    first = [part.tolist() for _, part in plan.batches(0)]
    assert first == [part.tolist() for _, part in again.batches(0)]
    assert first != [part.tolist() for _, part in plan.batches(1)]
    assert first != [part.tolist() for _, part in other.batches(0)]


def test_a_step_continues_into_the_next_epoch(lengths):
    plan = BatchPlan(lengths, 32, 64, 1)
    assert plan.batch(plan.batches_per_epoch + 2)[1].tolist() == plan.batches(1)[2][1].tolist()


def test_buckets_are_the_best_of_all_choices():
    lengths = np.random.default_rng(1).integers(1, 49, 200)
    edges = [8, 16, 24, 32, 40, 48]

    def cost(buckets):
        return sum(min(b for b in buckets if b >= n) for n in lengths)
    best = min(cost((a, b, 48)) for a in edges for b in edges)
    assert cost(choose_buckets(lengths, 48, count=3)) == best


def test_the_longest_bucket_is_max_length_when_texts_are_cut():
    assert choose_buckets([5, 300, 12], 100)[-1] == 100
