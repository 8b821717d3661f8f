"""finetune --seeds: one resumable run per seed, and the mean and standard deviation of their metrics."""
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments import app, finetune, seeds
from tests.experiments.test_contract import TRAIN, last_json
from tests.helpers import CHECKOUT

FEW = [*TRAIN, "--steps=2"]


RESULTS = {0: {"loss": 1.0, "accuracy": 0.5, "steps": 2, "model": "m0"},
           3: {"loss": 2.0, "accuracy": 0.75, "steps": 2, "model": "m3"}}


@pytest.fixture
def here(monkeypatch):
    """Return a list of the words of each start; instead of training, RESULTS are printed."""
    started = []

    def start(words):
        started.append(words)
        return 0, "a line\n" + json.dumps(RESULTS[finetune.make_flags().parse(words).seed]) + "\n"

    monkeypatch.setattr(seeds, "start", start)
    return started


def test_mean_and_standard_deviation_of_each_metric(call, here, tmp_path, monkeypatch):
    words = [*FEW, "--data=x", "--remat", f"--output_dir={tmp_path / 'runs'}", "--seeds=0,3"]
    code, out, err = call("finetune", *words)
    found = last_json(out)
    assert code == 0 and found == {
        "seeds": [0, 3], "mean": {"loss": 1.5, "accuracy": 0.625}, "runs": [*RESULTS.values()],
        "std": pytest.approx({"loss": np.sqrt(0.5), "accuracy": np.sqrt(0.03125)})}  # n - 1 = 1
    assert json.loads((tmp_path / "runs" / "seeds.json").read_text()) == found and "seed 3 (2 of 2)" in err
    for seed, given in zip((0, 3), here, strict=True):
        expected = finetune.make_flags().parse([*words[:-2], f"--output_dir={tmp_path}/runs/seed_{seed}",
                                                f"--seed={seed}"])
        assert app.given(finetune.make_flags().parse(given)) == app.given(expected)
    assert call("finetune", f"--flagfile={tmp_path / 'runs' / 'flags.txt'}")[1] == out and here[2:] == here[:2]


def test_the_first_run_that_ends_early_ends_the_command(call, here, tmp_path, monkeypatch):
    words = [*FEW, "--data=x", f"--output_dir={tmp_path / 'runs'}", "--seeds=0,3"]

    def interrupted(given):
        raise KeyboardInterrupt

    for start, code, says in ((interrupted, 75, "interrupted: run the same command again"),
                              (lambda words: (70, ""), 70, "the run with --seed=0 ended with exit code 70: see")):
        monkeypatch.setattr(seeds, "start", start)
        assert call("finetune", *words)[:2] == (code, "") and not (tmp_path / "runs" / "seeds.json").exists()
        assert says in call("finetune", *words)[2]
    call("finetune", *words, "--batch_size=4")  # refused by the runs
    assert "--batch_size=8" in (tmp_path / "runs" / "flags.txt").read_text()


@pytest.mark.parametrize("more, says", [
    (["--seeds=1"], "--seeds=1 must be at least two different integers from 0"), (["--seeds=1,1"], "must be at least"),
    (["--seeds=0,-1"], "must be at least"), (["--seeds=0,x"], "must be at least"), (["--seeds="], "must be at least"),
    (["--seeds=0,18446744073709551616"], "from 0 to 18446744073709551615"),
    (["--seeds=0,1", "--seed=0"], "--seed=0 and --seeds=0,1: give only one of them")])
def test_seeds_that_make_no_sense_are_refused(call, here, reviews, tmp_path, more, says):
    code, out, err = call("finetune", *FEW, f"--data={reviews}", f"--output_dir={tmp_path / 'runs'}", *more)
    assert code == 1 and says in err and not out and not here and not (tmp_path / "runs").exists()


def test_the_folder_of_another_run_is_refused(call, here, reviews, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    code, _, err = call("finetune", *FEW, f"--data={reviews}", f"--output_dir={tmp_path / 'run'}", "--seeds=0,1")
    assert code == 1 and "contains a run that was trained without --seeds" in err and not here
    (tmp_path / "flags.txt").write_text("mine")
    code, _, err = call("finetune", *FEW, f"--data={reviews}", f"--output_dir={tmp_path}", "--seeds=0,1")
    assert code == 1 and "contains flags.txt" in err and (tmp_path / "flags.txt").read_text() == "mine"


def test_a_metric_that_is_not_finite_has_no_mean():
    runs = [{"loss": 1.0, "f1": None, "steps": 3}, {"loss": 2.0, "f1": 0.5, "steps": 3}, {"loss": 6.0, "f1": 0.5}]
    assert seeds._summary(runs) == {"mean": {"loss": 3.0, "f1": None}, "std": {"loss": np.sqrt(7.0), "f1": None}}


@pytest.mark.slow
def test_a_signal_saves_the_run_of_a_seed_and_the_next_call_goes_on(call, reviews, tmp_path, monkeypatch):
    def start(words):
        with contextlib.redirect_stdout(io.StringIO()) as output:
            code = app.execute(finetune.make_flags(), finetune.run, words)
        return code, output.getvalue()

    runs = tmp_path / "runs"
    words = [*TRAIN, "--steps=100000", "--warmup_steps=0", "--log_every=1", f"--data={reviews}",
             f"--output_dir={runs}", "--seeds=0,1"]
    process = subprocess.Popen([sys.executable, "-m", "experiments.finetune", *words], cwd=CHECKOUT,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if (runs / "seed_0" / "metrics.jsonl").exists() and (runs / "seed_0" / "metrics.jsonl").stat().st_size:
                break
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 75 and not out, err
    assert "run the same command again" in err.splitlines()[-1] and os.listdir(runs / "seed_0" / "checkpoints")
    monkeypatch.setattr(seeds, "start", start)  # in this process, to save time
    step = json.loads((runs / "seed_0" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    code, out, err = call("finetune", *words, f"--steps={step + 2}")
    assert code == 0 and f"resuming from step {step} of {step + 2}" in err, err
    assert [run["steps"] for run in last_json(out)["runs"]] == [step + 2] * 2
    before = (runs / "seed_0" / "metrics.jsonl").read_text()
    code, again, err = call("finetune", f"--flagfile={runs / 'flags.txt'}")
    assert code == 0 and again == out and "seed_1 is finished" in err
    assert (runs / "seed_0" / "metrics.jsonl").read_text() == before
    code, _, err = call("finetune", *words, "--batch_size=4")
    assert code == 1 and "batch_size (got 4, recorded 8)" in err
