"""Backbones of keras-nlp give the same outputs after conversion, and presets are loaded with their tokenizers."""
import errno
import json

import keras
import keras_nlp
import numpy as np
import pytest

import tfzoo
from experiments import app
from tests.helpers import real_lines, vocab_dir
from tests.text import kinds
from tfzoo.checkpoints.keras_nlp import convert
from tfzoo.errors import DataError
from tfzoo.text import load_tokenizer

# keras-nlp's T5 warns that its layers ignore Keras masks, but none are passed.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
ENCODER = {"vocabulary_size": 53, "num_layers": 2, "num_heads": 3, "hidden_dim": 21, "intermediate_dim": 40,
           "max_sequence_length": 24}
DECODER = {"vocabulary_size": 53, "num_layers": 2, "num_query_heads": 4, "num_key_value_heads": 2, "hidden_dim": 24,
           "intermediate_dim": 40}
ELECTRA = {**{key: value for key, value in ENCODER.items() if key != "vocabulary_size"}, "vocab_size": 53}
SCALED = {"rope_frequency_adjustment_factor": 8, "rope_low_freq_factor": 1, "rope_high_freq_factor": 4,
          "rope_pretraining_sequence_length": 16}
CASES = [("BertBackbone", ENCODER), ("RobertaBackbone", ENCODER), ("DistilBertBackbone", ENCODER),
         ("AlbertBackbone", {**ENCODER, "embedding_dim": 11}), ("ElectraBackbone", {**ELECTRA, "embedding_dim": 11}),
         ("ElectraBackbone", {**ELECTRA, "embedding_dim": 21}), ("GPT2Backbone", ENCODER), ("LlamaBackbone", DECODER),
         ("Llama3Backbone", {**DECODER, **SCALED}), ("MistralBackbone", {**DECODER, "sliding_window": 7}),
         ("QwenBackbone", DECODER), ("QwenBackbone", {**DECODER, "tie_word_embeddings": False})]


def made(kind, config):
    backbone = getattr(keras_nlp.models, kind)(**config, dtype="float32")
    rng = np.random.default_rng(0)
    for weight in backbone.weights:
        weight.assign(weight.numpy() + 0.2 * rng.standard_normal(weight.shape).astype(np.float32))
    return backbone


@pytest.mark.parametrize("kind, config", CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_backbone_gives_keras_nlp_s_numbers(kind, config):
    backbone, rng = made(kind, config), np.random.default_rng(1)
    inputs = {"token_ids": rng.integers(0, 53, (3, 17)), "padding_mask": np.ones((3, 17), int)}
    inputs["padding_mask"][1, 12:] = 0
    own = {key: value.astype(np.int32) for key, value in inputs.items()}
    if any("segment" in one.name for one in backbone.inputs):
        inputs["segment_ids"] = own["segment_ids"] = (np.arange(17)[None] > [[4], [16], [9]]).astype(np.int32)
    model, settings = convert(backbone)
    theirs, ours, real = backbone(inputs), model(own), own["padding_mask"] > 0
    if isinstance(theirs, dict):
        assert np.abs(ours["sequence"] - theirs["sequence_output"])[real].max() < 1e-5
        assert np.abs(ours["pooled"] - theirs["pooled_output"]).max() < 1e-5
        assert settings["task"] is None
    elif kind in ("RobertaBackbone", "DistilBertBackbone"):
        assert np.abs(ours["sequence"] - theirs)[real].max() < 1e-5
    else:
        expected = backbone.token_embedding(theirs, reverse=True)
        assert settings["task"] == "causal_lm"
        assert np.abs(ours["logits"] - expected)[real].max() < 1e-5 * max(1, np.abs(expected).max())


T5 = {"vocabulary_size": 53, "num_layers": 2, "num_heads": 3, "hidden_dim": 21, "intermediate_dim": 40,
      "key_value_dim": 5}
gelu_approximate = keras.saving.get_registered_object("keras_hub>gelu_approximate")


@pytest.mark.parametrize("activation, own", [
    ("relu", {"use_gated_activation": False}), ("gelu", {"tie_embedding_weights": False}),
    pytest.param(gelu_approximate, {"tie_embedding_weights": False, "key_value_dim": None}, marks=pytest.mark.slow),
    pytest.param("silu", {}, marks=pytest.mark.slow)])
def test_t5_gives_keras_nlp_s_numbers(activation, own):
    backbone, rng = made("T5Backbone", {**T5, "activation": activation, **own}), np.random.default_rng(1)
    inputs = {f"{side}_token_ids": rng.integers(0, 53, (3, length)).astype(np.int32)
              for side, length in (("encoder", 40), ("decoder", 17))}
    inputs.update({name.replace("token_ids", "padding_mask"): np.ones_like(value) for name, value in inputs.items()})
    inputs["encoder_padding_mask"][1, 12:] = inputs["decoder_padding_mask"][2, 9:] = 0
    model, settings = convert(backbone)
    expected = keras_nlp.models.T5Seq2SeqLM(backbone=backbone)(inputs)
    off = np.abs(model(inputs)["logits"] - expected)[inputs["decoder_padding_mask"] > 0]
    assert settings["task"] == "seq2seq" and off.max() < 1e-5 * np.abs(expected).max()


def test_an_activation_of_t5_that_tfzoo_has_not_is_refused():
    with pytest.raises(DataError, match="the preset's activation is relu gated, but must be one of relu, gelu gated"):
        convert(keras_nlp.models.T5Backbone(**T5, activation="relu"))


def test_a_preset_s_folder_loads_with_its_tokenizer(tmp_path):
    words = (vocab_dir() / "bert_uncased" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    backbone = made("BertBackbone", {**ENCODER, "vocabulary_size": len(words)})
    backbone.save_to_preset(str(tmp_path / "bert"))
    keras_nlp.models.BertTokenizer(vocabulary=words, lowercase=True).save_to_preset(str(tmp_path / "bert"))
    loaded = tfzoo.load(f"keras_nlp:{tmp_path / 'bert'}")
    ids = loaded.tokenizer(["A fine film"])
    theirs = backbone({key: np.asarray(value) for key, value in ids.items()})["sequence_output"]
    assert np.abs(loaded.model(ids)["sequence"] - theirs).max() < 1e-5
    assert ids["token_ids"].numpy().tolist() == [[101, 1037, 2986, 2143, 102]]
    tfzoo.save(loaded, tmp_path / "again", format="huggingface")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["hidden_act"] == "gelu_new"


TOKENIZERS = {"GPT2": (kinds.gpt2, ENCODER), "Roberta": (kinds.roberta, ENCODER),
              "Albert": (kinds.albert, {**ENCODER, "embedding_dim": 11}),
              "Llama": (kinds.MAKERS["llama2"], DECODER), "Mistral": (kinds.MAKERS["llama2"], DECODER),
              "T5": (kinds.t5, {**T5, "use_gated_activation": False})}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in ("Mistral", "T5") else [])
                                  for name in TOKENIZERS])
def test_a_preset_s_tokenizer_gives_keras_nlp_s_ids(name, tmp_path):
    make, config = TOKENIZERS[name]
    (tmp_path / "source").mkdir()
    source = make(tmp_path / "source")[0]
    made(f"{name}Backbone", {**config, "vocabulary_size": source.vocab_size}).save_to_preset(str(tmp_path / "preset"))
    told = {"vocabulary": source.ids, "merges": [" ".join(merge) for merge in source.merges]} if hasattr(
        source, "merges") else {"proto": source.model}
    theirs = getattr(keras_nlp.models, f"{name}Tokenizer")(**told)
    theirs.save_to_preset(str(tmp_path / "preset"))
    loaded = tfzoo.load(f"keras_nlp:{tmp_path / 'preset'}")
    texts = real_lines()[::20]  # no hostile texts, since keras-nlp does not split "I'm" before merging
    ids = loaded.tokenizer.encode(texts).to_list()
    assert ids == [list(row) for row in theirs(texts)] and max(map(max, ids)) < loaded.body.config["vocab_size"]
    (tmp_path / "again").mkdir()
    loaded.tokenizer.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").encode(texts).to_list() == ids


def test_why_a_preset_has_no_tokenizer_is_told(tmp_path):
    made("QwenBackbone", DECODER).save_to_preset(str(tmp_path))
    assert "has no tokenizer that" in tfzoo.load(f"keras_nlp:{tmp_path}").tokenizer_problem
    ids = {"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3}
    keras_nlp.models.QwenTokenizer(vocabulary=ids, merges=["a b"]).save_to_preset(str(tmp_path))
    loaded = tfzoo.load(f"keras_nlp:{tmp_path}")
    assert loaded.tokenizer is None and "QwenTokenizer is not supported, only" in loaded.tokenizer_problem
    with pytest.raises(tfzoo.errors.ConfigError, match="QwenTokenizer") as caught:
        loaded.embed(["a"])
    assert "\n" not in str(caught.value)


def test_a_window_is_the_preset_s_or_none():
    assert convert(made("MistralBackbone", {**DECODER, "sliding_window": None}))[0].body.config["window"] == 0
    with pytest.raises(DataError, match="sliding window in some layers"):
        convert(made("QwenBackbone", {**DECODER, "use_sliding_window_attention": True}))


def test_what_cannot_be_had_is_refused_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot be loaded") as caught:
        tfzoo.load(f"keras_nlp:{tmp_path}")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="but must be one of BertBackbone"):
        convert(keras_nlp.models.OPTBackbone(53, 1, 2, 8, 16))


@pytest.mark.parametrize("source, error, says", [
    ("hf:../secret", tfzoo.errors.ConfigError, "is not a model ID"),
    ("hf:a/b/c", tfzoo.errors.ConfigError, "OWNER/NAME"),
    ("hf:nobody/nothing", FileNotFoundError, "check the name and the network")])
def test_the_hub_is_asked_only_by_name_and_its_refusal_is_one_line(source, error, says, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(error, match=says) as caught:
        tfzoo.load(source)
    assert "\n" not in str(caught.value)


def _refusals():
    full, closed = OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EACCES, "no", "/cache/x")
    wrapped = RuntimeError("cannot be fetched")
    wrapped.__cause__ = full
    offline = ConnectionError(errno.ECONNREFUSED, "Connection refused")
    rust = RuntimeError("Data processing error: I/O error: No space left on device (os error 28)")
    return [*((error, errno.ENOSPC) for error in (full, wrapped, rust)), (closed, errno.EACCES), (offline, None)]


@pytest.mark.parametrize("raised, number", _refusals())
@pytest.mark.parametrize("source, place", [("hf:someone/small", "huggingface_hub.snapshot_download"),
                                           ("keras_nlp:small", "keras_nlp.models.Backbone.from_preset")])
def test_a_cache_that_cannot_be_written_is_not_a_model_that_is_missing(raised, number, source, place, monkeypatch):
    def fail(*arguments, **options):
        raise raised

    monkeypatch.setattr(place, fail)
    with pytest.raises(OSError) as caught:
        tfzoo.load(source)
    assert isinstance(caught.value, FileNotFoundError) == (number is None)
    assert app._code_of(caught.value) == (app.EXIT_MISSING if number is None else app.EXIT_WRITE)
    if number is not None:
        assert caught.value.errno == number and source in app._line_of(caught.value)
