"""A run that is killed and resumed ends bitwise identical to an uninterrupted one; a run that loses state does not."""
import json
import os
import subprocess
import sys

import pytest

from tests.helpers import CHECKOUT
from tests.training import kills


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    command = [sys.executable, "-m", "tests.training.kills", str(tmp_path_factory.mktemp("kills")), "--random=10",
               "--named", "--controls", "--devices", *(["--disks"] if os.geteuid() == 0 else [])]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, env=dict(os.environ), timeout=2700)
    assert done.returncode == 0, done.stderr[-3000:]
    return {report["case"]: report for report in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_whole_run_has_all_that_can_go_wrong_and_repeats(reports):
    report = reports["whole again"]
    assert report["codes"] == [0] and not report["different"] and report["best"] > 30, report


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_kills_at_random_moments_leave_no_trace(reports):
    random = [report for name, report in reports.items() if name.startswith("random")]
    assert sum(report["codes"].count(-9) for report in random) == 10
    assert all(report["codes"][-1] == 0 and not report["different"] for report in random), random


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("point", kills.POINTS)
def test_a_kill_at_each_named_point_of_a_save_leaves_no_trace(reports, point):
    assert reports[point]["codes"] == [-9, 0] and not reports[point]["different"], reports[point]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("item", kills.CONTROLS)
def test_a_run_that_loses_any_item_of_its_state_is_noticed(reports, item):
    assert reports[f"loses {item}"]["codes"][0] == -9 and reports[f"loses {item}"]["different"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_run_goes_on_with_other_devices_within_rounding(reports):
    report = reports["goes on with 2 devices"]
    assert report["codes"] == [-9, 0] and report["largest"] < 1e-5, report["largest"]
    assert "steps" not in report["different"] and "best" not in report["different"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", ["full", "read-only", "too large"])
def test_a_disk_that_refuses_for_a_while_leaves_no_trace_and_to_the_end_exits_74(reports, kind):
    if os.geteuid():
        pytest.skip("mounting a small file system requires root")
    report = reports[f"{kind} for a while"]
    assert report["codes"] == [0] and not report["different"] and not report["traceback"], report
    assert report["lines"] and all(
        "the run continues, and the next save tries again" in line for line in report["lines"])
    report = reports[f"{kind} to the end"]
    assert report["codes"] == [74, 0] and not report["different"] and not report["traceback"], report
    assert report["steps"] and max(report["steps"]) < "step_00000021"  # the last good checkpoints are kept
    assert report["lines"][-1].startswith("finetune: ") and len(report["lines"]) > 1


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_kills_leave_no_trace_in_contrastive_learning(tmp_path):
    command = [sys.executable, "-m", "tests.training.kills", str(tmp_path), "--random=1", "--task=contrastive"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, env=dict(os.environ), timeout=2700)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *cut = map(json.loads, done.stdout.splitlines())  # several, if the run ended before it was killed
    assert whole["codes"] == [0] and cut[-1]["codes"] == [-9, 0], cut
    assert not any(report["different"] for report in (whole, *cut)), (whole, cut)
