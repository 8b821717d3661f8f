"""Test that a live model, model.keras and a SavedModel in a process without tfzoo give the same answers."""
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.experiments.conftest import call  # noqa: F401  a fixture
from tests.helpers import hostile_texts
from tests.models.test_models import SMALL
from tests.text.kinds import MAKERS
from tfzoo.checkpoints import Loaded
from tfzoo.errors import ConfigError
from tfzoo.export import export, serving_function
from tfzoo.tasks.predictor import Predictor
from tfzoo.text import learn_tokenizer, load_tokenizer
from tfzoo.text.byte import ByteTokenizer

ASK = """
import sys
import numpy as np, tensorflow as tf, tensorflow_text
served = tf.saved_model.load(sys.argv[1])
texts = tf.constant(list(np.load(sys.argv[2], allow_pickle=True)))
answers = served.signatures["serving_default"](text=texts)
pairs = served.signatures["pair"](text=texts, text_pair=texts[::-1])
assert not any(name.split(".")[0] == "tfzoo" for name in sys.modules)
assert len(served.variables) == len(served.trainable_variables) == int(sys.argv[4])
np.savez(sys.argv[3], label=answers["label"].numpy().astype("S"), probabilities=answers["probabilities"].numpy(),
         pair=pairs["probabilities"].numpy(), cut=answers["cut"].numpy())
"""


def make(tokenizer, name="bert_tiny", length=20):
    model = tfzoo.build(name, task="classification", labels=["no", "yes"],
                        **{**SMALL, "vocab_size": tokenizer.vocab_size})
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    return Loaded(model, tokenizer, {"model": name, "task": "classification", "labels": ["no", "yes"],
                                     "settings": {}, "max_length": length})


def probabilities(loaded, texts, pairs=None, size=32):
    """Return (probabilities from a live model, float [N, C]; the Predictor that computed them)."""
    predictor = Predictor(loaded.model, loaded.tokenizer, loaded.config["max_length"])
    columns = {"text": texts} if pairs is None else {"text": texts, "text_pair": pairs}
    rows = [{key: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
             for key, value in zip(columns, values)} for values in zip(*columns.values())]
    answers = [answer for first in range(0, len(rows), size) for answer in predictor(rows[first:first + size])]
    return np.array([list(answer["probabilities"].values()) for answer in answers]), predictor


@pytest.mark.slow
@pytest.mark.parametrize("kind, name", [
    ("wordpiece", "bert_tiny"), ("bytes", "bert_tiny"), ("roberta", "roberta_tiny"), ("qwen2", "qwen2_tiny"),
    ("llama2", "llama_tiny")])
def test_live_saved_and_served_give_the_same_answers(kind, name, tmp_path):
    texts = hostile_texts(200)
    assert len(texts) == 200
    if kind in MAKERS:
        (tmp_path / "vocabulary").mkdir()
        tokenizer, _ = MAKERS[kind](tmp_path / "vocabulary")
    else:
        tokenizer = load_tokenizer("bytes") if kind == "bytes" else learn_tokenizer(
            "learn:wordpiece:300", [text.decode("utf-8", "replace") for text in texts])
    live = make(tokenizer, name)
    answers = probabilities(live, texts)[0]
    tfzoo.save(live, tmp_path / "model")
    saved = probabilities(tfzoo.load(tmp_path / "model"), texts)[0]
    assert np.array_equal(saved, answers)
    assert isinstance(keras.models.load_model(tmp_path / "model" / "model.keras", safe_mode=True), keras.Model)
    export(live, tmp_path / "served")
    np.save(tmp_path / "texts.npy", np.array(texts, object), allow_pickle=True)
    subprocess.run([sys.executable, "-c", ASK, str(tmp_path / "served" / "1"), str(tmp_path / "texts.npy"),
                    str(tmp_path / "out.npz"), str(len(live.model.trainable_variables))], check=True,
                   capture_output=True)
    served = np.load(tmp_path / "out.npz")
    assert np.abs(served["probabilities"] - answers).max() < 1e-6
    assert served["label"].tolist() == [[b"no", b"yes"][row.argmax()] for row in answers]
    assert np.abs(served["pair"] - probabilities(live, texts, texts[::-1])[0]).max() < 1e-6
    assert len(set(np.round(answers[:, 0], 4))) > 100
    lengths = live.tokenizer.encode(texts).row_lengths().numpy()
    assert np.array_equal(served["cut"], np.maximum(lengths - live.tokenizer.room(20, 1), 0))
    assert json.loads((tmp_path / "served" / "1" / "assets.extra" / "labels.json").read_text()) == ["no", "yes"]


@pytest.mark.parametrize("paired", [False, True])
def test_what_is_served_counts_the_tokens_that_did_not_fit(paired):
    live, texts = make(load_tokenizer("bytes")), ["", "x" * 18, "x" * 19, "ü" * 30]  # length 20, 2 or 3 special tokens
    pairs = ["x"] * 4 if paired else None
    served = serving_function(live)(tf.constant(texts), tf.constant(pairs) if paired else None)
    assert served["cut"].dtype == tf.int32
    assert served["cut"].numpy().tolist() == ([0, 2, 3, 44] if paired else [0, 0, 1, 42])
    assert probabilities(live, texts, pairs)[1].cut == sum(served["cut"].numpy() > 0)


def test_a_text_answers_alone_as_among_others():
    live = make(load_tokenizer("bytes"))
    texts = hostile_texts(40)
    together, predictor = probabilities(live, texts)
    alone, _ = probabilities(live, texts, size=1)
    assert np.abs(together - alone).max() < 1e-5
    long = sum(len(text.decode("utf-8", "replace").encode()) > 18 for text in texts)
    assert predictor.cut == long > 0


def test_a_bfloat16_model_is_served_from_weights_stored_once_in_bfloat16(tmp_path):
    live = make(load_tokenizer("bytes"))
    tfzoo.save(live, tmp_path / "model")
    live = tfzoo.load(tmp_path / "model", "mixed_bfloat16")
    served = tf.saved_model.load(str(export(live, tmp_path / "served")))
    assert not served.trainable_variables
    used = sum(len(weight.shape) > 1 for weight in live.model.weights)
    tables = [variable for variable in served.variables if len(variable.shape) > 1]
    assert len(tables) == used and {variable.dtype for variable in tables} == {tf.bfloat16}
    run = served.signatures["serving_default"]
    cast = {node.input[0] for node in run.graph.as_graph_def().node if node.op == "Cast"}
    assert not cast & {node.name for node in run.graph.as_graph_def().node if node.op == "ReadVariableOp"}
    texts = hostile_texts(20)
    answers = run(text=tf.constant(texts))["probabilities"].numpy()
    assert np.abs(answers - probabilities(live, texts)[0]).max() < 0.02  # one rounding in bfloat16 is 0.004


def test_adapters_are_merged_into_bfloat16_weights(tmp_path):
    live = make(load_tokenizer("bytes"))
    tfzoo.save(live, tmp_path / "model")
    live, texts = tfzoo.load(tmp_path / "model", "mixed_bfloat16"), hostile_texts(20)
    before = probabilities(live, texts)[0]
    live.body.add_adapters({path: {"rank": 2, "alpha": 8.0, "adapter_dropout": 0.0} for path in live.body.linears
                            if path.endswith(("attention/query", "feed_forward/up"))})
    rng = np.random.default_rng(0)
    for variable in live.body.weights:
        if variable.path.endswith("lora_b"):
            variable.assign(rng.standard_normal(variable.shape).astype(np.float32) * 0.2)
    served = tf.saved_model.load(str(export(live, tmp_path / "served")))
    assert not served.trainable_variables
    answers = served.signatures["serving_default"](text=tf.constant(texts))["probabilities"].numpy()
    after = probabilities(live, texts)[0]
    assert np.abs(answers - after).max() < 0.02 and np.abs(answers - before).max() > 0.05


@pytest.mark.slow
def test_a_report_sends_both_texts_of_pairs(call, tmp_path):  # noqa: F811
    live = make(load_tokenizer("bytes"))
    tfzoo.save(live, tmp_path / "model")
    texts, pairs = ["a", "ein B\u00fcro", "b\0"] * 4, ["x", "", "y", "z z"] * 3
    labels = [answer["label"] for answer in live.predict(texts, pairs)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": one, "text_pair": other, "label": label}) + "\n"
                                                 for one, other, label in zip(texts, pairs, labels)))
    code, out, err = call("export", f"--init={tmp_path / 'model'}", f"--output_dir={tmp_path / 'served'}",
                          f"--report={tmp_path / 'report.json'}", f"--data={tmp_path / 'rows.jsonl'}")
    assert code == 0, err
    single, _ = json.loads((tmp_path / "report.json").read_text())
    assert single["accuracy"] == single["same_answers"] == 1 and single["largest_difference"] < 1e-6
    (tmp_path / "none.jsonl").write_text("")
    code, _, err = call("export", f"--init={tmp_path / 'model'}", f"--output_dir={tmp_path / 'other'}",
                        f"--report={tmp_path / 'report.json'}", f"--data={tmp_path / 'none.jsonl'}")
    assert code and "Traceback" not in err and not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_report_measures_the_served_model_beside_the_live_one(call, tmp_path):  # noqa: F811
    live = make(load_tokenizer("bytes"))
    tfzoo.save(live, tmp_path / "model")
    texts = ["ein sch\u00f6ner Film", "", "a longer text than fits", *map(str, range(37))]
    labels = [answer["label"] for answer in live.predict(texts)]
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels)]
    rows[3]["label"] = {"no": "yes", "yes": "no"}[rows[3]["label"]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = call("export", f"--init={tmp_path / 'model'}", f"--output_dir={tmp_path / 'served'}",
                          f"--report={tmp_path / 'report.json'}", f"--data={tmp_path / 'rows.jsonl'}")
    assert code == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == json.loads(out.splitlines()[-1])["report"] and "same_answers" in err
    single, half = report
    assert single["precision"] == "float32" and single["largest_difference"] < 1e-6 and single["same_answers"] == 1
    assert single["accuracy"] == 39 / 40
    assert half["precision"] == "bfloat16" and 1e-6 < half["largest_difference"] < 0.02
    assert all(row["ms_1"] > 0 and row["nodes"] > 500 and row["bytes"] > 1e5 for row in report)


@pytest.mark.slow
def test_a_report_compares_generated_texts(call, tmp_path):  # noqa: F811
    tokenizer = load_tokenizer("bytes")
    model = tfzoo.build("gpt2_tiny", task="causal_lm", **{**SMALL, "vocab_size": tokenizer.vocab_size,
                                                          "max_length": 32})
    tfzoo.save(Loaded(model, tokenizer, {"model": "gpt2_tiny", "task": "causal_lm", "labels": None, "settings": {},
                                         "max_length": 32}), tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("abc\nsch\u00f6n\n\n")
    code, out, err = call("export", f"--init={tmp_path / 'model'}", f"--output_dir={tmp_path / 'served'}",
                          "--temperature=0", "--max_new_tokens=8", f"--report={tmp_path / 'report.json'}",
                          f"--data={tmp_path / 'prompts.txt'}")
    assert code == 0, err
    single, half = json.loads((tmp_path / "report.json").read_text())
    assert single["same_answers"] == 1 and half["same_answers"] is not None and "accuracy" not in single


def test_answers_of_many_texts_are_in_their_order_and_follow_adapters():
    live = make(load_tokenizer("bytes"))
    texts = [f"{number}" * (1 + number * 7 % 12) for number in range(100)]

    def answers(texts):
        return np.array([list(answer["probabilities"].values()) for answer in live.predict(texts)])

    before = answers(texts)
    assert np.abs(before - np.concatenate([answers([text]) for text in texts])).max() < 1e-5
    assert len(set(before[:, 0].round(5))) > 90
    live.body.add_adapters({path: {"rank": 2, "alpha": 8.0, "adapter_dropout": 0.0} for path in live.body.linears
                            if path.endswith("feed_forward/up")})
    for variable in live.body.weights:
        if variable.path.endswith("lora_b"):
            variable.assign(variable + 0.1)
    adapted = answers(texts)
    assert np.abs(adapted - before).max() > 1e-3
    live.body.merge_adapters()
    assert np.abs(answers(texts) - adapted).max() < 1e-5


class Bare(ByteTokenizer):
    """A byte tokenizer without special tokens, so that an empty text has no tokens, as for GPT-2 in transformers."""

    around = [], [], []


@pytest.mark.parametrize("name", ["gpt2_tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "bert_tiny", "llama_tiny", "electra_tiny"))])
def test_an_empty_text_answers_alone_as_among_others_and_no_text_gives_no_answer(name):
    live = make(Bare(), name)
    serve = tf.function(serving_function(live), input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    one = live.model({"token_ids": np.array([[live.tokenizer.pad_id]], np.int32)})["logits"]
    for texts in ([""], ["a longer text", ""]):
        answers = [list(answer["probabilities"].values()) for answer in live.predict(texts)]
        assert np.abs(answers - serve(tf.constant(texts))["probabilities"]).max() < 1e-6
        assert np.abs(answers[-1] - tf.nn.softmax(one)[0]).max() < 1e-6
    assert live.predict([]) == [] and live.embed([]).shape == (0, live.body.config["hidden_dim"])
    served = serve(tf.constant([], tf.string))
    assert served["probabilities"].shape == (0, 2) and served["label"].shape == (0,)
    assert live.model(live.tokenizer([]))["logits"].shape == (0, 2)


def test_what_is_no_classifier_is_refused(tmp_path):
    (tmp_path / "vocabulary").mkdir()
    outside = make(MAKERS["gpt_json"](tmp_path / "vocabulary")[0])
    assert [list(answer["probabilities"]) for answer in outside.predict(["a b", "c"])] == [["no", "yes"]] * 2
    with pytest.raises(ConfigError, match="tokenizer cannot run in a SavedModel: only byte-level BPE .* use predict"):
        export(outside, tmp_path / "new")
    live = make(load_tokenizer("bytes"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(ConfigError, match="already exists"):
        export(live, tmp_path / "full")
    live.config["task"] = "masked_lm"
    with pytest.raises(ConfigError, match="was trained for masked_lm"):
        export(live, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_gpt2_classifies_too(tmp_path):
    live = make(MAKERS["gpt2"](None)[0], "gpt2_tiny")
    export(live, tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    answers = probabilities(live, ["some text", "other"])[0]
    assert np.abs(served(text=tf.constant(["some text", "other"]))["probabilities"] - answers).max() < 1e-6
