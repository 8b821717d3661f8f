"""Regression, multi-label classification and multiple choice in transformers' folders.

The golden files are of sequence classification: its class is the same for all three problem types, and BERT's class for
multiple choice differs only in its one label.
"""
import json

import numpy as np
import pytest

import tfzoo
from tests.checkpoints import parity
from tests.golden import families
from tfzoo.checkpoints.tensors import Tensors, write_tensors
from tfzoo.errors import DataError

CASE = "{}-{}ForSequenceClassification.npz"


def folder_of(folder, family, name, labels=None, **changes):
    """Write the golden folder with other keys in config.json, and only the first labels; return inputs and logits."""
    about, arrays = parity.read_case(parity.GOLDEN / "families" / CASE.format(family, name))
    parity.write_folder(about, folder)
    inputs = families.inputs_of(about["config"], about["seed"])[-1]
    loaded = tfzoo.load(folder)
    logits = np.asarray(loaded.model(inputs)["logits"])
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    if labels:
        tensors = Tensors(folder)
        last = [key for key in tensors.shapes if tensors.shapes[key][0] == logits.shape[1] and "classifier" in key]
        values = {key: tensors.get(key)[:labels] if key in last else tensors.get(key) for key in tensors.shapes}
        write_tensors(folder, [(key, value.nbytes, lambda value=value: value) for key, value in values.items()])
    return inputs, logits


@pytest.mark.parametrize("family, name", [("bert", "Bert"), ("distilbert", "DistilBert"), ("gpt2", "GPT2")])
def test_multi_label_models_have_the_logits_of_the_golden_file(family, name, tmp_path):
    inputs, logits = folder_of(tmp_path / "a", family, name, problem_type="multi_label_classification")
    loaded = tfzoo.load(tmp_path / "a")
    assert loaded.task.name == "multi_label" and np.array_equal(loaded.model(inputs)["logits"], logits)
    tfzoo.save(loaded, tmp_path / "b", format="huggingface")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification" and len(config["id2label"]) == logits.shape[1]
    assert tfzoo.load(tmp_path / "b").task.name == "multi_label"


@pytest.mark.parametrize("given", [{"problem_type": "regression"}, {}])
def test_one_label_is_a_regression(given, tmp_path):
    inputs, logits = folder_of(tmp_path / "a", "bert", "Bert", 1, id2label={"0": "LABEL_0"}, **given)
    loaded = tfzoo.load(tmp_path / "a")
    assert (loaded.task.name, loaded.config["labels"]) == ("regression", None)
    assert np.abs(loaded.model(inputs)["logits"] - logits[:, :1]).max() < 1e-5
    tfzoo.save(loaded, tmp_path / "b", format="huggingface")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert (config["problem_type"], config["id2label"]) == ("regression", {"0": "LABEL_0"})
    assert np.array_equal(tfzoo.load(tmp_path / "b").model(inputs)["logits"], loaded.model(inputs)["logits"])


def test_multiple_choice_scores_each_choice(tmp_path):
    inputs, logits = folder_of(tmp_path / "a", "bert", "Bert", 1, architectures=["BertForMultipleChoice"])
    loaded = tfzoo.load(tmp_path / "a")
    assert loaded.task.name == "multiple_choice"
    several = {key: np.stack([value, value[::-1]]) for key, value in inputs.items()}  # [B, N, T]
    found = np.asarray(loaded.model(several)["logits"])
    assert np.abs(found - np.stack([logits[:, 0], logits[::-1, 0]])).max() < 1e-5
    tfzoo.save(loaded, tmp_path / "b", format="huggingface")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["architectures"] == ["BertForMultipleChoice"]
    assert np.array_equal(tfzoo.load(tmp_path / "b").model(several)["logits"], found)


@pytest.mark.parametrize("name, tensor", [
    ("roberta", "roberta.pooler.dense.weight"), ("distilbert", "pre_classifier.weight"),
    ("albert", "albert.pooler.weight"), ("electra", "sequence_summary.summary.weight")])
def test_other_families_write_the_tensors_of_their_class(name, tensor, tmp_path):
    from tests.tasks.test_kin import make
    model = make("multiple_choice", f"{name}_tiny{'_v1' * (name == 'albert')}")
    tfzoo.save(model, tmp_path / "a", format="huggingface")
    shapes = Tensors(tmp_path / "a").shapes
    assert tensor in shapes and shapes["classifier.weight"] == (1, 24)
    ids = np.arange(5, 25).reshape(2, 2, 5).astype(np.int32)
    again = tfzoo.load(tmp_path / "a")
    assert np.array_equal(again.model({"token_ids": ids})["logits"], model({"token_ids": ids})["logits"])


@pytest.mark.parametrize("changes, says", [
    ({"problem_type": "regression"}, "regression with [0-9]+ label.s., but a regression has one"),
    ({"problem_type": "single_label_classification", "id2label": {"0": "a"}}, "classification with 1 label"),
    ({"problem_type": "ranking"}, "problem_type is 'ranking', but must be single_label_classification or regression")])
def test_contradictions_are_refused(changes, says, tmp_path):
    folder_of(tmp_path, "bert", "Bert", **changes)
    with pytest.raises(DataError, match=says):
        tfzoo.load(tmp_path)
