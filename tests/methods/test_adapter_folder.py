"""Test adapters in files: unmerged models can be saved and loaded, and adapters are bound to their base."""
import json

import keras
import numpy as np
import pytest

import tfzoo
from tests.methods.test_lora import fill, inputs_of, logits_of, make
from tests.tasks.test_tasks import TOKENIZER
from tfzoo.checkpoints import Loaded
from tfzoo.checkpoints.adapter import read_adapter, write_adapter
from tfzoo.checkpoints.folder import with_head
from tfzoo.errors import ConfigError, DataError
from tfzoo.methods import LoRA, Method, hash_base
from tfzoo.tasks import task_of

LABELS = ["a", "b", "c"]
ABOUT = {"model": "bert_tiny", "labels": LABELS, "settings": {}, "max_length": 20, "format_version": 1}


@pytest.fixture(scope="module")
def base():
    return Loaded(make("bert_tiny").body, None, {**ABOUT, "task": None, "labels": None},
                  tokenizer_problem="its kind is not known")


@pytest.fixture(scope="module")
def trained(base):
    """Return (Loaded, LoRA) in their state after training the base with a new head."""
    model, fresh, _ = with_head(base, task_of("classification", LABELS))
    assert {path.split("/")[0] for path in fresh} == {"head"}
    method = LoRA(rank=3, alpha=6.0, adapter_dropout=0.1)
    method.prepare(model)
    fill([weight for weight in model.weights if weight.trainable], 2)
    return Loaded(model, None, {**ABOUT, "task": "classification"}), method


def test_an_unmerged_model_goes_round(trained, tmp_path):
    loaded, method = trained
    expected = logits_of(loaded.model)
    tfzoo.save(loaded, tmp_path / "model")
    again = tfzoo.load(tmp_path / "model")
    assert np.array_equal(logits_of(again.model), expected) and again.body.adapters == loaded.body.adapters
    assert np.abs(logits_of(tfzoo.load(tmp_path / "model", dtype="mixed_bfloat16").model) - expected).max() < 0.1
    plain = keras.models.load_model(tmp_path / "model" / "model.keras", safe_mode=True)
    assert np.array_equal(plain(inputs_of(plain))["logits"], expected.astype(np.float32))
    model, fresh, dropped = with_head(again, task_of("classification", LABELS))  # keeps its adapters
    assert not fresh and not dropped and np.array_equal(logits_of(model), expected)
    method.prepare(model)
    assert hash_base(model) == hash_base(loaded.model)
    with pytest.raises(ConfigError, match="4 low-rank adapters, .*: merge them first"):
        tfzoo.save(again, tmp_path / "other", format="huggingface")
    method.merge(model)
    tfzoo.save(Loaded(model, None, loaded.config), tmp_path / "merged")
    merged = tfzoo.load(tmp_path / "merged")
    assert not merged.body.adapters and np.abs(logits_of(merged.model) - expected).max() < 1e-5


def test_frozen_weights_come_along_with_a_new_head(trained):
    loaded, _ = trained
    there = {weight.path: weight.numpy() for weight in loaded.body.weights}
    assert not all(weight.trainable for weight in loaded.body.weights)
    model, fresh, _ = with_head(loaded, task_of("tagging", LABELS))
    assert fresh and all(path.startswith("head/") for path in fresh)
    for weight in model.body.weights:
        assert np.array_equal(weight, there[weight.path]), weight.path


def test_an_adapter_goes_back_on_its_base_and_on_no_other(base, trained, tmp_path):
    loaded, method = trained
    write_adapter(loaded, method, tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {"adapter.safetensors", "adapter_config.json"}
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["settings"]["rank"] == 3 and config["base_sha256"] == hash_base(loaded.model)
    again, found = read_adapter(base, tmp_path / "adapter")
    assert np.array_equal(logits_of(again.model), logits_of(loaded.model)) and found.settings == method.settings
    assert again.config["labels"] == LABELS and again.task.name == "classification" and not base.body.adapters
    assert again.tokenizer_problem == "its kind is not known"
    other = Loaded(make("bert_tiny").body, TOKENIZER, base.config)
    table = other.body.embeddings.token
    table.assign(table + 1e-6)
    with pytest.raises(DataError, match="trained on different weights"):
        read_adapter(other, tmp_path / "adapter")
    with pytest.raises(ConfigError, match="requires a frozen base"):
        write_adapter(base, Method(), tmp_path / "none")


@pytest.mark.parametrize("change, says", [
    ({"format_version": 2}, "format version 2"), ({"base_sha256": None}, "different weights"),
    ({"model": "bert_mini"}, "was trained on 'bert_mini', but the base model is"),
    ({"method": "dora"}, "unknown method"), ({"settings": {"rank": 2}}, "has shape"),
    ({"labels": ["a"]}, "labels must be a list of at least two different names"),
    ({"settings": {"rank": 999}}, "rank must be .* got 999"), ({"settings": {"targets": "key$"}}, "lacks|has"),
    ({"settings": {"radius": 2}}, "does not match"), ({"settings": {"targets": "("}}, "regular expression")])
def test_a_damaged_adapter_is_refused_in_one_line(base, trained, tmp_path, change, says):
    folder = tmp_path / "adapter"
    write_adapter(*trained, folder, "known")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(DataError, match=says) as caught:
        read_adapter(base, folder)
    assert str(caught.value).isprintable()
    (folder / "adapter.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="adapter.safetensors"):
        read_adapter(base, folder)


@pytest.mark.parametrize("adapters", [
    [1], {"block_07/attention/query": {"rank": 1, "alpha": 1.0, "adapter_dropout": 0.0}}, {"pooler": {"rank": 2}},
    {"pooler": {"rank": 2 ** 20, "alpha": 1.0, "adapter_dropout": 0.0}}, {"pooler": 3}])
def test_a_config_with_adapters_that_are_none_is_refused(base, adapters):
    with pytest.raises(ConfigError, match="adapters (must be|contain)|rank must be"):
        type(base.body).from_config({**base.body.get_config(), "adapters": adapters})


def test_a_failed_write_leaves_what_was_there(trained, tmp_path, monkeypatch):
    write_adapter(*trained, tmp_path / "adapter", "known")
    before = (tmp_path / "adapter" / "adapter_config.json").read_text()

    def fail(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tfzoo.checkpoints.adapter.save_file", fail)
    with pytest.raises(OSError):
        write_adapter(*trained, tmp_path / "adapter", "other")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    assert (tmp_path / "adapter" / "adapter_config.json").read_text() == before
