"""The run folder: what it writes, what it refuses, and that no step appears twice."""
import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfzoo.errors import ConfigError, DataError
from tfzoo.training.run_folder import RunFolder

CONFIG = {"model": "bert_tiny", "steps": 100, "optimizer": {"name": "adamw", "learning_rate": 1e-3},
          "betas": (0.9, 0.999)}
HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def read_events(folder):
    """Return {tag: [(step, value)]} as read by TensorBoard."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    return {tag: [(event.step, tf.make_ndarray(event.tensor_proto).tolist()) for event in events.Tensors(tag)]
            for tag in events.Tags()["tensors"]}


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def stopped(tmp_path):
    """Return the folder of a run that stopped after logging up to step 30."""
    with RunFolder(tmp_path) as run:
        run.create("--steps=100", CONFIG)
        for step in (10, 20, 30):
            run.log(step, "train", loss=np.float32(1 / step), learning_rate=0.5)
            run.log(step, "eval", accuracy=step / 100)
            run.text(step, "samples/0", f"text {step}")
    return tmp_path


def test_settings_are_written(tmp_path):
    with RunFolder(tmp_path / "deep" / "run") as run:
        assert run.create("--steps=100\n--model=bert_tiny", CONFIG) == "fresh"
        assert run.records() == [] and run.results() is None and run.last_step("train") is None
    assert (run.path / "flags.txt").read_text() == "--steps=100\n--model=bert_tiny\n"
    config = json.loads((run.path / "config.json").read_text())
    assert config == {"format_version": 1, **CONFIG, "betas": [0.9, 0.999]}
    assert list(config) == sorted(config)


def test_same_configuration_goes_on_and_more_steps_are_allowed(stopped):
    with RunFolder(stopped) as run:
        assert run.create("--steps=200", {**CONFIG, "steps": 200}) == "resumable"
    assert json.loads((stopped / "config.json").read_text())["steps"] == 200
    with RunFolder(stopped) as run:
        assert run.create("--steps=200", {**CONFIG, "steps": 200}, resume="must") == "resumable"


def test_other_configuration_is_refused_and_nothing_is_touched(stopped):
    before = snapshot(stopped)
    other = {**CONFIG, "optimizer": {"name": "adamw", "learning_rate": 3e-4}, "seed": 7}
    with RunFolder(stopped) as run, pytest.raises(ConfigError) as caught:
        run.create("--seed=7", other)
    message = str(caught.value)
    assert ("optimizer.learning_rate (got 0.0003, recorded 0.001)" in message
            and "seed (got 7, recorded absent)" in message)
    assert "steps" not in message and "--output_dir" in message and "\n" not in message
    assert snapshot(stopped) == before
    with RunFolder(stopped) as run:
        assert run.create("", other, may_change={"optimizer", "seed"}) == "resumable"


def test_settings_alone_are_no_run(tmp_path):
    with RunFolder(tmp_path) as run:
        run.create("", CONFIG)
    with RunFolder(tmp_path) as run:
        assert run.create("", {"model": "gpt2_tiny"}, resume="never") == "fresh"


@pytest.mark.parametrize("theirs", ["config.json", "flags.txt", "tensorboard/events.out.tfevents.1.host"])
def test_a_folder_of_others_is_refused_however_often_it_is_tried(tmp_path, theirs):
    (tmp_path / theirs).parent.mkdir(exist_ok=True)
    (tmp_path / theirs).write_text('{"model_type": "bert"}')
    for _ in range(2):
        with RunFolder(tmp_path) as run, pytest.raises(ConfigError, match="but no run: choose an empty folder"):
            run.create("", CONFIG)
    assert snapshot(tmp_path) == {(tmp_path / theirs).name: b'{"model_type": "bert"}'}


def test_only_what_a_killed_run_left_unfinished_is_removed(stopped):
    for name in (".tmp-notes", ".tmp-model-old", ".tmp-metrics.jsonl-12"):
        (stopped / name).write_text("")
    (stopped / ".tmp-model-12").mkdir()
    with RunFolder(stopped) as run:
        run.create("--steps=100", CONFIG)
        assert sorted(path.name for path in stopped.glob(".tmp-*")) == [".tmp-model-old", ".tmp-notes"]


def test_never_and_must(stopped, tmp_path_factory):
    before = snapshot(stopped)
    with RunFolder(stopped) as run, pytest.raises(ConfigError, match="empty folder"):
        run.create("", CONFIG, resume="never")
    assert snapshot(stopped) == before
    empty = tmp_path_factory.mktemp("empty")
    with RunFolder(empty) as run, pytest.raises(FileNotFoundError, match="--resume=must"):
        run.create("", CONFIG, resume="must")
    with RunFolder(empty) as run, pytest.raises(ConfigError, match="auto, never, must"):
        run.create("", CONFIG, resume="perhaps")


def test_checkpoints_without_config_are_refused(tmp_path):
    (tmp_path / "checkpoints" / "step_00000001").mkdir(parents=True)
    with RunFolder(tmp_path) as run, pytest.raises(ConfigError, match="no config.json"):
        run.create("", CONFIG)


def test_damaged_config_is_refused(stopped):
    (stopped / "config.json").write_text('{"model": "bert')
    with RunFolder(stopped) as run, pytest.raises(DataError, match="config.json is damaged"):
        run.create("", CONFIG)


def test_second_run_is_refused_until_the_first_ends(tmp_path):
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.create("", CONFIG)
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match="in use by another run"):
        second.create("", {**CONFIG, "seed": 1})
    assert snapshot(tmp_path) == before
    first.close()
    assert second.create("", CONFIG) == "fresh"
    second.close()


def test_killed_run_releases_the_folder(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    with other:
        assert other.stdout.readline() == b"held\n"
        with RunFolder(tmp_path) as run, pytest.raises(ConfigError, match="in use"):
            run.create("", CONFIG)
        other.kill()
    with RunFolder(tmp_path) as run:
        assert run.create("", CONFIG) == "fresh"


@pytest.mark.parametrize("below", [".", "run"])
def test_path_that_is_a_file(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    run = RunFolder(tmp_path / "file" / below)
    with pytest.raises(OSError, match="is under one: choose a folder") as caught:
        run.create("", CONFIG)
    assert not isinstance(caught.value, FileNotFoundError)
    assert (tmp_path / "file").read_text() == "mine"


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(path, *arguments):
        raise OSError(errno.EROFS, "Read-only file system", path)

    monkeypatch.setattr(os, "open", refuse)
    run = RunFolder(tmp_path)
    with pytest.raises(OSError, match=r"cannot write to .*\(Read-only file system\)") as caught:
        run.create("", CONFIG)
    assert "\n" not in str(caught.value)


def test_metrics_and_events(stopped):
    run = RunFolder(stopped)
    assert run.records()[:2] == [{"step": 10, "split": "train", "loss": pytest.approx(0.1), "learning_rate": 0.5},
                                 {"step": 10, "split": "eval", "accuracy": 0.1}]
    events = read_events(stopped)
    assert set(events) == {"train/loss", "train/learning_rate", "eval/accuracy", "samples/0"}
    assert [step for step, _ in events["eval/accuracy"]] == [10, 20, 30]
    np.testing.assert_allclose([value for _, value in events["train/loss"]], [1 / 10, 1 / 20, 1 / 30], rtol=1e-6)


def test_resume_leaves_no_step_twice(stopped):
    with open(stopped / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "spl')  # incomplete, as left by a killed run
    (stopped / "results.json").write_text('{"steps": 30}')
    with RunFolder(stopped) as run:
        run.create("", CONFIG)
        assert run.results() == {"steps": 30}
        with pytest.raises(RuntimeError, match="truncate"):
            run.log(40, "train", loss=1.0)
        run.truncate(20)
        assert run.results() is None
        assert run.last_step("train") == run.last_step("eval") == 20
        for step in (30, 40):
            run.log(step, "train", loss=step)
        run.text(30, "samples/0", "again")
    lines = (stopped / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 10, 20, 20, 30, 40]
    assert RunFolder(stopped).samples() == [{"step": step, "tag": "samples/0", "text": text}
                                            for step, text in ((10, "text 10"), (20, "text 20"), (30, "again"))]
    events = read_events(stopped)
    assert [step for step, _ in events["train/loss"]] == [10, 20, 30, 40]
    assert [value for _, value in events["train/loss"]][2:] == [30.0, 40.0]
    assert [step for step, _ in events["eval/accuracy"]] == [10, 20]
    assert events["samples/0"] == [(10, b"text 10"), (20, b"text 20"), (30, b"again")]


def test_starting_over_forgets_all(stopped):
    with RunFolder(stopped) as run:
        run.create("", CONFIG)
        run.truncate(None)
        assert run.records() == [] and run.samples() == []
        run.log(0, "eval", accuracy=0.5)
    assert read_events(stopped) == {"eval/accuracy": [(0, 0.5)]}


def test_step_is_logged_once(tmp_path):
    with RunFolder(tmp_path) as run:
        run.create("", CONFIG)
        run.log(5, "train", loss=1.0)
        run.log(5, "eval", loss=1.0)
        for step in (5, 4):
            with pytest.raises(ValueError, match="step 5"):
                run.log(step, "train", loss=2.0)
        assert len(run.records()) == 2


def test_not_finite_is_valid_json(tmp_path):
    with RunFolder(tmp_path) as run:
        run.create("", CONFIG)
        run.log(1, "train", loss=float("nan"), norm=np.float32("inf"), per_class={"a": [1, np.float64("nan")]},
                good=tf.constant(2.0))
        run.finish({"loss": np.float32("nan"), "steps": np.int64(1)})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in line and "Infinity" not in line
    assert json.loads(line) == {"step": 1, "split": "train", "loss": None, "norm": None,
                                "per_class": {"a": [1, None]}, "good": 2.0}
    assert read_events(tmp_path) == {"train/good": [(1, 2.0)]}
    assert RunFolder(tmp_path).results() == {"loss": None, "steps": 1}


def test_hostile_text(tmp_path):
    with RunFolder(tmp_path) as run:
        run.create("", CONFIG)
        run.text(1, "sample", "a\x00b\u2028\n\ud800 é")
        assert run.samples()[0]["text"] == "a\x00b\u2028\n? é"
    assert read_events(tmp_path)["sample"] == [(1, "a\x00b\u2028\n? é".encode())]


@pytest.mark.parametrize("line", ['{"step": 1, "spl', '{"split": "train"}', "[]", '{"step": "1", "split": "train"}'])
def test_bad_line_in_the_middle_is_named(stopped, line):
    path = stopped / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(DataError, match="metrics.jsonl, line 3"):
        RunFolder(stopped).records()
    path.write_text("\n".join([*lines, line]))
    assert len(RunFolder(stopped).records()) == 6


def test_full_disk_while_logging(tmp_path, monkeypatch):
    def refuse(path, line):
        raise OSError(errno.ENOSPC, "No space left on device")

    warnings = []
    with RunFolder(tmp_path, warn=warnings.append) as run:
        run.create("", CONFIG)
        run.log(1, "train", loss=1.0)
        monkeypatch.setattr("tfzoo.files.append_line", refuse)
        run.log(2, "train", loss=1.0)
        assert len(warnings) == 1 and "step 2" in warnings[0] and "No space left" in warnings[0]
        with pytest.raises(OSError):
            run.flush()
        monkeypatch.undo()
        run.log(3, "train", loss=1.0)
        assert [record["step"] for record in run.records()] == [1, 2, 3]


def test_a_folder_of_another_worker_is_left_alone(tmp_path):
    with RunFolder(tmp_path, writes=False) as run:
        assert run.create("", CONFIG) == "fresh"
        run.log(1, "train", loss=1.0)
        run.truncate(None)
        run.finish({"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_an_older_release_s_missing_fields_stand_for_their_defaults_and_other_formats_are_refused(tmp_path):
    with RunFolder(tmp_path) as run:
        run.create("", {"rate": 1.0})
        run.log(1, "train", loss=1.0)
    with RunFolder(tmp_path) as run:
        assert run.create("", {"rate": 1.0, "new": 0.0}, defaults={"new": 0.0}) == "resumable"
    with RunFolder(tmp_path) as run, pytest.raises(ConfigError, match="newer"):
        run.create("", {"rate": 1.0, "new": 0.0, "newer": 2}, defaults={"newer": 1})
    (tmp_path / "config.json").write_text('{"format_version": 0, "rate": 1.0}')
    with RunFolder(tmp_path) as run, pytest.raises(ConfigError, match="format version 0"):
        run.create("", {"rate": 1.0})


def test_events_that_cannot_be_written(tmp_path):
    warnings = []
    with RunFolder(tmp_path, warn=warnings.append) as run:
        run.create("", CONFIG)
        (tmp_path / "tensorboard").rmdir()
        (tmp_path / "tensorboard").write_text("in the way")
        run.log(1, "train", loss=1.0)
        assert [record["step"] for record in run.records()] == [1]
    assert len(warnings) == 1 and "TensorBoard" in warnings[0] and "\n" not in warnings[0]
