"""The mean of the last checkpoints: its numbers, the final weights of a run, and a run killed before its results."""
import types

import numpy as np
import pytest

from tests.training.test_loop import Scripted
from tfzoo.errors import ConfigError
from tfzoo.training.averaging import average_checkpoints
from tfzoo.training.checkpointing import Checkpoints
from tfzoo.training.loop import Loop, Pace
from tfzoo.training.run_folder import RunFolder
from tfzoo.training.settings import Settings


def run(folder, trainer, pace, average):
    data = types.SimpleNamespace(batch_size=4, loss=lambda step: 1.0, numbers=None, examples=lambda step: [step])
    with RunFolder(folder) as run_folder:
        state = run_folder.create("--x", {"x": 1})
        checkpoints = Checkpoints(folder / "checkpoints", max(2, average))
        loop = Loop(trainer, data, run_folder, checkpoints, pace, eval_data=object(), average=average)
        if state == "resumable":
            loop.resume(checkpoints.latest())
        return loop.run_to_end(), run_folder.records()


def test_the_mean_of_the_newest_checkpoints_is_exact(tmp_path, capsys):
    rng, checkpoints = np.random.default_rng(0), Checkpoints(tmp_path, keep=4)
    saved = {step: {"model": {"w": rng.standard_normal(9).astype(np.float32) * 1e4},
                    "optimizer": {"m": np.full(2, step, np.float32)}} for step in (2, 4, 6, 8)}
    for step, arrays in saved.items():
        checkpoints.save(step, arrays, {})
    arrays, steps = average_checkpoints(checkpoints, 3, 8)
    expected = np.mean([saved[step]["model"]["w"].astype(np.float64) for step in (4, 6, 8)], 0).astype(np.float32)
    assert steps == [4, 6, 8] and np.array_equal(arrays["model"]["w"], expected)
    assert arrays["model"]["w"].dtype == np.float32 and arrays["optimizer"]["m"].tolist() == [8, 8]
    assert average_checkpoints(checkpoints, 3, 6)[1] == [2, 4, 6] and not capsys.readouterr().err
    assert average_checkpoints(checkpoints, 9, 8)[1] == [2, 4, 6, 8]
    assert "--average_checkpoints=9: the run has only 4 checkpoints" in capsys.readouterr().err


def test_the_run_ends_with_the_mean_its_metrics_and_one_record_however_often_it_is_killed(tmp_path):
    trainer = Scripted({3: 0.9})
    results, records = run(tmp_path, trainer, Pace(9, eval_every=3, save_every=3), average=3)
    assert trainer.weights == 6 and results["averaged_steps"] == [3, 6, 9] and "best_step" not in results
    assert [record["step"] for record in records if record["split"] == "average"] == [9]
    again = Scripted({3: 0.9})  # killed before results.json was written
    other, records = run(tmp_path, again, Pace(9, eval_every=3, save_every=3), average=3)
    assert again.weights == 6 and again.seen == [] and other["averaged_steps"] == [3, 6, 9]
    assert [record["step"] for record in records if record["split"] == "average"] == [9]
    more = Scripted({3: 0.9})  # training continues from the last weights, not from their mean
    assert run(tmp_path, more, Pace(12, eval_every=3, save_every=3), average=2)[0]["averaged_steps"] == [9, 12]
    assert more.seen == [10, 11, 12] and more.weights == (9 + 12) // 2


def test_two_kinds_of_averages_are_refused():
    with pytest.raises(ConfigError, match="--average_checkpoints=3 and --ema_decay=0.9: give only one"):
        Settings.resolve({"task": "classification", "model": "bert_tiny", "tokenizer": "bytes", "data": "x",
                          "output_dir": "y", "average_checkpoints": 3, "ema_decay": 0.9})
