"""Prefetched batches are in order, raise their errors when they are due, and report waiting times."""
import threading
import time

import pytest

from tfzoo.data.loader import prefetch


def test_batches_come_in_order_and_are_made_ahead_in_bursts():
    made, counts = [], []
    for number, (batch, _) in enumerate(prefetch(lambda step: made.append(step) or step, range(5, 17), depth=8), 5):
        time.sleep(0.01)  # let the thread make the requested batches
        counts.append(len(made))
        assert batch == number
    assert made == list(range(5, 17)) and counts == [8] * 4 + [12] * 8


def test_the_time_of_waiting_is_what_the_work_between_does_not_hide():
    def slow(step):
        time.sleep(0.04)

    waits = []
    for _, waited in prefetch(slow, range(10)):
        waits.append(waited)
        time.sleep(0.01)
    assert sum(waits) == pytest.approx(10 * 0.04 - 9 * 0.01, rel=0.15)


def test_nothing_waits_for_data_that_are_quicker_than_the_work():
    waits = []
    for _, waited in prefetch(lambda step: time.sleep(0.002), range(10)):
        waits.append(waited)
        time.sleep(0.02)
    assert sum(waits[1:]) < 0.02 * 9 * 0.02  # no work hides the wait for the first batch


def test_an_error_comes_where_its_batch_is_due_and_the_thread_ends():
    def fail_at_3(step):
        if step == 3:
            raise ValueError("batch 3")
        return step

    got, threads = [], threading.active_count()
    with pytest.raises(ValueError, match="batch 3"):
        for batch, _ in prefetch(fail_at_3, range(10)):
            got.append(batch)
    assert got == [0, 1, 2] and threading.active_count() == threads


def test_no_batch_is_made_after_the_loop_is_left():
    made, batches = [], prefetch(lambda step: made.append(step), range(100))
    next(batches)
    batches.close()
    assert len(made) <= 8
