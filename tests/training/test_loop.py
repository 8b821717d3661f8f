"""The training loop: the best weights at the end, early stopping, resuming, and non-finite losses."""
import contextlib
import errno
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import tfzoo.training.loop as loop_module
from tests.helpers import BARE
from tfzoo.errors import DataError, Diverged, Interrupted
from tfzoo.training.checkpointing import Checkpoints
from tfzoo.training.loop import Loop, Pace, _Window
from tfzoo.training.run_folder import RunFolder


class Scripted:
    """Trainer with scripted evaluations, whose weights count the steps."""

    def __init__(self, values, better=max):
        self.values, self.step, self.weights, self.seen = dict(values), 0, 0, []
        self.task = types.SimpleNamespace(better=("score", better),
                                          metrics=lambda sums: {"sum": float(sums["loss"]), "loss": 1.0},
                                          shown=("score",))
        self.evaluator = self

    shared, base = False, None

    def train(self, data, until, stopped):
        for step in range(self.step + 1, until + 1):
            stop = stopped()
            self.step = self.weights = step
            self.seen.append(step)
            finite = bool(np.isfinite(data.loss(step)))
            yield step, {"loss": np.float32(data.loss(step) if finite else 0)}, 1.0, finite, float(stop), 8, 0.0

    averages = contextlib.nullcontext

    def is_finite(self):
        return bool(np.isfinite(self.weights))

    def use_averages(self):
        return None

    def evaluate(self, data, progress):
        list(progress([1, 2, 3], 3))
        return {"score": self.values.get(self.step, 0.0), "loss": 1.0}

    def arrays(self):
        return {"model": {"w": np.array(self.weights)}, "optimizer": {"step": np.array(self.step)}}

    def restore(self, arrays):
        self.weights, self.step = int(arrays["model"]["w"]), int(arrays["optimizer"]["step"])


def run(folder, trainer, pace, loss=lambda step: 1.0):
    data = types.SimpleNamespace(batch_size=4, loss=loss, numbers=None,
                                 examples=lambda step: [10 * step, 10 * step + 1])
    with RunFolder(folder) as run_folder:
        state = run_folder.create("--x", {"x": 1})
        checkpoints = Checkpoints(folder / "checkpoints", 2)
        loop = Loop(trainer, data, run_folder, checkpoints, pace, eval_data=object())
        if state == "resumable":
            loop.resume(checkpoints.latest())
        return loop.run_to_end(), run_folder.records(), checkpoints


def timeless(records):
    return [{key: value for key, value in record.items() if key not in ("tokens_per_second", "data_wait")}
            for record in records]


def test_the_best_weights_are_put_back(tmp_path):
    trainer = Scripted({2: 0.5, 4: 0.9, 6: 0.7, 8: 0.8})
    results, records, checkpoints = run(tmp_path, trainer, Pace(8, 2, 2, 2))
    assert results["best_step"] == 4 and results["score"] == 0.9 and results["steps"] == 8
    assert trainer.weights == 4 and checkpoints.best()["step"] == 4 and checkpoints.steps() == [4, 6, 8]
    assert [r["step"] for r in records if r["split"] == "eval"] == [2, 4, 6, 8]


def test_what_was_trained_on_frozen_weights_goes_on_upon_these_only(tmp_path):
    trainer = Scripted({2: 0.5})
    trainer.base = "one"
    run(tmp_path, trainer, Pace(2, 1, 2, 2))
    other = Scripted({4: 0.5})
    other.base = "other"
    for base in ("other", None):
        other.base = base
        with pytest.raises(DataError, match="trained with different frozen weights: resume with the --init"):
            run(tmp_path, other, Pace(4, 1, 2, 2))
    other.base = "one"
    results, records, _ = run(tmp_path, other, Pace(4, 1, 2, 2))
    assert results["steps"] == 4 and [r["step"] for r in records if r["split"] == "train"] == [1, 2, 3, 4]


def test_smaller_is_better_for_a_loss(tmp_path):
    results, _, _ = run(tmp_path, Scripted({2: 0.5, 4: 0.3, 6: 0.4}, min), Pace(6, 2, 2, 2))
    assert results["best_step"] == 4


def test_a_record_sums_its_steps_in_float32_in_their_order(tmp_path):
    losses = (np.random.default_rng(0).random(201) * 1e6).astype(np.float32)
    _, records, _ = run(tmp_path, Scripted({}), Pace(200, 100, 0, 70), loss=lambda step: losses[step])
    expected = [np.float32(0), np.float32(0)]
    for step in range(1, 201):
        expected[step > 100] += losses[step]
    assert [record["sum"] for record in records if record["split"] == "train"] == list(map(float, expected))


def test_patience_ends_the_run(tmp_path):
    trainer = Scripted({1: 0.5, 2: 0.6, 3: 0.6, 4: 0.1, 5: 0.9})
    results, _, _ = run(tmp_path, trainer, Pace(50, 1, 1, 1, patience=2))
    assert trainer.seen == [1, 2, 3, 4] and results["best_step"] == 2


def test_the_counters_survive_a_stop(tmp_path):
    values = {2: 0.5, 4: 0.9, 6: 0.7, 8: 0.8, 10: 0.1}
    first = Scripted(values)
    run(tmp_path, first, Pace(6, 2, 2, 2))
    second = Scripted(values)
    results, records, checkpoints = run(tmp_path, second, Pace(50, 2, 2, 2, patience=3))
    assert second.seen == [7, 8, 9, 10] and results["best_step"] == 4
    assert [r["step"] for r in records if r["split"] == "train"] == [2, 4, 6, 8, 10]


def test_updates_that_are_not_finite_end_the_run_and_keep_the_last_good_checkpoint(tmp_path, capsys):
    trainer = Scripted({2: 0.5, 4: 0.6})
    with pytest.raises(Diverged, match="4 consecutive updates up to step 8 .*--learning_rate"):
        run(tmp_path, trainer, Pace(20, 2, 2, 2, max_bad_steps=4), loss=lambda step: np.nan if step >= 5 else 1.0)
    assert Checkpoints(tmp_path / "checkpoints", 2).latest() == 4
    assert "step 5: the loss or gradients are not finite" in capsys.readouterr().err


@pytest.mark.parametrize("pace", [Pace(6, 6, 2, 2), Pace(7, 7, 0, 2), Pace(6, 6, 0, 2, max_bad_steps=9)])
def test_weights_that_are_not_finite_end_the_run_and_are_never_saved_or_the_best(pace, tmp_path):
    trainer = Scripted({2: 0.5, 4: 0.6, 6: 0.9, 7: 0.9})
    trainer.is_finite = lambda: trainer.step < 5  # the last update may overflow without a non-finite gradient
    with pytest.raises(Diverged, match="the weights are not finite at step 6: lower --learning_rate"):
        run(tmp_path, trainer, pace, loss=lambda step: np.nan if step > 5 and pace.max_bad_steps == 9 else 1.0)
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2)
    assert checkpoints.latest() == 4 and (not pace.eval_every or checkpoints.best()["step"] == 4)


def test_single_bad_updates_are_logged_with_their_examples_and_the_run_goes_on(tmp_path):
    results, records, checkpoints = run(tmp_path, Scripted({}), Pace(12, 4, 0, 2, max_bad_steps=2),
                                        loss=lambda step: np.inf if step in (3, 6, 8, 10) else 1.0)
    assert results["steps"] == 12 and checkpoints.steps() == [4, 12]  # none at steps 6 and 8, during bad steps
    skipped = [record.get("skipped") for record in records if record["split"] == "train"]
    assert skipped == [[{"step": 3, "examples": [20, 21]}],
                       [{"step": 6, "examples": [50, 51]}, {"step": 8, "examples": [70, 71]}],
                       [{"step": 10, "examples": [90, 91]}]]


def test_a_stop_before_an_evaluation_loses_neither_it_nor_the_best(tmp_path, monkeypatch):
    values = {2: 0.5, 4: 0.9, 6: 0.7, 8: 0.8, 10: 0.1}
    pace = Pace(10, 3, 2, 2)  # the stop falls between two records
    whole = run(tmp_path / "whole", Scripted(values), pace, loss=float)
    first = Scripted(values)
    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "stop_requests", lambda: contextlib.nullcontext(lambda: first.step >= 4))
        with pytest.raises(Interrupted, match="same command"):
            run(tmp_path / "cut", first, pace, loss=float)
    cut = run(tmp_path / "cut", Scripted(values), pace, loss=float)
    assert timeless(cut[1]) == timeless(whole[1])
    assert cut[2].best() == whole[2].best() and cut[0]["best_step"] == whole[0]["best_step"] == 4


def test_a_stop_amid_an_evaluation_gives_it_up_and_makes_it_later(tmp_path, monkeypatch):
    values = {4: 0.9, 8: 0.8}
    pace = Pace(8, 2, 4, 4)
    whole = run(tmp_path / "whole", Scripted(values), pace)
    asked = []

    def stopped():  # at the second batch of the first evaluation
        asked.append(1)
        return len(asked) >= 6

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "stop_requests", lambda: contextlib.nullcontext(stopped))
        with pytest.raises(Interrupted, match="step 4, saved"):
            run(tmp_path / "cut", Scripted(values), pace)
    assert [r["split"] for r in RunFolder(tmp_path / "cut").records()] == ["train", "train"]
    cut = run(tmp_path / "cut", Scripted(values), pace)
    assert [r["split"] for r in cut[1]] == [r["split"] for r in whole[1]]
    assert cut[2].best() == whole[2].best() and cut[0]["best_step"] == 4


def test_a_save_that_fails_is_tried_again_and_only_the_last_one_ends_the_run(tmp_path, monkeypatch, capsys):
    refuse, save = [True], Checkpoints.save

    def fail(self, step, arrays, state):
        if step >= 4 and refuse[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, step, arrays, state)

    monkeypatch.setattr(Checkpoints, "save", fail)
    values = {2: 0.5, 4: 0.9, 6: 0.7, 8: 0.8}
    with pytest.raises(OSError, match="No space left on device"):
        run(tmp_path / "full", Scripted(values), Pace(8, 2, 2, 2))
    assert Checkpoints(tmp_path / "full" / "checkpoints").steps() == [2]
    assert capsys.readouterr().err.count("could not be saved") == 3
    trainer = Scripted(values)
    evaluate = trainer.evaluate

    def and_make_space(data, progress):
        refuse[0] = trainer.step < 6
        return evaluate(data, progress)

    trainer.evaluate = and_make_space
    results, records, checkpoints = run(tmp_path / "mended", trainer, Pace(8, 2, 2, 2))
    # Step 4 is the best: it was kept in memory until it could be written.
    assert checkpoints.best()["step"] == 4 and checkpoints.steps() == [4, 6, 8] and trainer.weights == 4


STOPS = """
import os, signal, sys
import numpy as np
from tfzoo.training.signals import stop_requests
with stop_requests() as stopped:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopped()
    print("first", flush=True)
    # The second arrives while the interpreter is in C, as in a long step, where no Python handler can run.
    os.system(f"(sleep 0.2; kill -{int(getattr(signal, sys.argv[1]))} {os.getpid()}) &")
    np.ones((9000, 9000), np.float32) @ np.ones((9000, 9000), np.float32)
    print("second", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(number):
    with subprocess.Popen([sys.executable, "-c", BARE + STOPS, number.name], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"first\n"
        begin = time.monotonic()
        assert (process.wait(), process.stdout.read()) == (128 + number, b"")
    assert time.monotonic() - begin < 3  # the matrix product takes longer


def test_a_stop_at_the_last_step_does_not_lose_its_evaluation(tmp_path, monkeypatch):
    values, pace = {4: 0.5, 8: 0.9}, Pace(8, 2, 4, 4)
    trainer = Scripted(values)
    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "stop_requests", lambda: contextlib.nullcontext(lambda: trainer.step >= 7))
        with pytest.raises(Interrupted, match="step 8, saved"):
            run(tmp_path, trainer, pace)
    results, records, checkpoints = run(tmp_path, Scripted(values), pace)
    assert results["best_step"] == 8 and checkpoints.best()["step"] == 8
    assert [record["step"] for record in records if record["split"] == "eval"] == [4, 8]


def test_a_best_that_is_found_at_a_skipped_update_is_saved(tmp_path):
    results, _, checkpoints = run(tmp_path, Scripted({2: 0.5, 4: 0.9, 6: 0.7}), Pace(6, 2, 2, 2),
                                  loss=lambda step: np.nan if step == 4 else 1.0)
    assert results["best_step"] == 4 and checkpoints.best()["step"] == 4


def test_records_that_the_disk_refuses_do_not_lose_the_best(tmp_path, monkeypatch):
    trainer, sync = Scripted({2: 0.5, 4: 0.9, 6: 0.7}), RunFolder.sync

    def fail(self):
        if trainer.step == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(self)

    monkeypatch.setattr(RunFolder, "sync", fail)
    results, _, checkpoints = run(tmp_path, trainer, Pace(6, 2, 2, 2))
    assert results["best_step"] == 4 and checkpoints.best()["step"] == 4 and trainer.weights == 4


def test_a_record_of_skipped_updates_alone_has_no_metrics(tmp_path):
    trainer = Scripted({})
    train = trainer.train
    trainer.train = lambda *inputs: ((step, {**sums, "count": np.float32(finite)}, norm, finite, *rest)
                                     for step, sums, norm, finite, *rest in train(*inputs))
    _, records, _ = run(tmp_path, trainer, Pace(3, 1, 0, 3), loss=lambda step: np.nan if step == 2 else 1.0)
    assert [sorted(record) for record in records if record["split"] == "train"][1] == [
        "data_wait", "gradient_norm", "skipped", "split", "step", "tokens_per_second"]


def test_sums_of_a_release_with_whole_confusion_matrices_go_on():
    window = _Window({"loss": 1.5, "confusion": [[3, 1], [2, 4]]})
    window.add({"loss": 0.5, "labels": [[1, 0], [1, 1], [2, 0]]}, norm=1.0, tokens=1, seconds=1.0, waited=0.0)
    assert window.values()["loss"] == 2
    assert window.values()["labels"].tolist() == [[4, 4], [5, 7], [7, 5]]
