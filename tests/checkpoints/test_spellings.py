"""Variants of config.json are read as transformers reads them, or refused with a one-line message."""
import json

import numpy as np
import pytest

import tfzoo
from tests.checkpoints import parity
from tests.golden import families
from tests.helpers import CHECKOUT, refused
from tfzoo.layers.feed_forward import GATED, activation_of
from tfzoo.models import FAMILIES
from tfzoo.models.reference import ACTIVATIONS, GATE_ACTIVATIONS

THEIRS = json.loads((CHECKOUT / "tests" / "golden" / "spellings.json").read_text())
REFERENCES = {family.reference.model_type: family.reference for family in FAMILIES if family.reference}
REMOVED = object()


def write(case, folder, **changes):
    """Write the folder of a golden case with changes to its config.json."""
    about, _ = parity.read_case(parity.GOLDEN / "families" / f"{case}.npz")
    config = {key: value for key, value in {**about["config"], **changes}.items() if value is not REMOVED}
    parity.write_folder({**about, "config": config}, folder)


@pytest.mark.parametrize("model_type", REFERENCES)
def test_keys_that_config_json_omits_have_transformers_defaults(model_type):
    reference, theirs = REFERENCES[model_type], THEIRS["defaults"][model_type]
    for key in (*reference.arguments.values(), reference.dropouts[0]):
        ours = reference.defaults.get(key)
        assert ours == theirs.get(key) or (key in ("num_key_value_heads", "head_dim") and ours is None and theirs[
            key] in (theirs["num_attention_heads"], theirs["hidden_size"] // theirs["num_attention_heads"])), key
    aliases = dict(reference.aliases)
    if model_type == "t5":  # this key sets only the number of encoder layers
        aliases["num_hidden_layers"] = "num_layers"
        assert ("num_hidden_layers", "num_layers") in reference.equal
    assert aliases == THEIRS["aliases"][model_type]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_s_name_means_transformers_function(name):
    found = np.asarray(activation_of(ACTIVATIONS[name])(np.array(THEIRS["points"], np.float32)))
    assert np.abs(found - THEIRS["activations"][name]).max() < 1e-6 * 11
    assert name not in GATE_ACTIVATIONS or GATED[GATE_ACTIVATIONS[name]] == ACTIVATIONS[name]


def test_t5_computes_its_gated_gelu_by_tanh():
    activations = REFERENCES["t5"].activations
    assert activations["gated-gelu"] == "geglu_tanh" and activations["gated-silu"] == "swiglu"
    assert activations["gelu"] == "gelu" and activations["gated-gelu_new"] == "geglu_tanh"


CLASSIFIER = "bert-BertForSequenceClassification"


@pytest.mark.parametrize("case, changes", [
    ("gpt2-GPT2Model", {"n_embd": REMOVED, "hidden_size": "n_embd", "n_layer": REMOVED,
                        "num_hidden_layers": "n_layer", "n_head": REMOVED, "num_attention_heads": "n_head",
                        "n_positions": REMOVED, "max_position_embeddings": "n_positions"}),
    ("distilbert-DistilBertModel", {"dim": REMOVED, "hidden_size": "dim"}),
    ("t5-T5Model", {"d_kv": REMOVED, "head_dim": "d_kv", "num_hidden_layers": "num_layers", "is_gated_act": False,
                    "dense_act_fn": "relu"}),
    ("t5_1.1-T5Model", {"dense_act_fn": "gelu_new", "is_gated_act": True}),
    ("llama-LlamaModel", {"hidden_act": "swish", "pruned_heads": {}, "quantization_config": None}),
    ("qwen2-Qwen2Model", {"layer_types": ["full_attention"] * families.LAYERS, "partial_rotary_factor": 1}),
    ("bert-BertModel", {"hidden_act": "gelu_python", "architectures": ["TFBertModel"]}),
    ("albert-AlbertModel", {"hidden_act": "gelu_fast", "architectures": None}),
    (CLASSIFIER, {"architectures": ["TFBertForSequenceClassification"], "num_labels": 7})])
def test_the_same_model_in_other_words(case, changes, tmp_path):
    write(case, tmp_path / "one")
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    changes = {key: config.get(value, value) if isinstance(value, str) else value for key, value in changes.items()}
    write(case, tmp_path / "two", **changes)
    one, two = tfzoo.load(tmp_path / "one"), tfzoo.load(tmp_path / "two")
    assert one.body.config == two.body.config and one.config["labels"] == two.config["labels"]
    assert all(np.array_equal(*pair) for pair in zip(one.model.weights, two.model.weights, strict=True))


def test_the_width_of_a_head_need_not_divide_that_of_qwen2(tmp_path):
    write("qwen2-Qwen2Model", tmp_path, head_dim=4)
    refused(tmp_path, "q_proj.* has shape")  # the tensors have a different shape


@pytest.mark.parametrize("changes, labels", [
    ({"id2label": REMOVED, "label2id": REMOVED, "num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ({"id2label": None, "label2id": {"x": 0, "y": 1, "z": 2}, "num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ({"id2label": {"2": "c", "0": "a", "1": 5}, "label2id": {"a": 2}, "num_labels": 2}, ["a", "5", "c"])])
def test_labels_are_those_that_transformers_derives(changes, labels, tmp_path):
    write(CLASSIFIER, tmp_path, **changes)
    assert tfzoo.load(tmp_path).config["labels"] == labels


def test_a_tagger_s_problem_type_means_nothing(tmp_path):
    write("bert-BertForTokenClassification", tmp_path, problem_type="multi_label_classification")
    assert tfzoo.load(tmp_path).config["task"] == "tagging"


@pytest.mark.parametrize("case, changes, says", [
    ("t5_1.1-T5Model", {"dense_act_fn": "gelu"}, "dense_act_fn is 'gelu', but the other settings require 'gelu_new'"),
    ("t5-T5Model", {"is_gated_act": True}, "is_gated_act is True, but the other settings require False"),
    ("t5-T5Model", {"num_hidden_layers": 2}, "num_hidden_layers is 2, but must equal num_layers, which is 3"),
    ("t5-T5Model", {"feed_forward_proj": "gated-relu"}, "feed_forward_proj is 'gated-relu', but must be one of gelu"),
    ("gpt2-GPT2Model", {"hidden_size": 8}, "hidden_size is 8, but n_embd is .*: keep only one of them"),
    ("llama-LlamaModel", {"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2.0}},
     "type is 'linear', but rope_type is 'yarn': keep only one of them"),
    ("llama-LlamaModel", {"quantization_config": {"quant_method": "gptq"}},
     "quantization_config is .*, but must be None"),
    ("llama-LlamaModel", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    ("qwen2-Qwen2Model", {"layer_types": ["sliding_attention"] * 3}, "layer_types is"),
    ("qwen2-Qwen2Model", {"layer_types": 3}, "layer_types is 3"),
    ("bert-BertModel", {"pruned_heads": {"0": [1]}}, "pruned_heads is"),
    ("bert-BertModel", {"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu', but must be one of gelu"),
    ("bert-BertModel", {"model_type": REMOVED}, "model_type is None, but must be one of bert"),
    (CLASSIFIER, {"architectures": ["BertForSequenceClassification", "BertModel"]},
     "architectures is .*, but must be exactly one of"),
    (CLASSIFIER, {"id2label": {}}, "0 label"),
    (CLASSIFIER, {"id2label": None, "num_labels": 1}, "classifier.weight has shape"),
    (CLASSIFIER, {"id2label": None, "num_labels": "3"}, "num_labels is '3'")])
def test_another_model_is_refused(case, changes, says, tmp_path):
    write(case, tmp_path, **changes)
    refused(tmp_path, says)
