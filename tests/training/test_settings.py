"""Settings: each default is resolved once, a resumed run keeps its recorded values, and errors are one line."""
import dataclasses
import json
import pathlib
import tarfile

import numpy as np
import pytest

from experiments import app, finetune, pretrain
from tests.helpers import CHECKOUT
from tfzoo.errors import ConfigError
from tfzoo.training import settings as module
from tfzoo.training.differences import in_effect
from tfzoo.training.fields import SAME, TASKS
from tfzoo.training.settings import BEFORE, MAY_CHANGE, Settings, checked

FINETUNE = {"task": "classification", "model": "bert_tiny", "tokenizer": "bytes", "data": "x", "output_dir": "y"}
PRETRAIN = {**FINETUNE, "task": "masked_lm"}


def resolve(given, recorded=None):
    return Settings.resolve(checked(given), None if recorded is None else in_effect(recorded))


def record_of(given, batches=100):
    """Return the config.json of a run with these settings."""
    return json.loads(json.dumps(resolve(given).with_length(512).with_epoch(batches).config()))


def test_each_setting_has_a_type_a_meaning_and_a_default_that_it_allows():
    for field in dataclasses.fields(Settings):
        assert field.type in (bool, int, float, str, tuple) and field.metadata["meaning"].endswith(".")
        assert checked({field.name: field.default}) == {field.name: field.default}
    assert module.UNDECIDED == {field.name: field.default for field in dataclasses.fields(Settings)
                                if field.name in module.UNDECIDED}


@pytest.mark.parametrize("given, effective", [
    (FINETUNE, {"learning_rate": 5e-4, "epochs": 3.0, "document": "paragraph", "pack": "off", "steps": 300,
                "warmup_steps": 30, "max_length": 256, "eval_every": 100, "save_every": 100, "schedule_power": None}),
    ({**FINETUNE, "model": None, "init": "z", "tokenizer": None}, {"learning_rate": 5e-5}),
    ({**FINETUNE, "epochs": 0.001, "eval_every": 7}, {"steps": 1, "warmup_steps": 0, "eval_every": 7, "save_every": 7}),
    ({**FINETUNE, "steps": 20, "warmup_steps": 0}, {"epochs": None, "steps": 20, "warmup_steps": 0}),
    ({**FINETUNE, "schedule": "polynomial"}, {"schedule_power": 2.0}),
    (PRETRAIN, {"pack": "on", "document": "paragraph"}), ({**PRETRAIN, "next_sentence": True}, {"pack": "off"}),
    ({**PRETRAIN, "task": "causal_lm"}, {"pack": "off", "document": "file"})])
def test_each_default_is_decided_once(given, effective):
    settings = resolve(given).with_length(512).with_epoch(100)
    assert {name: getattr(settings, name) for name in effective} == effective
    assert settings == settings.with_length(512).with_epoch(1)  # nothing is left undecided


def test_the_length_is_that_of_init_and_at_most_the_positions():
    assert resolve(FINETUNE).with_length(128).max_length == 128
    assert resolve(FINETUNE).with_length(512, trained=64).max_length == 64
    assert resolve({**FINETUNE, "max_length": 300}).with_length(512, trained=64).max_length == 300
    with pytest.raises(ConfigError, match="exceeds the model's 128 positions: lower it, or train from scratch"):
        resolve({**FINETUNE, "max_length": 300}).with_length(128)


def test_numbers_and_paths_become_plain_values():
    given = checked({"steps": np.int64(5), "epochs": 2, "weight_decay": np.float32(0.5), "seed": np.uint8(3),
                     "output_dir": pathlib.Path("a"), "override": ["num_layers=1", "activation=relu", "bias='no'"]})
    assert given["epochs"] == 2.0 and [type(value) for value in given.values()] == [int, float, float, int, str, tuple]
    overrides = resolve({**FINETUNE, **given, "epochs": None, "dropout": 0.25}).overrides()
    assert overrides == {"num_layers": 1, "activation": "relu", "bias": "no", "dropout": 0.25}


@pytest.mark.parametrize("given, says", [
    ({"learningrate": 1.0}, "unknown setting 'learningrate': did you mean learning_rate"),
    ({"lerning_rate": 1.0}, "learning_rate"), ({"num_layers": 1}, "unknown setting 'num_layers'"),
    ({"qqqq": 1}, "choose from task, model, init"),
    ({"batch_size": 0}, "--batch_size must be an integer >= 1, got 0"),
    ({"epochs": 0}, "--epochs must be a finite number >= 1e-06, got 0.0"), ({"epochs": -1.0}, "a finite number >="),
    ({"epochs": float("inf")}, "--epochs must be a finite number >= 1e-06, got inf"),
    ({"steps": 0}, "an integer >= 1"), ({"steps": 1.5}, "an integer >= 1"),
    ({"batch_size": "many"}, "must be an integer >= 1, got many"), ({"batch_size": 8.0}, "an integer"),
    ({"batch_size": None}, "an integer"), ({"steps": True}, "an integer"), ({"remat": 1}, "true or false"),
    ({"dropout": 1.0}, "--dropout must be a finite number >= 0.0 and <= 0.99, got 1.0"),
    ({"clip_norm": float("nan")}, "a finite number >= 0.0"),
    *(({name: float("inf")}, f"--{name} must be a finite number >= 0.0, got inf")
      for name in ("learning_rate", "schedule_power", "weight_decay", "clip_norm", "alpha")),
    ({"seed": 2 ** 64}, "an integer >= 0 and <= 18446744073709551615"),
    ({"optimizer": "sgd"}, "must be adamw or bert_adamw or lamb or adafactor, got sgd"), ({"data": 5}, "a string"),
    ({"override": "num_layers=1"}, "a list of strings"), ({"override": [1]}, "a list of strings")])
def test_a_wrong_name_or_value_is_refused_in_one_line(given, says):
    with pytest.raises(ConfigError) as caught:
        checked(given)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("given, says", [
    ({"init": "z"}, "give exactly one"), ({"model": None}, "give exactly one"), ({"tokenizer": None}, "--tokenizer is"),
    ({"model": None, "init": "z"}, "--init comes with its own tokenizer"),
    ({"epochs": 1, "steps": 1}, "--epochs=1.0 and"),
    ({"eval_data": "e", "eval_fraction": 0.1}, "--eval_fraction=0.1: give only one of them"),
    ({"task": None}, "--task is missing"),
    ({"data": None}, "--data is missing: a file"), ({"output_dir": ""}, "--output_dir is missing"),
    ({"schedule_power": 3}, "requires --schedule=polynomial"),
    ({"override": ["num_layers"]}, "must have the form name=value"),
    ({"next_sentence": True}, "requires --task=masked_lm, got --task=classification"),
    ({"document": "line"}, "requires --task=causal_lm or masked_lm, got --task=classification"),
    ({"pack": "on"}, "--pack=on requires --task=masked_lm or completion, got --task=classification"),
    ({"task": "masked_lm", "pack": "on", "next_sentence": True}, "--pack=on and --next_sentence: give only one")])
def test_settings_that_contradict_each_other_are_refused_in_one_line(given, says):
    with pytest.raises(ConfigError) as caught:
        resolve({**FINETUNE, **given})
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_that_goes_on_has_its_own_values_whatever_the_defaults_are_now(monkeypatch):
    there = record_of({**PRETRAIN, "batch_size": 8, "accumulate_steps": 2, "xla": "on", "override": ["num_layers=1"]})
    for name in ("RATE_FROM_SCRATCH", "EPOCHS", "LENGTH", "WARMUP_PART"):
        monkeypatch.setattr(module, name, 1)
    for name, default in (("weight_decay", 0.5), ("clip_norm", 0.0), ("pack", "off"), ("optimizer", "lamb")):
        monkeypatch.setattr(Settings.__dataclass_fields__[name], "default", default)
    new = resolve({"output_dir": "moved"}, there).with_length(512).with_epoch(7).config()
    assert {name for name in new if json.loads(json.dumps(new[name])) != there[name]} == {"output_dir", "xla"}
    assert new["xla"] == "auto"  # each start decides this anew


@pytest.mark.parametrize("given, changes", [
    ({"steps": 500}, {"steps": 500, "epochs": None}), ({"epochs": 5}, {"steps": 500, "epochs": 5.0}),
    ({"epochs": 3}, {}), ({"steps": 300}, {}), ({"warmup_steps": -1, "max_length": 0, "pack": "auto"}, {}),
    ({"steps": 500, "warmup_steps": -1}, {"steps": 500, "epochs": None}), ({"eval_every": 0}, {}),
    ({"eval_every": 5}, {"eval_every": 5}), ({"learning_rate": 0.1}, {"learning_rate": 0.1}),
    ({"warmup_steps": 5}, {"warmup_steps": 5}),
    ({"schedule": "polynomial"}, {"schedule": "polynomial", "schedule_power": 2.0}), ({"steps": None}, {}),
    ({"task": "masked_lm"}, {"task": "masked_lm", "pack": "on"}),
    ({"eval_data": "other"}, {"eval_data": "other", "eval_fraction": 0.0}),
    ({"init": "z"}, {"init": "z", "model": None, "tokenizer": None})])
def test_what_is_given_replaces_the_record_and_what_it_excludes(given, changes):
    there = record_of({**FINETUNE, "eval_fraction": 0.2})
    new = resolve({"output_dir": "y", **given}, there).with_length(512).with_epoch(100).config()
    assert {name: new[name] for name in new if new[name] != there[name]} == changes


@pytest.mark.parametrize("there, given", [
    ("runs/bert", "runs/bert/"), ("runs/bert", "./runs/bert"), ("runs/bert", "runs/x/../bert"),
    ("~/bert", "/home/me/bert"),
    ("runs/bert", "/work/runs/bert"), ("runs/bert", "runs/bert/model")])
def test_paths_that_mean_the_same_are_the_same(there, given, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr("os.getcwd", lambda: "/work")
    recorded = record_of({**FINETUNE, "model": None, "tokenizer": None, "init": there})
    assert resolve({"output_dir": "y", "init": given}, recorded).init == there
    assert resolve({"output_dir": "y", "init": "runs/other"}, recorded).init == "runs/other"


@pytest.mark.parametrize("given, changes", [
    (["num_layers=2", "activation='relu'"], False), (["activation=relu", "num_layers=2"], False),
    (["activation=relu", "num_layers=3", "num_layers=2"], False), (["activation=relu", "num_layers=3"], True),
    (["num_layers=2"], True)])
def test_overrides_that_mean_the_same_are_the_same(given, changes):
    recorded = record_of({**FINETUNE, "override": ["num_layers=2", "activation=relu"]})
    new = resolve({"output_dir": "y", "override": given}, recorded).override
    assert new == (tuple(given) if changes else ("num_layers=2", "activation=relu"))


@pytest.mark.parametrize("given, script", [
    (FINETUNE, finetune), ({**FINETUNE, "steps": 5, "override": ["num_layers=1", "num_heads=2"], "remat": True},
                           finetune), (PRETRAIN, pretrain), ({**PRETRAIN, "task": "causal_lm"}, pretrain)])
def test_flags_replay(given, script, tmp_path):
    settings = resolve(given)
    (tmp_path / "flags.txt").write_text(settings.flags())
    words = app.given(script.make_flags().parse([f"--flagfile={tmp_path / 'flags.txt'}"]))
    assert resolve(words) == settings
    again = resolve(words, record_of(given)).with_epoch(100)
    assert again.config() == record_of(given)


def test_on_and_off_are_switches_only_where_nothing_else_is_allowed():
    given = {**FINETUNE, "task": "seq2seq", "model": "t5_small", "source_prefix": "on", "target_language": "off"}
    settings = resolve(given).of(TASKS["seq2seq"])
    assert (settings["source_prefix"], settings["target_language"]) == ("on", "off")
    for pack, packs in (("on", True), ("off", False), ("auto", True)):
        assert resolve({**FINETUNE, "task": "completion", "pack": pack}).of(TASKS["completion"])["pack"] is packs


def test_only_flags_that_were_given_are_settings():
    words = ["--data=x", "--output_dir=y", "--noremat", "--batch_size=32", "--override=a=1"]
    assert app.given(finetune.make_flags().parse(words)) == {
        "data": "x", "output_dir": "y", "remat": False, "batch_size": 32, "override": ["a=1"]}


@pytest.fixture(scope="module")
def older():
    """Return the config.json of release 0.1.0 (see tests/experiments/test_older_runs.py)."""
    with tarfile.open(CHECKOUT / "tests" / "golden" / "run_0.1.0.tar.gz") as archive:
        return json.load(archive.extractfile("run/config.json"))


def test_what_an_older_run_left_undecided_is_what_it_did(older, monkeypatch):
    for name in ("RATE_FROM_INIT", "RATE_FROM_SCRATCH", "EPOCHS", "POWER"):
        monkeypatch.setattr(module, name, 9)
    settings = resolve({"output_dir": "run"}, older)
    assert settings.learning_rate == 5e-4 and settings.batch_size == 8 and settings.with_epoch(10).warmup_steps == 2
    assert resolve({"output_dir": "run", "steps": 30}, older).with_epoch(10).warmup_steps == 3  # still a tenth
    raw = {**older, "steps": None, "schedule": "polynomial", "schedule_power": None, "init": "z", "document": "auto"}
    assert in_effect(raw) == {**raw, "learning_rate": 5e-5, "epochs": 3.0, "schedule_power": 2.0,
                              "document": "paragraph"}
    assert in_effect({**raw, "task": "causal_lm"})["document"] == "file"


def test_each_newer_setting_says_what_runs_did_before_it(older):
    newer = {field.name for field in dataclasses.fields(Settings)
             if field.name not in older and field.metadata["resumed"] == SAME}
    # schedule_power is only used with polynomial; the others belong to what no older run had.
    assert {name for name in newer if BEFORE[name] is None} == {
        "schedule_power", "overlap", "null_threshold", "group_size", "min_score", "max_score"}
    assert not newer & MAY_CHANGE and "data" in MAY_CHANGE
