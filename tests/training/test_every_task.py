"""For every task: a run that is killed and resumed repeats bit for bit, and devices and microbatches change nothing."""
import json
import os
import subprocess
import sys

import pytest

from tests.helpers import CHECKOUT
from tests.training import every_task


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    command = [sys.executable, "-m", "tests.training.every_task", str(tmp_path_factory.mktemp("tasks"))]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, env=dict(os.environ), timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    return {(report["task"], report["case"]): report for report in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("task", every_task.TASKS)
def test_a_killed_run_of_any_task_repeats_bit_for_bit(reports, task):
    report = reports[task, "killed"]
    assert report["codes"] == [-9, 0] and not report["different"], report


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("task", [task for task, (*_, split) in every_task.TASKS.items() if split])
def test_the_split_of_a_batch_changes_no_task_s_update(reports, task):
    report = reports[task, "split"]
    assert report["codes"] == [0] and report["largest"] < 1e-5, report
    assert "steps" not in report["different"], report
