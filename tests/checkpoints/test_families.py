"""Compare outputs after loading and tensors after saving with golden files, for every architecture of transformers."""
import json

import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.checkpoints import parity
from tests.golden import families
from tfzoo.checkpoints.folder import with_head


BODIES = [(family, architecture) for family, architecture in families.CASES if architecture.endswith("Model")
          and "LMHead" not in architecture]


@pytest.mark.parametrize("family, architecture", [  # fast for each body, and for the heads whose gradients are compared
    case if case in BODIES or case[1] in families.GRADIENTS else pytest.param(*case, marks=pytest.mark.slow)
    for case in families.CASES])
def test_a_loaded_folder_gives_the_reference_s_numbers_and_is_written_as_it_was(family, architecture, tmp_path):
    found = parity.differences(parity.GOLDEN / "families" / f"{family}-{architecture}.npz", tmp_path)
    assert found.pop("out") == 0.0
    kinds = {"in", "hidden", "gradients"} if architecture in families.GRADIENTS else {"in", "hidden"}
    assert found.keys() == kinds and all(difference <= parity.BOUND for difference in found.values()), found


def body_of(family, architecture, folder, dtype=None):
    about, arrays = parity.read_case(parity.GOLDEN / "families" / f"{family}-{architecture}.npz")
    parity.write_folder(about, folder)
    return tfzoo.load(folder, dtype), families.inputs_of(about["config"], about["seed"])[-1], arrays


def test_reading_a_loaded_weight_copies_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tfzoo.checkpoints.huggingface.PIECE", 100)  # assign in several pieces, as for a large table
    table = body_of(*BODIES[0], tmp_path)[0].model.get_layer("embeddings").weights[0].value
    reads = [memoryview(table.read_value()) for _ in range(2)]
    assert table.shape.num_elements() > 100 and len({np.asarray(read).ctypes.data for read in reads}) == 1


@pytest.mark.parametrize("family, architecture", BODIES)
def test_in_bfloat16_it_is_near(family, architecture, tmp_path):
    loaded, inputs, arrays = body_of(family, architecture, tmp_path, "mixed_bfloat16")
    real = families.mask_of(inputs).astype(bool)
    found, expected = np.asarray(loaded.model(inputs)["sequence"], np.float32)[real], arrays["2:sequence"][real]
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 1.25 * arrays["bfloat16"], (error, arrays["bfloat16"])  # the error of transformers itself


@pytest.mark.parametrize("family, architecture", [
    case if case in BODIES else pytest.param(*case, marks=pytest.mark.slow) for case in families.CASES])
def test_a_row_of_padding_alone_gives_finite_numbers(family, architecture, tmp_path):
    loaded, inputs, _ = body_of(family, architecture, tmp_path)
    hidden = {key: np.where(np.arange(3)[:, None] == 1, 0, value) if "mask" in key else value
              for key, value in inputs.items()}
    with tf.GradientTape() as tape:
        one, two = loaded.model(inputs), loaded.model(hidden)
        total = tf.add_n([tf.reduce_sum(tf.cast(value, tf.float32)) for value in two.values()])
    for value in (*two.values(), *(value for value in tape.gradient(total, loaded.model.trainable_variables)
                                   if value is not None)):
        assert np.isfinite(np.asarray(tf.convert_to_tensor(value))).all()
    for name, value in one.items():
        assert np.abs(value - two[name])[[0, 2]].max() < 1e-5 * np.abs(value).max(), name


@pytest.mark.parametrize("name, task, rate", [
    ("bert_tiny", "classification", 0.1), ("distilbert_tiny", "classification", 0.2),
    ("distilbert_tiny", "tagging", 0.1),
    ("distilbert_tiny", "question_answering", 0.1), ("albert_tiny_v2", "classification", 0.1),
    ("bert_tiny", "question_answering", 0.0), ("gpt2_tiny", "classification", 0.0), ("gpt2_tiny", "tagging", 0.1),
    ("llama_tiny", "tagging", 0.1), ("qwen2_tiny", "classification", 0.0)])
def test_a_fresh_head_drops_what_the_reference_s_drops(name, task, rate):
    labels = ["a", "b"] if task in ("classification", "tagging") else None
    small = {"vocab_size": 31, "num_layers": 1, "hidden_dim": 16, "num_heads": 2, "ffn_dim": 16}
    assert tfzoo.build(name, task=task, labels=labels, **small).head.config["dropout"] == rate
    other = tfzoo.build(name, task=task, labels=labels, dropout=0.3, **small).head.config["dropout"]
    assert other == (0.3 if rate else 0.0)


@pytest.mark.parametrize("words, rate", [({}, 0.2), ({"seq_classif_dropout": 0.4}, 0.4)])
def test_a_loaded_head_drops_what_its_config_says(words, rate, tmp_path):
    about, _ = parity.read_case(parity.GOLDEN / "families" / "distilbert-DistilBertForSequenceClassification.npz")
    parity.write_folder({**about, "config": {**about["config"], **words}}, tmp_path)
    loaded = tfzoo.load(tmp_path)
    assert loaded.model.head.config["dropout"] == rate
    tfzoo.save(loaded, tmp_path / "again", format="huggingface")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["seq_classif_dropout"] == rate
    same, fresh, _ = with_head(loaded, loaded.task)
    assert same.head.config["dropout"] == rate and not fresh
