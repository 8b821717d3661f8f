"""Properties of packing: each text once per epoch, no overfull rows, equally many rows per epoch, little padding."""
import numpy as np
import pytest

from tfzoo.data.packing import PackPlan, pack_lengths


def some_lengths(count=3000, room=64, seed=0):
    return np.minimum(3 + np.random.default_rng(seed).geometric(0.05, count), room)


@pytest.mark.parametrize("room", [8, 64, 333])
@pytest.mark.parametrize("count", [1, 50, 3000])
def test_rows_hold_every_text_and_hardly_any_padding(room, count):
    lengths = some_lengths(count, room)
    groups = pack_lengths(np.bincount(lengths, minlength=room + 1), room)
    packed = [length for rows, pattern in groups for length in pattern * rows]
    assert sorted(packed) == sorted(lengths)
    assert all(rows > 0 and 0 < sum(pattern) <= room for rows, pattern in groups)
    # Longest-first best fit needs at most 11/9 of the minimum number of rows (Johnson 1973).
    fewest = -(-int(lengths.sum()) // room)
    assert sum(rows for rows, _ in groups) <= 11 / 9 * max(fewest, (2 * lengths > room).sum()) + 1
    if count == 3000 and room > 8:
        assert sum(rows for rows, _ in groups) <= 1.01 * fewest


@pytest.mark.parametrize("seed", [None, 3])
def test_each_text_is_in_an_epoch_once(seed):
    lengths = some_lengths()
    plan = PackPlan(lengths, 64, seed)
    for epoch in (0, 5):
        rows = [plan.row(epoch, number) for number in range(plan.rows)]
        assert sorted(np.concatenate(rows)) == list(range(len(lengths)))
        assert max(lengths[row].sum() for row in rows) <= 64
    assert plan.padding == pytest.approx(1 - lengths.sum() / (64 * plan.rows)) and plan.padding < 0.01


def test_an_epoch_is_a_function_of_seed_and_epoch():
    lengths = some_lengths(200)

    def rows(plan, epoch):
        return [plan.row(epoch, number).tolist() for number in range(plan.rows)]

    plan, again, other = (PackPlan(lengths, 64, seed) for seed in (1, 1, 2))
    first, second = rows(plan, 0), rows(plan, 1)
    assert first != second and sorted(map(len, first)) == sorted(map(len, second))
    assert rows(again, 1) == second and rows(again, 0) == first and rows(other, 0) != first
    # The texts that share a row are also drawn anew.
    assert {tuple(sorted(row)) for row in first} != {tuple(sorted(row)) for row in second}
    assert rows(PackPlan(lengths, 64), 0) == rows(PackPlan(lengths, 64), 1)
