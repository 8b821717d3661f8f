"""Models as used with Keras: exported and saved by Keras, and given wrong inputs and wrong arguments."""
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.models.test_models import SMALL
from tfzoo.checkpoints import Loaded
from tfzoo.errors import ConfigError
from tfzoo.models import Encoder
from tfzoo.tasks import TaskModel, task_of
from tfzoo.tasks.heads import ClassificationHead
from tfzoo.text import load_tokenizer
from tfzoo.training.model import open_init
from tfzoo.training.settings import Settings

IDS = np.random.default_rng(0).integers(5, 50, (2, 7))
LABELS = ["x", "y"]


@pytest.fixture(scope="module")
def model():
    return tfzoo.build("bert_tiny", "classification", LABELS, **SMALL)


@pytest.fixture(scope="module")
def writer():
    return tfzoo.build("t5_tiny", "seq2seq", **{**SMALL, "vocab_size": 300})


@pytest.mark.parametrize("kind", ["model", pytest.param("writer", marks=pytest.mark.slow)])
def test_keras_exports_a_model_that_nobody_has_called(kind, request, tmp_path):
    live = request.getfixturevalue(kind)
    live.export(str(tmp_path / "served"), verbose=False)
    inputs = {name: tf.constant(IDS if name.endswith("token_ids") else np.ones_like(IDS) * (name != "segment_ids"),
                                tf.int32) for name in live.input_names}
    served = tf.saved_model.load(str(tmp_path / "served"))
    assert np.abs(served.serve(inputs)["logits"] - live(inputs)["logits"]).max() < 1e-5
    sides = ["encoder_", "decoder_"] if kind == "writer" else [""]
    assert set(inputs) == {f"{side}{name}" for side in sides for name in ("token_ids", "padding_mask")} | (
        set() if kind == "writer" else {"segment_ids"})


def test_what_keras_makes_of_a_model_is_the_same_model(model, tmp_path):
    inputs = {"token_ids": IDS}  # int64, NumPy's default
    before = model(inputs)["logits"]
    model.save(tmp_path / "one.keras")
    model.save_weights(tmp_path / "one.weights.h5")
    clone = keras.models.clone_model(model)
    clone.load_weights(tmp_path / "one.weights.h5")
    for again in (clone, keras.models.load_model(tmp_path / "one.keras")):
        assert np.array_equal(again(inputs)["logits"], before) and again.task.labels == LABELS
        tfzoo.save(again, tmp_path / "two")
        assert np.array_equal(tfzoo.load(tmp_path / "two").model(inputs)["logits"], before)
    assert np.abs(model.predict(inputs, verbose=0)["logits"] - before).max() < 1e-5


@pytest.mark.parametrize("inputs, says", [
    (IDS, "inputs must be a dict of token_ids, padding_mask, segment_ids, got a"), (["a text"], "got a list"),
    ({}, "inputs contain nothing; token_ids"), ({"padding_mask": IDS}, "padding_mask; token_ids is required"),
    ({"token_ids": IDS.tolist()}, "is a list"), ({"token_ids": IDS[0]}, r"shape .7. and"),
    ({"token_ids": IDS.astype("float32")}, "must be integers of shape .B, T., got .*dtype float32"),
    ({"token_ids": np.ones((2, 21), int)}, "21 columns, but the model has only 20 positions .max_length"),
    ({"token_ids": IDS, "padding_mask": np.ones((2, 5))}, "padding_mask has 5 columns, but token_ids has 7")])
@pytest.mark.parametrize("part", ["whole", "body"])
def test_wrong_inputs_are_refused_in_one_line(model, inputs, says, part):
    for call in (model if part == "whole" else model.body, tf.function(model, autograph=False)):
        with pytest.raises(ConfigError, match=says) as caught:
            call(inputs)
        assert str(caught.value).isprintable()


def test_positions_that_are_no_table_have_no_end(writer):
    long = np.full((1, 30), 6)
    assert writer({"encoder_token_ids": long, "decoder_token_ids": long})["logits"].shape == (1, 30, 300)
    llama = tfzoo.build("llama_tiny", **{**SMALL, "num_kv_heads": 2, "head_dim": 6})
    assert llama({"token_ids": long})["sequence"].shape == (1, 30, 24)


@pytest.mark.parametrize("arguments, says", [
    ({"labels": LABELS}, "no task is given"), ({"dropout": 1.5}, "dropout must be at least 0 and less"),
    ({"dropout": -0.1}, "0 or more"), ({"epsilon": -1.0}, "0 or more"),
    ({"dtype": "float99"}, "policy .* got 'float99'"), ({"name": None}, "unknown model 'None'")])
def test_wrong_arguments_are_refused(arguments, says):
    with pytest.raises(ConfigError, match=says):
        tfzoo.build(**{"name": "bert_tiny", **SMALL, **arguments})


def test_what_could_not_be_loaded_again_is_not_saved(tmp_path):
    body = Encoder(**SMALL, name="bert_tiny")
    task = task_of("classification", LABELS)
    for model, says in ((TaskModel(body, ClassificationHead(2, 24)), "has a head but no task"),
                        (TaskModel(body, ClassificationHead(3, 24), task), "do not match model.keras"),
                        (Encoder(**SMALL, name="gpt2_tiny"), "but model.keras contains a Encoder"),
                        ("model", "the model is a str"),
                        (Loaded(body, None, {"model": "bert_tiny", "task": None, "labels": None, "settings": {},
                                             "max_length": 21}), "max_length is 21")):
        with pytest.raises(ConfigError, match=says):
            tfzoo.save(model, tmp_path / "model")
        assert not (tmp_path / "model").exists()
    tfzoo.save(TaskModel(body, ClassificationHead(2, 24, name="mine"), task, name="own"), tmp_path / "model")
    assert tfzoo.load(tmp_path / "model").config["labels"] == LABELS


@pytest.mark.parametrize("task", ["classification", "tagging", "masked_lm"])
def test_an_encoder_decoder_that_cannot_learn_the_task_is_refused_before_data_are_read(writer, task, tmp_path):
    tfzoo.save(Loaded(writer, load_tokenizer("bytes"), {"model": "t5_tiny", "task": "seq2seq", "labels": None,
                                                        "settings": {}, "max_length": 20}), tmp_path / "theirs")
    with pytest.raises(ConfigError, match=f"t5_tiny cannot learn {task}"):
        open_init(Settings.resolve({"task": task, "init": str(tmp_path / "theirs"), "data": "d", "output_dir": "o"}))
