"""tfzoo.train from Python: the script's run to the bit, exact resumes under other defaults, nothing else disturbed."""
import json
import random
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from experiments import app, finetune
from tests.experiments.conftest import write_reviews
from tests.training.kills import compare, left_by
from tfzoo.errors import ConfigError
from tfzoo.training import settings as module
from tfzoo.training.settings import Settings

OVERRIDE = ["num_layers=1", "hidden_dim=16", "num_heads=2", "ffn_dim=32", "max_length=32"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The settings that all runs here share."""
    data = write_reviews(tmp_path_factory.mktemp("data") / "reviews.jsonl", 40)
    return {"task": "classification", "model": "bert_tiny", "override": OVERRIDE, "tokenizer": "bytes", "data": data,
            "eval_fraction": 0.2, "batch_size": 8, "max_length": 16, "dropout": 0.2, "schedule": "constant",
            "log_every": 2, "eval_every": 2, "deterministic": True}


def draws():
    """Return what the caller's generators give next."""
    return [random.random(), np.random.rand(), float(tf.random.uniform([])), float(tf.random.uniform([], seed=5)),
            float(keras.random.uniform([])), keras.initializers.GlorotUniform().get_config()["seed"]]


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """(the folder of a run of 6 steps, its results, what the caller's generators gave around it)."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    keras.utils.set_random_seed(7)
    around = [draws()]
    results = tfzoo.train(folder, steps=6, **given)
    return folder, results, [*around, draws()]


def same(one, other):
    one, other = left_by(one), left_by(other)
    return not compare(one, other)[0]


def test_a_run_leaves_what_the_script_s_leaves(whole, given, tmp_path):
    folder, results, _ = whole
    assert results["steps"] == 6 and results["model"] == f"{folder}/model"
    assert tfzoo.load(folder).config["labels"] == ["neg", "pos"]
    config = json.loads((folder / "config.json").read_text())
    assert config["learning_rate"] == 5e-4 and config["warmup_steps"] == 0 and config["save_every"] == 2
    words = ["--steps=6", f"--output_dir={tmp_path / 'script'}", "--deterministic"]
    words += [f"--override={item}" for item in OVERRIDE]
    words += [f"--{name}={value}" for name, value in given.items() if name not in ("override", "deterministic")]
    assert app.execute(finetune.make_flags(), finetune.run, words) == 0
    assert same(folder, tmp_path / "script")
    assert (folder / "flags.txt").read_text() == (tmp_path / "script" / "flags.txt").read_text().replace(
        str(tmp_path / "script"), str(folder))


def test_the_caller_s_generators_are_left_as_they_were(whole):
    keras.utils.set_random_seed(7)
    assert whole[2] == [draws(), draws()]


def test_a_run_goes_on_to_the_bit_though_the_defaults_have_changed(whole, given, tmp_path, monkeypatch):
    folder = tmp_path / "cut"
    assert tfzoo.train(folder, epochs=1, **given)["steps"] == 4
    monkeypatch.setattr(module, "RATE_FROM_SCRATCH", 0.1)
    monkeypatch.setattr(module, "WARMUP_PART", 2)
    for name, default in (("weight_decay", 0.5), ("clip_norm", 0.0), ("optimizer", "lamb"), ("seed", 1)):
        monkeypatch.setattr(Settings.__dataclass_fields__[name], "default", default)
    results = tfzoo.train(folder, epochs=1.5)  # all else is as the run has it
    assert results["loss"] == whole[1]["loss"] and same(whole[0], folder)
    config = json.loads((folder / "config.json").read_text())
    assert (config["epochs"], config["steps"], config["optimizer"]) == (1.5, 6, "adamw")
    assert "--epochs=1.5\n" in (folder / "flags.txt").read_text()


def test_a_finished_run_gives_its_results(whole, capsys):
    assert tfzoo.train(whole[0]) == whole[1] and "is finished" in capsys.readouterr().err


@pytest.mark.parametrize("wrong, says", [
    ({"lerning_rate": 1e-3}, "unknown setting 'lerning_rate': did you mean learning_rate"),
    ({"batch_size": 0}, "--batch_size=0"), ({"steps": 1, "epochs": 1}, "give one of them"),
    ({"init": "x"}, "give one of them"), ({"model": "bert_gigantic"}, "unknown model"),
    ({"pack": "on"}, "--pack=on is for --task=masked_lm"), ({"accumulate_steps": 3}, "must divide it")])
def test_a_mistake_is_refused_before_the_folder_is_made(wrong, says, given, tmp_path):
    with pytest.raises(ConfigError) as caught:
        tfzoo.train(tmp_path / "run", **{**given, **wrong})
    assert says in str(caught.value) and "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_run_of_other_settings_is_refused_by_the_field(whole, given):
    config = (whole[0] / "config.json").read_text()
    for wrong, says in (({"learning_rate": 0.1}, "learning_rate (got 0.1, there 0.0005)"),
                        ({"batch_size": 4}, "batch_size (got 4, there 8)"), ({"resume": "never"}, "--resume=never")):
        with pytest.raises(ConfigError) as caught:
            tfzoo.train(whole[0], **{**given, "steps": 8, **wrong})
        assert says in str(caught.value) and (whole[0] / "config.json").read_text() == config


def test_two_threads_train_as_each_alone(whole, given, tmp_path):
    def run(name, seed):
        tfzoo.train(tmp_path / name, steps=6, seed=seed, **given)

    threads = [threading.Thread(target=run, args=arguments) for arguments in (("same", 0), ("other", 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(whole[0], tmp_path / "same")
    assert not same(whole[0], tmp_path / "other") and (tmp_path / "other" / "results.json").is_file()
