"""Tasks: heads against the logits of transformers, features computed by hand, plain Keras training, round trips."""
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import assign_reference, check_task, hostile_texts
from tests.models.test_golden import GOLDEN
from tfzoo import build
from tfzoo.data.batches import TextBatches
from tfzoo.data.encode import EncodedTexts, encode_texts
from tfzoo.data.stream import StreamBatches
from tfzoo.errors import ConfigError
from tfzoo.models import family_of
from tfzoo.tasks import task_of
from tfzoo.tasks.text_task import labelled
from tfzoo.text import learn_tokenizer
from tfzoo.text.tokenizer import Tokenizer

SMALL = {"vocab_size": 53, "num_layers": 2, "hidden_dim": 24, "num_heads": 4, "ffn_dim": 40, "max_length": 20}
TOKENIZER = Tokenizer()
vars(TOKENIZER).update(pad_id=0, start_id=1, end_id=2, mask_id=3, special_ids=(0, 1, 2, 3), vocab_size=53,
                       starts_word=np.ones(53, bool))


def encoded(*texts):
    edges = np.cumsum([0, *map(len, texts)])
    return EncodedTexts(np.concatenate([np.asarray(text, np.int32) for text in texts]), edges[:-1], edges[1:])


@pytest.mark.parametrize("family, name, prefix", [("bert", "bert_tiny", "bert."),
                                                  ("gpt2", "gpt2_tiny", "transformer.")])
def test_logits_equal_the_reference(family, name, prefix):
    golden = np.load(GOLDEN / f"{family}.npz")
    model = build(name, task="masked_lm" if family == "bert" else "causal_lm",
                  **json.loads(str(golden["about"]))["config"])
    weights = {key[len("weight:"):]: golden[key] for key in golden if key.startswith("weight:")}
    body = {key[len(prefix):]: value for key, value in weights.items() if key.startswith(prefix)}
    assign_reference(model.body, body, family_of(name))
    if family == "bert":
        head = "cls.predictions."
        values = {"dense/kernel": weights[head + "transform.dense.weight"].T,
                  "dense/bias": weights[head + "transform.dense.bias"],
                  "norm/gamma": weights[head + "transform.LayerNorm.weight"],
                  "norm/beta": weights[head + "transform.LayerNorm.bias"], "bias": weights[head + "bias"]}
        for variable in model.head.variables:
            variable.assign(values[variable.path.split("head/", 1)[-1]])
    inputs = {key: golden[key] for key in ("token_ids", "padding_mask", "segment_ids") if key in golden}
    logits = np.asarray(model(inputs)["logits"])
    real = golden["padding_mask"].astype(bool)
    # Logits are sums of about 50 products of size 1, so float32 rounding is relative to their size.
    assert np.abs(logits - golden["logits"])[real].max() <= 1e-5 * max(1, np.abs(golden["logits"]).max())
    if family == "bert":
        positions = np.array([[1, 5], [8, 4], [0, 2]], np.int32)
        few = model({**inputs, "masked_positions": positions})["logits"]
        assert np.abs(few - np.take_along_axis(logits, positions[:, :, None], 1)).max() < 1e-5


@pytest.mark.parametrize("name, task", [
    ("llama_tiny", "causal_lm"), ("mistral_tiny", "causal_lm"), ("t5_tiny", "seq2seq"), ("t5_1.1_small", "seq2seq"),
    ("electra_tiny", "replaced_tokens"), ("roberta_tiny", "question_answering"), ("qwen2_tiny", "tagging"),
    ("albert_tiny_v1", "classification"), ("gpt2_tiny", "classification"), ("bert_tiny", "masked_lm")])
def test_every_task_keeps_the_contract_and_its_loss_is_the_one_in_numpy(name, task, tmp_path):
    small = {**SMALL, "head_dim": 6} if name.startswith("t5") else SMALL
    small = {key: value for key, value in small.items() if key != "max_length"} if name.startswith("t5") else small
    labels = ["a", "b", "c"] if task in ("tagging", "classification") else None
    model, rng = build(name, task=task, labels=labels, dropout=0.0, **small), np.random.default_rng(0)
    tokens = rng.integers(5, 53, (3, 9)).astype(np.int32)
    batch = {"token_ids": tokens, "padding_mask": np.ones_like(tokens), "labels": rng.integers(0, 2, (3, 9)),
             "weights": rng.random((3, 9)).astype(np.float32)}
    if task == "seq2seq":
        batch = {**batch, "encoder_token_ids": tokens[:, :7], "decoder_token_ids": tokens, "labels": tokens}
    elif task == "causal_lm":
        batch["labels"] = tokens
    elif task == "classification":
        batch.update(labels=rng.integers(0, 3, 3), weights=rng.random(3).astype(np.float32))
    elif task == "masked_lm":
        batch.update(masked_positions=np.array([[1, 5], [8, 4], [0, 2]], np.int32), labels=rng.integers(5, 53, (3, 2)),
                     weights=rng.random((3, 2)).astype(np.float32))
    elif task == "question_answering":
        batch.update(labels=rng.integers(0, 9, (3, 2)), weights=np.ones(3, np.float32))
    batch["labels"] = batch["labels"].astype(np.int32)
    terms, sums = check_task(model, batch, tmp_path)
    loss, = terms.values()
    logits = np.asarray(model(batch, training=False)["logits"], np.float64)
    if task == "question_answering":
        logits, weights = logits.transpose(0, 2, 1), np.full((3, 2), 0.5)
    elif task == "replaced_tokens":
        logits, weights = np.stack([np.zeros_like(logits), logits], -1), batch["weights"]
    else:
        weights = batch["weights"]
    losses = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, batch["labels"][..., None], -1)[..., 0]
    assert float(sums["count"]) == pytest.approx(weights.sum(), rel=1e-5)
    assert float(loss) == pytest.approx((losses * weights).sum(), rel=1e-5)


@pytest.mark.parametrize("name", ["bert_tiny", "gpt2_tiny"])
def test_a_text_that_is_embedded_by_the_caller_is_classified_alike(name):
    model, tokens = build(name, task="classification", labels=["a", "b", "c"], **SMALL), np.arange(5, 32).reshape(3, 9)
    mask = np.arange(9) < np.array([[9], [4], [1]])
    inputs = {"token_ids": tokens.astype(np.int32), "padding_mask": mask.astype(np.int32)}
    logits = model(inputs)["logits"]
    embedded = keras.ops.take(model.body.embeddings.token, inputs.pop("token_ids"), axis=0)
    prompt = np.random.default_rng(0).standard_normal((3, 2, 24)).astype(np.float32)
    longer = keras.ops.concatenate([prompt, embedded], axis=1)
    found = [model({"token_ids": tokens.astype(np.int32)}, embedded=longer, only_read=only_read)["logits"]
             for only_read in (False, True)]  # the token ids are shorter and are ignored
    assert np.abs(found[0] - found[1]).max() < 1e-6 and np.abs(found[0] - logits).max() > 1e-4
    for only_read in (False, True):
        assert np.abs(model(inputs, embedded=embedded, only_read=only_read)["logits"] - logits).max() < 1e-6


def test_a_pair_is_cut_longest_first():
    data = TextBatches((encoded([10] * 9), encoded([11] * 4)), TOKENIZER, 1, 10, 0, False)
    batch = data.batch(0)
    assert batch["token_ids"][0].tolist() == [1, 10, 10, 10, 10, 2, 11, 11, 11, 2]
    assert batch["segment_ids"][0].tolist() == [0] * 6 + [1] * 4
    assert data.cut == 1


@pytest.mark.parametrize("spec", ["learn:wordpiece:150", "learn:bpe:300", "bytes"])
@pytest.mark.parametrize("paired", [False, True])
def test_training_and_serving_see_the_same_ids(spec, paired):
    texts = [text.decode("utf-8", "replace") for text in hostile_texts(60)]
    tokenizer = learn_tokenizer(spec, texts)
    columns = (texts, texts[::-1]) if paired else (texts,)
    data = TextBatches(tuple(encode_texts(tokenizer, column) for column in columns), tokenizer,
                       4, 24, 0, False)
    served = tokenizer(*columns, max_length=24)
    for row in range(60):
        tokens, segments = data.row(row)
        size = len(tokens)
        assert np.array_equal(served["token_ids"][row, :size], tokens)
        assert np.array_equal(served["segment_ids"][row, :size], segments)
        assert served["padding_mask"][row].numpy().sum() == size


def test_the_last_batch_is_filled_with_rows_that_weigh_nothing():
    data = labelled(TextBatches((encoded([10], [11, 12], []),), TOKENIZER, 2, 10, 0, False), np.array([1, 0, 1]))
    batches = [data.batch(step) for step in range(data.batches_per_epoch)]
    assert [batch["weights"].tolist() for batch in batches] == [[1, 1], [1, 0]]
    assert [batch["labels"].tolist() for batch in batches] == [[1, 0], [1, 0]]
    assert batches[1]["token_ids"][0, :3].tolist() == [1, 2, 0]


@pytest.mark.parametrize("seed", [None, 5])
def test_each_token_of_the_stream_is_a_target_once(seed):
    texts = [list(range(4, 20)), list(range(20, 33)), [33]]
    data = StreamBatches(encoded(*texts), TOKENIZER, 2, 5, seed)
    for epoch in range(2):
        targets = []
        for step in range(data.batches_per_epoch):
            batch = data.batch(epoch * data.batches_per_epoch + step)
            targets += batch["labels"][batch["weights"] > 0].tolist()
            shown = batch["weights"] > 0
            follows = {2: 4, 19: 2, 32: 2, 33: None}
            for token, label in zip(batch["token_ids"][shown], batch["labels"][shown]):
                assert label in ((4, 20, 33) if token == 2 else (follows.get(token, token + 1),))
        assert sorted(targets) == sorted([2, 2, *range(4, 34)])
    first = StreamBatches(encoded(*texts), TOKENIZER, 2, 5, None).batch(0)
    assert first["token_ids"][0].tolist() == [2, 4, 5, 6, 7] and first["labels"][0].tolist() == [4, 5, 6, 7, 8]


@pytest.mark.slow
def test_plain_keras_fit_learns():
    model = build("bert_tiny", task="classification", labels=["low", "high"], dropout=0.0,
                  **{**SMALL, "num_layers": 1})
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, 53, (256, 8)).astype(np.int32)
    labels = (tokens[:, 3] > 28).astype(np.int32)
    losses = {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    wide = keras.Input((None,), dtype="int32", name="token_ids")
    logits = model({"token_ids": wide, "padding_mask": keras.ops.ones_like(wide)})["logits"]
    functional = keras.Model(wide, {"logits": logits})
    functional.compile(keras.optimizers.AdamW(3e-3), loss=losses)
    history = functional.fit(tokens, {"logits": labels}, epochs=20, batch_size=32, verbose=0).history["loss"]
    assert history[-1] < 0.3 < 0.6 < history[0]


def test_classification_metrics_count_by_weight():
    task = task_of("classification", ["a", "b"])
    batch = {"labels": tf.constant([0, 1, 1]), "weights": tf.constant([1., 1., 0.])}
    logits = tf.constant([[2., 0.], [3., 0.], [0., 9.]])
    terms, sums = task.objective(lambda inputs: {"logits": logits}, batch)
    metrics = task.metrics({key: value.numpy() for key, value in sums.items()})
    assert metrics["accuracy"] == 0.5 and metrics["f1/a"] == pytest.approx(2 / 3)
    assert metrics["loss"] == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(3))) / 2, rel=1e-6)
    assert float(terms["loss"]) == pytest.approx(2 * metrics["loss"])


def test_metrics_are_means_by_weight_however_small_the_weights():
    rng = np.random.default_rng(0)
    task, logits = task_of("classification", ["a", "b"]), tf.constant(rng.standard_normal((6, 2)), tf.float32)
    weights = rng.random(6).astype(np.float32)
    one, small = (task.metrics({key: value.numpy() for key, value in task.objective(lambda _: {"logits": logits}, {
        "labels": tf.constant([0, 1, 1, 0, 1, 0]), "weights": tf.constant(weights * scale)})[1].items()})
        for scale in (1, 2.0 ** -9))
    assert small == pytest.approx(one, rel=1e-6) and one["accuracy"] == pytest.approx(
        weights[np.argmax(logits, 1) == [0, 1, 1, 0, 1, 0]].sum() / weights.sum(), rel=1e-6)
    pairs = task_of("masked_lm", next_sentence=True)
    sums = {"loss": 2.0, "right": 3.0, "count": 4.0, "pair_loss": 1.0, "pair_right": 0.5, "pair_count": 2.0}
    assert pairs.metrics({key: value / 64 for key, value in sums.items()}) == pairs.metrics(sums)


@pytest.mark.parametrize("task, labels", [("clasification", None), ("classification", None), ("classification", ["a"])])
def test_unknown_tasks_and_missing_labels_are_refused(task, labels):
    with pytest.raises(ConfigError):
        build("bert_tiny", task=task, labels=labels, **SMALL)


@pytest.mark.slow
def test_keras_loads_each_head_after_the_import_of_tfzoo_alone(tmp_path):
    names = {"classification": "bert_tiny", "tagging": "bert_tiny", "masked_lm": "bert_tiny", "causal_lm": "gpt2_tiny",
             "replaced_tokens": "electra_tiny"}
    for task, name in names.items():
        labels = ["a", "b"] if task in ("classification", "tagging") else None
        build(name, task=task, labels=labels, **SMALL).save(tmp_path / f"{task}.keras")
    code = ("import pathlib, sys, tfzoo, keras\n"
            "print(sorted(keras.models.load_model(path).task.name for path in pathlib.Path(sys.argv[1]).iterdir()))")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == str(sorted(names)), done.stderr[-2000:]


def test_sums_of_a_classification_hold_the_margins_of_the_confusion_matrix():
    task = task_of("classification", ["a", "b", "c"])
    batch = {"labels": np.int32([0, 1, 1, 2, 0]), "weights": np.float32([1, 1, 1, 1, 0])}
    logits = tf.one_hot([0, 1, 2, 2, 1], 3)
    sums = task.objective(lambda batch: {"logits": logits}, batch)[1]
    assert np.asarray(sums["labels"]).tolist() == [[1, 1, 1], [1, 2, 1], [1, 1, 2]]


def test_sums_of_a_classification_take_no_square_of_its_labels():
    task = task_of("classification", [str(number) for number in range(30_000)])
    sums = task.objective(lambda batch: {"logits": tf.zeros((4, 30_000))},
                          {"labels": np.zeros(4, np.int32), "weights": np.ones(4, np.float32)})[1]
    assert sum(tf.size(value).numpy() for value in sums.values()) < 100_000
