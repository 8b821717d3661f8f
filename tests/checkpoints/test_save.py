"""`tfzoo.save` keeps files that tfzoo did not write, and refuses folders that it did not write."""
import json
import os
import pathlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tfzoo
from tests.models.test_models import SMALL
from tfzoo import files, folders
from tfzoo.checkpoints import Loaded, tensors
from tfzoo.checkpoints.adapter import write_adapter
from tfzoo.data.readers import TEXTS
from tfzoo.data.source import open_source
from tfzoo.errors import ConfigError
from tfzoo.methods import method_of
from tfzoo.text import learn_tokenizer, load_tokenizer
from tfzoo.training.checkpointing import Checkpoints
from tfzoo.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def model():
    return tfzoo.build("gpt2_tiny", **SMALL)


def content_of(folder):
    """Return the content of all files in a folder and its subfolders: dict of path -> bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("first", ["tfzoo", "huggingface"])
@pytest.mark.parametrize("second", ["tfzoo", "huggingface"])
def test_what_others_put_into_a_model_s_folder_stays(model, tmp_path, first, second):
    folder = tmp_path / "model"
    tfzoo.save(model, folder, first)
    theirs = {"README.md": b"mine", "pytorch_model.bin": b"pickle", "plots/one/loss.png": b"\x89PNG"}
    for name, content in theirs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "link").symlink_to("README.md")
    tfzoo.save(tfzoo.load(folder), folder, second)  # into the folder from which it was loaded
    found = content_of(folder)
    assert {name: found[name] for name in theirs} == theirs and os.readlink(folder / "link") == "README.md"
    weights = {"tfzoo": "model.keras", "huggingface": "model.safetensors"}[second]
    assert found.keys() - theirs.keys() == {"config.json", weights, "link"}  # no stale files of the first format
    assert os.listdir(tmp_path) == ["model"]
    again = tfzoo.load(folder)
    assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), again.model.get_weights()))


def _transformers(folder, model):
    tfzoo.save(model, folder, "huggingface")
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})  # as written by transformers' save_pretrained


def _notes(folder, model):
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")


def _config(folder, model):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"format_version": 1, "model": "bert_tiny"}))


@pytest.mark.parametrize("make", [_transformers, _notes, _config])
@pytest.mark.parametrize("format", ["tfzoo", "huggingface"])
def test_a_folder_of_others_is_refused(model, tmp_path, make, format):
    make(tmp_path / "theirs", model)
    before = content_of(tmp_path)
    with pytest.raises(ConfigError, match="tfzoo did not write: choose a new or empty folder"):
        tfzoo.save(model, tmp_path / "theirs", format)
    assert content_of(tmp_path) == before


def test_a_file_the_current_folder_and_a_read_only_one_are_refused(model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is not a folder"):
        tfzoo.save(model, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    tfzoo.save(model, tmp_path / "model")
    monkeypatch.chdir(tmp_path / "model")
    with pytest.raises(ConfigError, match="is the current folder"):
        tfzoo.save(model, ".")
    monkeypatch.chdir(tmp_path)
    before = content_of(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # the result for users other than root
    with pytest.raises(PermissionError):
        tfzoo.save(model, tmp_path / "model")
    assert content_of(tmp_path) == before


def test_a_link_to_a_folder_stays_a_link(model, tmp_path):
    tfzoo.save(model, tmp_path / "version_1")
    (tmp_path / "latest").symlink_to("version_1")
    (tmp_path / "version_1" / "notes.txt").write_text("mine")
    tfzoo.save(model, tmp_path / "latest", "huggingface")
    assert os.readlink(tmp_path / "latest") == "version_1"
    assert sorted(os.listdir(tmp_path)) == ["latest", "version_1"]
    assert sorted(os.listdir(tmp_path / "version_1")) == ["config.json", "model.safetensors", "notes.txt"]


def test_shards_of_an_earlier_save_go(model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tensors, "SHARD_BYTES", 20_000)
        tfzoo.save(model, tmp_path / "model", "huggingface")
    assert "model.safetensors.index.json" in os.listdir(tmp_path / "model")
    tfzoo.save(model, tmp_path / "model", "huggingface")
    assert sorted(os.listdir(tmp_path / "model")) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("name, format", [("model.safetensors", "tfzoo"), ("tokenizer.json", "tfzoo"),
                                          ("model.keras", "huggingface"), ("vocab.json", "huggingface")])
def test_a_file_of_others_that_would_be_read_too_is_refused(model, tmp_path, name, format):
    tokenizer = learn_tokenizer("learn:bpe:300", ["a fine film"])
    config = {"model": "gpt2_tiny", "task": None, "labels": None, "settings": {}, "max_length": 12}
    loaded = Loaded(tfzoo.build("gpt2_tiny", **{**SMALL, "vocab_size": tokenizer.vocab_size}), tokenizer, config)
    tfzoo.save(loaded.model, tmp_path / "model", format)
    (tmp_path / "model" / name).write_text("mine")
    before = content_of(tmp_path)
    with pytest.raises(ConfigError, match=f"{name} was not written by tfzoo"):
        tfzoo.save(loaded, tmp_path / "model", format)
    assert content_of(tmp_path) == before
    loaded.tokenizer.save(tmp_path / "model") if name == "vocab.json" else (tmp_path / "model" / name).unlink()
    tfzoo.save(loaded, tmp_path / "model", format)  # files with equal content may be overwritten
    assert tfzoo.load(tmp_path / "model").tokenizer.fingerprint == tokenizer.fingerprint


def test_an_adapter_of_others_is_refused_and_what_is_beside_ours_stays(tmp_path):
    model = tfzoo.build("bert_tiny", "classification", ["x", "y"], **SMALL)
    method_of("lora", rank=2).prepare(model)
    loaded = Loaded(model, None, {"model": "bert_tiny", "task": "classification", "labels": ["x", "y"], "settings": {},
                                  "max_length": 12})
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ConfigError, match="tfzoo did not write"):
        write_adapter(loaded, method_of("lora", rank=2), tmp_path / "theirs")
    assert (tmp_path / "theirs" / "adapter_config.json").read_text() == '{"peft_type": "LORA"}'
    for _ in range(2):
        write_adapter(loaded, method_of("lora", rank=2), tmp_path / "ours")
        (tmp_path / "ours" / "notes.txt").write_text("mine")
    assert sorted(os.listdir(tmp_path / "ours")) == ["adapter.safetensors", "adapter_config.json", "notes.txt"]


def test_a_save_that_was_killed_between_its_renames_loses_nothing(model, tmp_path):
    tfzoo.save(model, tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    os.rename(tmp_path / "model", f"{files.temporary_path(tmp_path / 'model')}-old")  # as after a kill
    files.temporary_path(tmp_path / "model").mkdir()
    (tmp_path / ".tmp-of-others").write_text("mine")
    folders.remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".tmp-of-others", "model"]
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"


def test_every_path_of_python_may_begin_at_home_and_none_is_an_address(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    (tmp_path / "run" / "train.txt").write_text("a a\n")

    def take(path):
        with RunFolder(path) as run:
            run.create("", {})

    for use, place in ((lambda path: tfzoo.save(model, path), "model"), (tfzoo.load, "model"), (load_tokenizer, "run"),
                       (lambda path: open_source(path, TEXTS), "run"), (take, "run"),
                       (lambda path: Checkpoints(path).save(1, {}, {}), "checkpoints")):
        for at in ("gs://bucket/", "s3://bucket/"):
            with pytest.raises(ConfigError, match="but must be on this machine"):
                use(at + place)
        use(f"~/{place}")
        use(pathlib.Path(f"~/{place}"))
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "model", "run"] and not os.path.exists("~")
