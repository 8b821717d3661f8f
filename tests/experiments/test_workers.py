"""Several workers: results equal to one process up to rounding, exact restarts after a lost worker, a common end."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.launch import free_ports
from tests.experiments.conftest import write_reviews
from tests.helpers import CHECKOUT
from tests.training.kills import compare, left_by, words_of


def start(folder, data, *launch, more=(), environment=None):
    words = words_of(folder, data, *more)
    command = ["experiments.launch", *launch, "--", "finetune"] if launch else ["experiments.finetune"]
    return subprocess.Popen([sys.executable, "-m", *command, *words], cwd=CHECKOUT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})})


def finish(process):
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err


def wait_for_step(folder, step, process):
    path = pathlib.Path(folder) / "metrics.jsonl"
    while process.poll() is None:
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate())


def workers_of(process):
    """Return the process numbers of launch's workers, in order."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(number) for number in children]


def go_on_exactly(folder, data, whole):
    """Start both workers again, and compare their results with those of the uninterrupted run."""
    code, _, err = finish(start(folder, data, "--workers=2"))
    assert code == 0 and "resuming from step" in err, err[-3000:]
    different, largest = compare(left_by(whole), left_by(folder))
    assert not different, (different, largest)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the data and the folder of an uninterrupted run of two workers."""
    folder = tmp_path_factory.mktemp("workers")
    data = write_reviews(folder / "reviews.jsonl", 100)
    code, out, err = finish(start(folder / "two", data, "--workers=2"))
    assert code == 0, err[-3000:]
    results = json.loads(out)
    assert results["steps"] == 60 and out.count("\n") == 1
    assert "[worker 0] " in err and "[worker 1] " in err and "2 device(s)" in err
    return data, folder / "two"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_workers_make_the_run_of_one(whole, tmp_path):
    data, two = whole
    code, _, err = finish(start(tmp_path / "one", data))
    assert code == 0, err[-3000:]
    one, two = left_by(tmp_path / "one"), left_by(two)
    assert one["steps"] == two["steps"] and one["best"]["step"] == two["best"]["step"]
    last = f"{one['steps'][-1]}/model/"
    for name in (name for name in one if name.startswith(last)):
        assert np.abs(one[name] - two[name]).max() < 1e-5, name
    for mine, other in zip(one["metrics.jsonl"], two["metrics.jsonl"], strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(1800)
def test_a_lost_worker_ends_all_and_the_run_goes_on_exactly(whole, tmp_path):
    data, two = whole
    process = start(tmp_path / "cut", data, "--workers=2")
    wait_for_step(tmp_path / "cut", 5, process)
    os.kill(workers_of(process)[1], signal.SIGKILL)
    begin = time.monotonic()
    code, out, err = finish(process)
    assert code == 128 + signal.SIGKILL and not out and time.monotonic() - begin < 60
    assert "Traceback" not in err, err[-3000:]
    go_on_exactly(tmp_path / "cut", data, two)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_signal_lets_all_workers_save_and_end(whole, tmp_path):
    data, two = whole
    process = start(tmp_path / "cut", data, "--workers=2")
    wait_for_step(tmp_path / "cut", 5, process)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 75 and "run the same command again" in err, err[-3000:]
    go_on_exactly(tmp_path / "cut", data, two)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(1800)
def test_a_worker_that_nobody_launched_ends_when_the_other_is_lost(tmp_path):
    data = write_reviews(tmp_path / "reviews.jsonl", 100)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    first, second = [start(tmp_path / "run", data, more=["--steps=4000"], environment={"TF_CONFIG": json.dumps(
        {"cluster": cluster, "task": {"type": "worker", "index": index}})}) for index in range(2)]
    wait_for_step(tmp_path / "run", 10, first)
    second.kill()
    begin = time.monotonic()
    code, _, err = finish(first)
    second.communicate()
    assert code not in (0, None) and time.monotonic() - begin < 60, (code, err[-3000:])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_slurm_s_variables_describe_the_workers(whole, tmp_path):
    data, two = whole
    slurm = {"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "localhost",
             "SLURM_STEP_TASKS_PER_NODE": "2"}
    processes = [start(tmp_path / "run", data, more=["--strategy=multi_worker"], environment={
        **slurm, "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}) for number in range(2)]
    for code, out, err in map(finish, processes):
        assert code == 0 and "2 device(s)" in err, err[-3000:]
    assert not compare(left_by(two), left_by(tmp_path / "run"))[0]


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_workers_that_would_train_side_by_side_are_refused(call, tmp_path, monkeypatch, strategy):
    data = write_reviews(tmp_path / "reviews.jsonl")
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    code, _, err = call("finetune", *words_of(tmp_path / "run", data), f"--strategy={strategy}")
    assert code == 1 and "lists 2 workers" in err and len(err.splitlines()) == 1
