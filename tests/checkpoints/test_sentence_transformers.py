"""Folders of sentence-transformers give the same vectors, or are refused with a one-line message."""
import json

import numpy as np
import pytest

import tfzoo
from tests.experiments.conftest import call  # noqa: F401  a fixture
from tests.golden import vectors
from tests.helpers import CHECKOUT, refused
from tfzoo.errors import ConfigError

GOLDEN = CHECKOUT / "tests" / "golden" / "vectors.npz"


def change(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize("case", vectors.CASES)
def test_vectors_are_those_of_sentence_transformers(case, tmp_path):
    golden = np.load(GOLDEN)
    vectors.write_folder(case, tmp_path / "model")
    loaded = tfzoo.load(tmp_path / "model")
    found = loaded.embed(vectors.TEXTS)
    assert found.shape == golden[case].shape and np.abs(found - golden[case]).max() < 1e-5
    assert loaded.embed([]).shape == (0, golden[case].shape[1])
    if f"{case}:passage" in golden:
        passages = loaded.embed(vectors.TEXTS, prompt_name="passage")
        assert np.abs(passages - golden[f"{case}:passage"]).max() < 1e-5


@pytest.mark.parametrize("format", ["tfzoo", "huggingface"])
def test_a_saved_folder_gives_the_same_vectors(format, tmp_path):
    vectors.write_folder("prompt", tmp_path / "model")
    tfzoo.save(tfzoo.load(tmp_path / "model"), tmp_path / "again", format=format)
    again = tfzoo.load(tmp_path / "again")
    assert np.abs(again.embed(vectors.TEXTS) - np.load(GOLDEN)["prompt"]).max() < 1e-5
    assert again.config["max_length"] == 7


def test_predict_gives_the_same_vectors_and_counts_what_is_cut(call, tmp_path):  # noqa: F811
    vectors.write_folder("prompt", tmp_path / "model")
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in vectors.TEXTS))
    code, out, err = call("predict", f"--init={tmp_path / 'model'}", "--task=embedding",
                          f"--data={tmp_path / 'texts.jsonl'}")
    found = np.array([json.loads(line)["embedding"] for line in out.splitlines()])
    assert code == 0 and np.abs(found - np.load(GOLDEN)["prompt"]).max() < 1e-5
    assert "2 of 6 texts were truncated to 7 tokens" in err  # the prompt's two tokens count


def test_a_pooling_that_is_asked_for_is_that_of_the_hidden_states(tmp_path):
    vectors.write_folder("mean_normalized", tmp_path / "model")
    loaded = tfzoo.load(tmp_path / "model")
    whole, mean = loaded.embed(vectors.TEXTS), loaded.embed(vectors.TEXTS, pooling="mean")
    assert np.abs(np.linalg.norm(mean, axis=1) - 1).min() > 0.1  # not normalized
    assert np.abs(mean[0] / np.linalg.norm(mean[0]) - whole[0]).max() < 1e-6
    with pytest.raises(ConfigError, match="prompt_name is 'other'; available prompts: query, document"):
        loaded.embed(["a"], prompt_name="other")


def test_a_transformer_in_a_folder_of_its_own_is_found(tmp_path):
    vectors.write_folder("mean_normalized", tmp_path / "model")
    expected, inner = tfzoo.load(tmp_path / "model").embed(vectors.TEXTS), tmp_path / "model" / "0_BERT"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "sentence_bert_config.json", "vocab.txt", "tokenizer_config.json"):
        (tmp_path / "model" / name).rename(inner / name)
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    modules[0]["path"] = "0_BERT"
    (tmp_path / "model" / "modules.json").write_text(json.dumps(modules))
    assert np.array_equal(tfzoo.load(tmp_path / "model").embed(vectors.TEXTS), expected)


DENSE = [{"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
         for number, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")])]


@pytest.mark.parametrize("file, content, says", [
    ("modules.json", DENSE, "has 'Transformer, Pooling, Dense', but must have Transformer, Pooling and"),
    ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False},
     r"has the pooling .*, but must use one or more of cls, max"),
    ("1_Pooling/config.json", {"pooling_mode": "attention"}, "has the pooling"),
    ("1_Pooling/config.json", {"pooling_mode_sum_tokens": True}, "has 'pooling_mode_sum_tokens', but may only have"),
    ("1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True,
                               "include_prompt": False}, "cls and max pooling without the prompt"),
    ("config_sentence_transformers.json", {"default_prompt_name": "other"}, "has the default prompt 'other'"),
    ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type 'SparseEncoder'"),
    ("sentence_bert_config.json", {"model_args": {"attn_implementation": "eager"}}, "has 'model_args'"),
    ("tokenizer_config.json", {"padding_side": "left"}, "pads on the left"),
    ("sentence_bert_config.json", {"max_seq_length": 0}, "maximum length of 0 tokens")])
def test_what_is_not_computed_is_refused_where_vectors_are_asked_for(file, content, says, tmp_path):
    vectors.write_folder("mean_normalized", tmp_path / "model")
    (tmp_path / "model" / file).write_text(json.dumps(content))
    loaded = tfzoo.load(tmp_path / "model")  # the Transformer can still be fine-tuned
    with pytest.raises(ConfigError, match=says) as error:
        loaded.embed(vectors.TEXTS)
    assert len(str(error.value).splitlines()) == 1
    assert loaded.embed(["a"], pooling="first").shape == (1, 12)
    with pytest.raises(ConfigError, match=says):
        tfzoo.save(loaded, tmp_path / "theirs", format="huggingface")


@pytest.mark.parametrize("file, content, says", [
    ("modules.json", "{}", "not a list"), ("modules.json", "[]", "no list of modules"),
    ("modules.json", '[{"type": 3}]', "no list of modules"), ("modules.json", "[" * 10 ** 5, "damaged"),
    ("modules.json", json.dumps([{**DENSE[0], "path": "../other"}]), "must be a folder next to it"),
    ("modules.json", json.dumps([{**DENSE[0], "path": "/"}]), "must be a folder next to it"),
    ("1_Pooling/config.json", "nothing", "damaged"),
    ("1_Pooling/config.json", '{"include_prompt": 3}', "embedding settings are damaged"),
    ("sentence_bert_config.json", '{"do_lower_case": "yes"}', "embedding settings are damaged"),
    ("config_sentence_transformers.json", '{"prompts": {"query": 3}}', "embedding settings are damaged"),
    ("config_sentence_transformers.json", '{"prompts": ["query: "]}', "embedding settings are damaged")])
def test_a_damaged_folder_is_refused(file, content, says, tmp_path):
    vectors.write_folder("mean_normalized", tmp_path / "model")
    (tmp_path / "model" / file).write_text(content)
    refused(tmp_path / "model", says)


def test_a_saved_model_s_embedding_must_be_one(tmp_path):
    vectors.write_folder("mean_normalized", tmp_path / "model")
    tfzoo.save(tfzoo.load(tmp_path / "model"), tmp_path / "ours")
    change(tmp_path / "ours" / "config.json", embedding={"pooling": ["mean"]})
    refused(tmp_path / "ours", "the embedding settings are damaged")
