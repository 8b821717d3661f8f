"""A run that is interrupted or killed and then resumed sees each example once and ends bitwise identical."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy

from tests.experiments.conftest import SMALL_MODEL, write_reviews
from tests.helpers import CHECKOUT

TIMES = {"tokens_per_second", "examples_per_second", "data_wait"}


def start(folder, data, *more):
    words = ["--model=bert_tiny", *SMALL_MODEL, f"--data={data}", "--tokenizer=bytes", "--steps=60", "--batch_size=8",
             "--max_length=32", "--eval_every=20", "--save_every=7", "--log_every=5", "--deterministic",
             "--eval_fraction=0.2", "--dropout=0.2", "--accumulate_steps=2", f"--output_dir={folder}", *more]
    return subprocess.Popen([sys.executable, "-m", "experiments.finetune", *words], cwd=CHECKOUT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def stop_at(process, folder, step, number):
    """Send a signal once metrics.jsonl has reached a step."""
    path = pathlib.Path(folder) / "metrics.jsonl"
    while process.poll() is None:
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            process.send_signal(number)
            break
        time.sleep(0.01)
    out, err = process.communicate(timeout=900)
    return process.returncode, err


def what_a_run_left(folder):
    steps = sorted(os.listdir(f"{folder}/checkpoints"))
    last = [name for name in steps if name.startswith("step_")][-1]
    arrays = {group: safetensors.numpy.load_file(f"{folder}/checkpoints/{last}/{group}.safetensors")
              for group in ("model", "optimizer")}
    records = [json.loads(line) for line in open(f"{folder}/metrics.jsonl")]
    records = [{key: value for key, value in record.items() if key not in TIMES} for record in records]
    return last, arrays, records, json.loads(open(f"{folder}/checkpoints/best.json").read())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 75), (signal.SIGKILL, -9)])
def test_a_stopped_run_ends_as_if_it_had_not_been(number, code, tmp_path):
    data = write_reviews(tmp_path / "reviews.jsonl", 100)
    whole = start(tmp_path / "whole", data)
    _, err = whole.communicate(timeout=900)
    assert whole.returncode == 0, err
    got, err = stop_at(start(tmp_path / "cut", data), tmp_path / "cut", 25, number)
    assert got == code, err
    if code == 75:
        assert "run the same command again" in err.splitlines()[-1] and "Traceback" not in err
    again = start(tmp_path / "cut", data)
    _, err = again.communicate(timeout=900)
    assert again.returncode == 0 and "resuming from step" in err, err
    one, two = what_a_run_left(tmp_path / "whole"), what_a_run_left(tmp_path / "cut")
    assert one[0] == two[0] == "step_00000060"
    for group in one[1]:
        for name, value in one[1][group].items():
            assert np.array_equal(value, two[1][group][name]), name
    assert one[2] == two[2] and one[3] == two[3]


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line_and_loses_nothing(tmp_path):
    """Simulate a full disk by limiting the size of files."""
    data = write_reviews(tmp_path / "reviews.jsonl", 100)
    code = ("import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000)); "
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
            "runpy.run_module('experiments.finetune', run_name='__main__')")
    words = ["--model=bert_tiny", *SMALL_MODEL, f"--data={data}", "--tokenizer=bytes", "--steps=4", "--batch_size=8",
             f"--output_dir={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=CHECKOUT, capture_output=True, text=True,
                          env={**os.environ, "TF_XLA_FLAGS": ""})  # since there is no space for XLA's cache either
    assert done.returncode == 74, done.stderr
    assert "Traceback" not in done.stderr and "finetune: " in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "model").exists()
    assert not [name for name in os.listdir(tmp_path / "run" / "checkpoints") if not name.startswith(".")]
