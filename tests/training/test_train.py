"""tfzoo.train from Python: bitwise identical to the script, exact resumes under changed defaults, no side effects."""
import json
import random
import threading
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from experiments import app, evaluate, finetune
from tests.experiments.conftest import write_reviews
from tests.text import kinds
from tests.training.kills import compare, left_by
from tfzoo.checkpoints import Loaded
from tfzoo.errors import ConfigError, DataError
from tfzoo.generation import Generated, Generator
from tfzoo.tasks import task_of
from tfzoo.text import load_tokenizer
from tfzoo.training import settings as module
from tfzoo.training.model import get_tokenizer, make_sampler
from tfzoo.training.run import _facts_of, _results_of_finished, _take_folder
from tfzoo.training.run_folder import RunFolder
from tfzoo.training.settings import Settings
from tfzoo.training.sources import length_of, open_sources

OVERRIDE = ["num_layers=1", "hidden_dim=16", "num_heads=2", "ffn_dim=32", "max_length=32"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Return the settings shared by all runs in this file."""
    data = write_reviews(tmp_path_factory.mktemp("data") / "reviews.jsonl", 40)
    return {"task": "classification", "model": "bert_tiny", "override": OVERRIDE, "tokenizer": "bytes", "data": data,
            "eval_fraction": 0.2, "batch_size": 8, "max_length": 16, "dropout": 0.2, "schedule": "constant",
            "log_every": 2, "eval_every": 2, "deterministic": True}


def draws():
    """Return the next draws of the caller's random generators."""
    return [random.random(), np.random.rand(), float(tf.random.uniform([])), float(tf.random.uniform([], seed=5)),
            float(keras.random.uniform([])), keras.initializers.GlorotUniform().get_config()["seed"]]


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """Return (folder of a run of 6 steps, its results, draws of the caller's random generators before and after)."""
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
    results = tfzoo.train(folder, epochs=1.5)  # all other settings are those of the run
    assert results["loss"] == whole[1]["loss"] and same(whole[0], folder)
    config = json.loads((folder / "config.json").read_text())
    assert (config["epochs"], config["steps"], config["optimizer"]) == (1.5, 6, "adamw")
    assert "--epochs=1.5\n" in (folder / "flags.txt").read_text()


def test_a_finished_run_gives_its_results(whole, capsys):
    assert tfzoo.train(whole[0]) == whole[1] and "is finished" in capsys.readouterr().err


@pytest.mark.parametrize("steps, planned", [(3, 120), (3, 150), (3, 3)])
def test_a_run_that_stopped_early_says_so_and_never_goes_on(steps, planned, tmp_path, capsys):
    results = {"steps": steps, "planned_steps": 120}
    run = types.SimpleNamespace(path=tmp_path, results=lambda: results)
    settings = types.SimpleNamespace(steps=planned, patience=2, test_data="held.jsonl")
    assert _results_of_finished(run, settings, resumes=True, strategy=None) == results
    said = capsys.readouterr().err
    assert "stopped early at step 3 (--patience=2): choose another --output_dir" in said and "more" not in said
    assert f"--test_data=held.jsonl is not evaluated after the run: use experiments.evaluate --init={tmp_path}" in said


@pytest.mark.parametrize("wrong, says", [
    ({"lerning_rate": 1e-3}, "unknown setting 'lerning_rate': did you mean learning_rate"),
    ({"batch_size": 0}, "--batch_size must be"), ({"steps": 1, "epochs": 1}, "give only one of them"),
    ({"init": "x"}, "give exactly one"), ({"model": "bert_gigantic"}, "unknown model"),
    ({"pack": "on"}, "--pack=on requires --task=masked_lm"), ({"accumulate_steps": 3}, "must divide it")])
def test_a_mistake_is_refused_before_the_folder_is_made(wrong, says, given, tmp_path):
    with pytest.raises(ConfigError) as caught:
        tfzoo.train(tmp_path / "run", **{**given, **wrong})
    assert says in str(caught.value) and "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_an_init_of_weights_that_are_not_finite_is_refused_before_the_data_are_read(whole, tmp_path):
    loaded = tfzoo.load(whole[0])
    loaded.body.weights[-1].assign(np.full(loaded.body.weights[-1].shape, np.nan))
    tfzoo.save(loaded, tmp_path / "broken")
    with pytest.raises(DataError, match="broken has weights that are not finite"):
        tfzoo.train(tmp_path / "run", task="classification", init=tmp_path / "broken", data="none.jsonl", steps=2)


def test_a_run_of_other_settings_is_refused_by_the_field(whole, given):
    config = (whole[0] / "config.json").read_text()
    for wrong, says in (({"learning_rate": 0.1}, "learning_rate (got 0.1, recorded 0.0005)"),
                        ({"batch_size": 4}, "batch_size (got 4, recorded 8)"), ({"resume": "never"}, "--resume=never")):
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


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Return folders of a Qwen2 with 4,096 positions: a transformers folder, and a tfzoo one with that max_length.

    The model is small, since its weights do not matter.
    """
    folder = tmp_path_factory.mktemp("long")
    model = tfzoo.build("qwen2_tiny", task="causal_lm", vocab_size=260, num_layers=1, hidden_dim=8, num_heads=2,
                        num_kv_heads=1, ffn_dim=8, max_length=4096)
    config = {"model": "qwen2_tiny", "task": "causal_lm", "labels": None, "settings": {}, "max_length": 4096}
    loaded = Loaded(model, load_tokenizer("bytes"), config)
    for format in ("huggingface", "tfzoo"):
        tfzoo.save(loaded, folder / format, format=format)
    (folder / "corpus.txt").write_text("a fine film " * 20)
    return folder


def test_others_models_are_trained_with_at_most_1024_tokens_and_ours_as_before(long, capsys):
    theirs, ours = tfzoo.load(long / "huggingface"), tfzoo.load(long / "tfzoo")
    assert theirs.config["max_length"] == ours.config["max_length"] == 4096
    assert length_of(ours) == 4096 and length_of(theirs, 2048) == 2048 and capsys.readouterr().err == ""
    assert length_of(theirs) == 1024
    assert capsys.readouterr().err == "--max_length=1024 by default; the model accepts up to 4,096 tokens\n"
    tfzoo.save(theirs, long / "again")  # it still counts as a model from another library
    assert length_of(tfzoo.load(long / "again")) == 1024
    with pytest.raises(ConfigError, match="--max_length=5000 exceeds the model's 4096 positions: lower it"):
        length_of(ours, 5000)


@pytest.mark.slow  # three traces
def test_the_default_length_is_recorded_and_evaluate_has_the_same(long, tmp_path, capsys):
    given = {"task": "causal_lm", "init": long / "huggingface", "data": long / "corpus.txt", "batch_size": 1}
    tfzoo.train(tmp_path / "run", steps=1, **given)
    assert "accepts up to 4,096 tokens" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["max_length"] == 1024
    assert tfzoo.load(tmp_path / "run").config["max_length"] == 1024
    tfzoo.train(tmp_path / "run", steps=2)  # the run has recorded its length
    assert "by default" not in capsys.readouterr().err
    words = [f"--init={long / 'huggingface'}", f"--data={long / 'corpus.txt'}", "--batch_size=1"]
    assert app.execute(evaluate.make_flags(), evaluate.run, words) == 0
    assert "accepts up to 4,096 tokens" in capsys.readouterr().err
    assert app.execute(evaluate.make_flags(), evaluate.run, [*words, "--max_length=64"]) == 0


def test_samples_begin_as_the_documents_of_training_do(tmp_path, monkeypatch):
    llama, prompts = kinds.llama2(tmp_path, "model")[0], []
    monkeypatch.setattr(Generator, "__init__", lambda *_: None)
    monkeypatch.setattr(Generator, "generate",
                        lambda self, given: prompts.extend(given) or Generated(np.array([[300]]), [1]))
    model = types.SimpleNamespace(body=None, logits=None)
    make_sampler(model, types.SimpleNamespace(name="causal_lm"), llama)()
    assert prompts == [[llama.start_id]] == [llama.separator[-1:]]


def test_a_run_that_trained_without_the_start_token_is_not_gone_on_with(tmp_path):
    llama = kinds.llama2(tmp_path, "model")[0]
    settings = types.SimpleNamespace(tokenizer=str(tmp_path))
    facts = {name: _facts_of(settings, task_of(name), sources=[], init=None) for name in ("causal_lm", "masked_lm")}
    assert facts["causal_lm"] == {**facts["masked_lm"], "separator": [llama.end_id, llama.start_id]}


def test_a_tokenizer_of_the_user_s_in_the_run_s_folder_stays(tmp_path, given):
    kept, strategy = tmp_path / "tokenizer", tf.distribute.get_strategy()
    kept.mkdir()
    (kept / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    theirs = {**given, "output_dir": str(tmp_path), "data": str(given["data"])}
    settings = Settings.resolve(module.checked({**theirs, "tokenizer": str(kept)}))
    source = open_sources(settings)[0]
    with RunFolder(tmp_path) as run:
        resumes = _take_folder(run, settings, facts={}, strategy=strategy)
        assert (kept / "vocab.txt").exists()
        assert get_tokenizer(settings, source, run=run, resumes=resumes, strategy=strategy).vocab_size == 6
        learned = Settings.resolve(module.checked({**theirs, "tokenizer": "learn:bpe:300"}))
        with pytest.raises(ConfigError, match="tokenizer already exists and contains vocab.txt"):
            get_tokenizer(learned, source, run=run, resumes=False, strategy=strategy)
        (kept / "vocab.txt").rename(tmp_path / "vocab.txt")
        one = get_tokenizer(learned, source, run=run, resumes=False, strategy=strategy)
        (kept / "notes.txt").write_text("mine")
        again = get_tokenizer(learned, source, run=run, resumes=False, strategy=strategy)  # as for different data
    assert again.fingerprint == one.fingerprint and (kept / "notes.txt").read_text() == "mine"
