"""Model folders: round trips, newly initialized heads, and one-line error messages for damaged folders."""
import json

import huggingface_hub
import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tfzoo
from tests.models.test_models import SMALL
from tests.text.test_chat import GOLDEN, write
from tfzoo.checkpoints import Loaded, tensors
from tfzoo.checkpoints.folder import with_head
from tfzoo.errors import ConfigError, DataError
from tfzoo.tasks import task_of
from tfzoo.text import learn_tokenizer
from tfzoo.text.bpe import BytePairTokenizer
from tfzoo.training.model import tokenizer_for

TEXTS = ["a fine film", "dull", "what a day", "ünïcode \u4e2d\u6587"] * 5


@pytest.fixture
def loaded():
    tokenizer = learn_tokenizer("learn:wordpiece:120", TEXTS)
    model = tfzoo.build("bert_tiny", task="classification", labels=["x", "y"],
                        **{**SMALL, "vocab_size": tokenizer.vocab_size})
    return Loaded(model, tokenizer, {"model": "bert_tiny", "task": "classification", "labels": ["x", "y"],
                                     "settings": {}, "max_length": 12})


def test_a_saved_model_answers_as_the_live_one(loaded, tmp_path):
    tfzoo.save(loaded, tmp_path / "model")
    again = tfzoo.load(tmp_path)
    inputs = again.tokenizer(TEXTS[:4], max_length=12)
    assert np.array_equal(inputs["token_ids"], loaded.tokenizer(TEXTS[:4], max_length=12)["token_ids"])
    assert np.array_equal(again.model(inputs)["logits"], loaded.model(inputs)["logits"])
    assert again.config["labels"] == ["x", "y"] and again.config["max_length"] == 12
    vectors = again.embed(TEXTS[:4])
    alone = again.embed(TEXTS[1:2])
    assert vectors.shape == (4, 24) and np.abs(vectors[1:2] - alone).max() < 1e-5
    half = tfzoo.load(tmp_path, "mixed_bfloat16")
    assert half.model.body.compute_dtype == "bfloat16"
    tfzoo.save(half, tmp_path / "half")
    assert tfzoo.load(tmp_path / "half").body.compute_dtype == "bfloat16"
    full = tfzoo.load(tmp_path / "half", "float32")
    assert full.body.compute_dtype == "float32"
    assert np.array_equal(full.model(inputs)["logits"], loaded.model(inputs)["logits"])
    assert np.abs(np.asarray(half.model(inputs)["logits"]) - loaded.model(inputs)["logits"]).max() < 0.05


def test_another_head_keeps_the_body(loaded):
    model, fresh, dropped = with_head(loaded, task_of("masked_lm"))
    assert all(path.startswith("head/") for path in fresh)
    assert {path.split("/")[0] for path in dropped} == {"pooler", "head"}
    there = {v.path: v.numpy() for v in loaded.body.trainable_variables}
    for variable in model.body.trainable_variables:
        assert np.array_equal(variable.numpy(), there[variable.path])
    with pytest.raises(ConfigError, match="shape"):
        with_head(loaded, task_of("masked_lm"), ffn_dim=48)


def test_the_same_task_and_labels_keep_the_head_too(loaded):
    model, fresh, dropped = with_head(loaded, task_of("classification", ["x", "y"]), dropout=0.3)
    assert not fresh and not dropped and model.body.config["dropout"] == 0.3
    inputs = loaded.tokenizer(TEXTS[:4])
    assert np.array_equal(model(inputs)["logits"], loaded.model(inputs)["logits"])
    fresh, dropped = with_head(loaded, task_of("classification", ["y", "x"]))[1:]
    assert fresh == dropped == ["head/dense/kernel", "head/dense/bias"]


def test_a_failed_save_leaves_what_was_there(loaded, tmp_path, monkeypatch):
    tfzoo.save(loaded, tmp_path / "model")
    before = (tmp_path / "model" / "model.keras").read_bytes()
    monkeypatch.setattr(loaded.tokenizer, "save", lambda folder: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError):
        tfzoo.save(loaded, tmp_path / "model")
    assert (tmp_path / "model" / "model.keras").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_damage_is_refused_in_one_line(loaded, tmp_path):
    tfzoo.save(loaded, tmp_path)
    whole = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(DataError, match="cannot be loaded"):
        tfzoo.load(tmp_path)
    (tmp_path / "model.keras").write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(DataError, match="format version 99"):
        tfzoo.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        tfzoo.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model folder"):
        tfzoo.load(tmp_path / "none")


@pytest.fixture
def decoder():
    tokenizer = learn_tokenizer("learn:bpe:320", TEXTS)
    model = tfzoo.build("gpt2_tiny", task="classification", labels=["x", "y"],
                        **{**SMALL, "vocab_size": tokenizer.vocab_size})
    return Loaded(model, tokenizer, {"model": "gpt2_tiny", "task": "classification", "labels": ["x", "y"],
                                     "settings": {}, "max_length": 12})


def test_texts_of_another_s_decoder_stay_bare_when_it_is_saved(decoder, tmp_path):
    decoder.tokenizer = BytePairTokenizer(decoder.tokenizer.ids, decoder.tokenizer.merges, bare=True)
    tfzoo.save(decoder, tmp_path / "theirs", format="huggingface")
    tfzoo.save(tfzoo.load(tmp_path / "theirs"), tmp_path / "ours")
    again, ids = tfzoo.load(tmp_path / "ours"), decoder.tokenizer(TEXTS[:4])["token_ids"]
    assert again.tokenizer.bare and np.array_equal(again.tokenizer(TEXTS[:4])["token_ids"], ids)
    assert again.tokenizer.fingerprint == decoder.tokenizer.fingerprint


# The values of GPT2LMHeadModel.from_pretrained(folder).generation_config.eos_token_id in transformers 4.57.1.
@pytest.mark.parametrize("config, generation, expected", [
    (5, "absent", 5), ([5, 7], "absent", [5, 7]), (5, [7, 9], [7, 9]), (5, 7, 7), ([5, 7], 3, 3),
    (None, "absent", None)])
def test_texts_end_where_transformers_ends_them(config, generation, expected, tmp_path):
    tokenizer = learn_tokenizer("learn:bpe:320", TEXTS)
    model = tfzoo.build("gpt2_tiny", task="causal_lm", **{**SMALL, "vocab_size": tokenizer.vocab_size})
    about = {"model": "gpt2_tiny", "task": "causal_lm", "labels": None, "settings": {}, "max_length": 12}
    tfzoo.save(Loaded(model, tokenizer, about), tmp_path / "theirs", format="huggingface")
    there = json.loads((tmp_path / "theirs" / "config.json").read_text())
    (tmp_path / "theirs" / "config.json").write_text(json.dumps({**there, "eos_token_id": config}))
    (tmp_path / "theirs" / "generation_config.json").unlink()
    if generation != "absent":
        (tmp_path / "theirs" / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    expected = (tokenizer.end_id,) if expected is None else tuple(np.ravel(expected))
    loaded = tfzoo.load(tmp_path / "theirs")
    tfzoo.save(loaded, tmp_path / "ours")
    tfzoo.save(loaded, tmp_path / "written", format="huggingface")
    assert all(tfzoo.load(tmp_path / name).end_ids == expected for name in ("theirs", "ours", "written"))


def test_the_end_of_an_answer_in_a_conversation_is_written_for_transformers(tmp_path):
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
    tokenizer = write(tmp_path / "tokenizer", "bytelevel", template, None, "</s>")
    model = tfzoo.build("gpt2_tiny", task="causal_lm", **{**SMALL, "vocab_size": tokenizer.vocab_size})
    about = {"model": "gpt2_tiny", "task": "causal_lm", "labels": None, "settings": {}, "max_length": 12}
    tfzoo.save(Loaded(model, tokenizer, about), tmp_path / "written", format="huggingface")
    added = {token["content"]: token["id"] for token in json.loads(GOLDEN["tokenizers"]["bytelevel"])["added_tokens"]}
    expected = [added["</s>"], added["<|im_end|>"]]
    assert json.loads((tmp_path / "written" / "generation_config.json").read_text())["eos_token_id"] == expected


def test_ids_that_end_no_text_are_refused(decoder, tmp_path):
    decoder.config["end_ids"] = ["a"]
    with pytest.raises((ConfigError, DataError), match="end_ids is .'a'., but must be a list of token ids below"):
        tfzoo.save(decoder, tmp_path)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_text_of_no_tokens_has_the_vector_zero(decoder, pooling):
    decoder.tokenizer = BytePairTokenizer(decoder.tokenizer.ids, decoder.tokenizer.merges, bare=True)
    alone, empty = decoder.embed(TEXTS[:1], pooling), decoder.embed([""], pooling)
    both = decoder.embed(["", TEXTS[0]], pooling)
    assert not empty.any() and not both[0].any() and np.abs(both[1] - alone[0]).max() < 1e-6 and alone.any()


def test_a_class_read_where_transformers_sees_padding_is_not_written_for_it(decoder, tmp_path):
    with pytest.raises(ConfigError, match="which Hugging Face's .* treats as padding"):
        tfzoo.save(decoder, tmp_path / "theirs", format="huggingface")
    assert decoder.tokenizer.fingerprint != tokenizer_for(decoder.task, decoder.model, decoder.tokenizer).fingerprint
    decoder.tokenizer = tokenizer_for(decoder.task, decoder.model, decoder.tokenizer)
    tfzoo.save(decoder, tmp_path / "theirs", format="huggingface")


@pytest.mark.parametrize("task, labels", [(None, None), ("masked_lm", None), ("tagging", ["a", "b", "c"])])
def test_a_model_alone_is_saved_too(task, labels, tmp_path):
    model = tfzoo.build("bert_tiny", task=task, labels=labels, **SMALL)
    tfzoo.save(model, tmp_path / "ours")
    tfzoo.save(model, tmp_path / "theirs", format="huggingface")
    for folder in ("ours", "theirs"):
        again = tfzoo.load(tmp_path / folder)
        assert again.tokenizer is None and again.config["task"] == task
        assert again.config["labels"] == labels
        assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), again.model.get_weights()))
    with pytest.raises(ConfigError, match="unknown model 'mine'"):
        tfzoo.save(type(model)(**{**model.get_config(), "name": "mine"}) if task is None else keras.Sequential(
            name="mine"), tmp_path / "other")


def test_large_models_are_written_in_shards_and_read_again(decoder, tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "SHARD_BYTES", 20_000)
    tfzoo.save(decoder.body, tmp_path / "theirs", format="huggingface")
    assert len(list((tmp_path / "theirs").glob("model-*-of-*.safetensors"))) > 2
    index = json.loads((tmp_path / "theirs" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in decoder.body.get_weights())
    again = tfzoo.load(tmp_path / "theirs")
    assert all(np.array_equal(one, other) for one, other in zip(decoder.body.get_weights(), again.body.get_weights()))


def test_bfloat16_is_read_as_it_is(decoder, tmp_path):
    tfzoo.save(decoder.body, tmp_path / "theirs", format="huggingface")
    weights = {name: value.astype(ml_dtypes.bfloat16)
               for name, value in load_file(tmp_path / "theirs" / "model.safetensors").items()}
    save_file(weights, tmp_path / "theirs" / "model.safetensors")
    again = tfzoo.load(tmp_path / "theirs")
    expected = [value.astype(ml_dtypes.bfloat16).astype(np.float32) for value in decoder.body.get_weights()]
    assert all(np.array_equal(one, other) for one, other in zip(expected, again.body.get_weights()))


def test_a_name_of_the_hub_is_downloaded_by_its_package(decoder, tmp_path, monkeypatch):
    tfzoo.save(decoder.body, tmp_path / "theirs", format="huggingface")
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda identity, revision, allow_patterns: asked.append(
        (identity, revision, "*.bin" in allow_patterns, "config.json" in allow_patterns)) or str(tmp_path / "theirs"))
    again = tfzoo.load("hf:someone/small@v1.0")
    assert asked == [("someone/small", "v1.0", False, True)]
    assert np.array_equal(again.body.embeddings.token, decoder.body.embeddings.token)
