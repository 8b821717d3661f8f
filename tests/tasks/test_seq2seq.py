"""Sequence to sequence: batches by hand, transformers' loss, gradients and tokens, generation in a graph, smoothing."""
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.checkpoints import parity
from tests.tasks.test_tasks import SMALL, TOKENIZER, encoded
from tfzoo import build
from tfzoo.data.source import Source
from tfzoo.data.source_target import SourceTargetBatches
from tfzoo.errors import ConfigError, DataError
from tfzoo.generation import Generator, Options
from tfzoo.layers import context
from tfzoo.tasks import build_for, task_of
from tfzoo.tasks.predictor import Predictor
from tfzoo.tasks.task import smooth
from tfzoo.text import learn_tokenizer
from tfzoo.training.evaluator import Evaluator
from tfzoo.training.optimizer import make_optimizer
from tfzoo.training.trainer import Trainer

BYTES = learn_tokenizer("bytes", [])
ROWS = [{"source": f"{'ab' * (number % 5)} {number}", "target": f"{number} " + "xyz"[:number % 4] * (1 + number % 3)}
        for number in range(11)]


def batches_of(sources, targets, rows=2, **options):
    options = {"max_length": 8, "max_target_length": 5, "seed": 0, "shuffle": False, "multiple": 4, "answered": True,
               **options}
    return SourceTargetBatches(encoded(*sources), targets and encoded(*targets), TOKENIZER, batch_size=rows, **options)


def small_model(name="transformer_tiny", scale=0.3, **options):
    keras.utils.set_random_seed(0)
    model = build(name, task="seq2seq", dropout=0.0, **{**SMALL, "vocab_size": 260, **options})
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + scale * rng.standard_normal(variable.shape).astype(np.float32))
    return model


def features(task, rows, training=False, batch_size=4, **options):
    return task.features(Source.of_rows("rows", rows), BYTES, batch_size=batch_size, max_length=16, training=training,
                         **options)


def test_the_decoder_reads_the_start_and_the_target_and_its_labels_end_with_the_end():
    # Token 0 (padding) is a real token of the second target: its weight does not depend on its id.
    data = batches_of([[10, 11], [12] * 9], [[20, 21, 22], [30, 0, 30, 30, 30, 30]])
    batch = data.batch(0)
    assert batch["encoder_token_ids"].tolist() == [[1, 10, 11, 2, 0, 0, 0, 0], [1, *[12] * 6, 2]]
    assert batch["encoder_padding_mask"].sum(1).tolist() == [4, 8]
    assert batch["decoder_token_ids"].tolist() == [[0, 20, 21, 22, 0], [0, 30, 0, 30, 30]]
    assert batch["labels"].tolist() == [[20, 21, 22, 2, 0], [30, 0, 30, 30, 2]]
    assert batch["weights"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]] == batch["decoder_padding_mask"].tolist()
    assert batch["answer_ids"].tolist() == [[2] * 5] * 2
    assert (data.cut, data.targets_cut) == (1, 1)
    assert data.notes(Source("name", {"source": ["", ""]}), 8) == [
        "name: 1 of 2 sources were truncated to 8 tokens", "name: 1 of 2 targets were truncated to 5 tokens"]
    alone = batches_of([[10, 11], []], None, rows=3).batch(0)
    assert alone["decoder_token_ids"].tolist() == [[0]] * 3 and "labels" not in alone
    assert alone["encoder_padding_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("factor", [1, 8])
def test_batches_have_few_shapes_that_fit_both_texts_and_hold_each_pair_once(factor):
    rng = np.random.default_rng(0)
    lengths = np.maximum(rng.poisson(9, (200, 2)) * [factor, 1], 1)  # factor 8: summaries
    data = batches_of(*([[5] * length for length in side] for side in lengths.T), rows=8, max_length=400,
                      max_target_length=60, shuffle=True, answered=False)
    for epoch in range(2):
        steps = range(epoch * data.batches_per_epoch, (epoch + 1) * data.batches_per_epoch)
        rows = np.concatenate([data.rows(step) for step in steps])
        assert sorted(rows[rows >= 0]) == list(range(200))
        batches = [data.batch(step) for step in steps]
        assert len({(batch["encoder_token_ids"].shape, batch["labels"].shape) for batch in batches}) <= 4
        real = sum(batch["encoder_padding_mask"].sum() + batch["weights"].sum() for batch in batches)
        assert real == (lengths + [2, 1]).sum()
        whole = sum(batch["encoder_padding_mask"].size + batch["weights"].size for batch in batches)
        assert real / whole > 0.6  # one shape would give 0.45


def test_batches_of_tokens_hold_about_that_many_and_each_pair_once():
    rng = np.random.default_rng(0)
    lengths = np.maximum(rng.poisson([[30, 9]] * 400 + [[90, 25]] * 100), 1)
    data = batches_of(*([[5] * length for length in side] for side in lengths.T), rows=8, max_length=200,
                      max_target_length=60, shuffle=True, answered=False, batch_tokens=2000)
    for epoch in range(2):
        steps = range(epoch * data.batches_per_epoch, (epoch + 1) * data.batches_per_epoch)
        rows = np.concatenate([data.rows(step) for step in steps])
        assert sorted(rows[rows >= 0]) == list(range(500))
        batches = [data.batch(step) for step in steps]
        sizes = [batch["encoder_token_ids"].size + batch["labels"].size for batch in batches]
        assert max(sizes) <= 2000 < 2 * min(sizes)
        counts = {len(batch["labels"]) for batch in batches}
        assert len(counts) > 1 and all(count % 8 == 0 for count in counts)
        assert len({batch["labels"].shape for batch in batches}) <= 4


@pytest.mark.parametrize("family", ["t5", "t5_1.1"])
def test_loss_gradients_and_greedy_tokens_are_those_of_transformers(family, tmp_path):
    about, golden = parity.read_case(parity.GOLDEN / f"seq2seq_{family}.npz")
    weights = parity.write_folder({**about, "config": {**about["config"], "dropout_rate": 0.0}}, tmp_path)
    model = tfzoo.load(tmp_path).model
    lengths = (golden["labels"] >= 0).sum(1)
    labels = [row[:length - 1] for row, length in zip(golden["labels"], lengths)]
    data = batches_of([[5]] * 3, labels, rows=3, max_target_length=12)
    data.tokenizer = type("T5", (), {"pad_id": 0, "end_id": 1, "join_row": TOKENIZER.join_row})
    rows = data.rows(0)  # ordered by length
    batch = {**data.batch(0), "encoder_token_ids": golden["source"][rows], "encoder_padding_mask": golden["mask"][rows]}
    with tf.GradientTape() as tape:
        terms, _ = model.task.objective(lambda inputs: model(inputs, only_read=True, training=True), batch)
        loss = terms["loss"] / model.task.counts(batch)["loss"]
    assert float(loss) == pytest.approx(float(golden["loss"]), rel=1e-5)
    ours = dict(zip((v.path for v in model.trainable_variables), tape.gradient(loss, model.trainable_variables)))
    names = {"shared.weight": "embeddings/token", "lm_head.weight": "head/table",
             "decoder.final_layer_norm.weight": "decoder_norm/gamma",
             "decoder.block.1.layer.1.EncDecAttention.k.weight": "decoder_block_01/cross_attention/key/kernel",
             "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": "encoder_relative/table"}
    for name in (name for name in weights if f"gradient:{name}" in golden):
        expected, found = golden[f"gradient:{name}"], np.asarray(tf.convert_to_tensor(ours[names[name]]))
        found = found.T if found.shape != expected.shape or "kernel" in names[name] else found
        assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max(), name
    predictions = tf.function(lambda batch: model.task.predict(model, batch, None), autograph=False)(batch)
    for row, expected in zip(predictions["token_ids"].numpy(), golden["generated"][rows, 1:]):
        end = expected.tolist().index(1) if 1 in expected else len(expected)
        assert row[:end].tolist() == expected[:end].tolist()


@pytest.mark.parametrize("name, xla", [("transformer_tiny", False),
                                       pytest.param("t5_tiny", True, marks=pytest.mark.slow)])
def test_generation_in_the_graph_is_that_of_the_generator_and_of_full_passes(name, xla):
    model = small_model(name, 0.3 if name == "transformer_tiny" else 0.05)
    data = features(model.task, [{"source": row["source"]} for row in ROWS[:3]])
    batch = {key: value.copy() for key, value in data.batch(0).items()}
    run = tf.function(lambda batch: model.task.predict(model, batch, None), autograph=False, jit_compile=xla)
    free = Generator(model.body, model.logits, Options(16, temperature=0)).generate(
        [[0]] * 4, {key: value for key, value in batch.items() if key.startswith("encoder")}).token_ids
    known = np.zeros((4, 1), np.int32)
    for _ in range(16):
        logits = model({**batch, "decoder_token_ids": known}, training=False)["logits"][:, -1]
        known = np.concatenate([known, np.argmax(logits, -1)[:, None].astype(np.int32)], 1)
    assert free[:3].tolist() == known[:3, 1:].tolist() and len({*free[:3].ravel().tolist()}) > 1
    batch["answer_ids"][:] = end = int(free[1, 5])  # the second row ends within the text, the padding row at once
    with context.changed(compiled=xla):
        found = {key: value.numpy() for key, value in run(batch).items()}
    for row, length, expected in zip(found["token_ids"][:3], found["length"], free.tolist()):
        size = expected.index(end) if end in expected else 16
        assert length == size and row[:size].tolist() == expected[:size]
    assert found["length"][3] == 0 and found["token_ids"].shape == (4, 16)


@pytest.mark.slow
def test_answers_are_in_order_and_nan_is_refused_only_in_prediction():
    model = small_model(num_layers=1)
    rows = [{"source": row["source"]} for row in ROWS]
    predictor = Predictor(model, BYTES, 16)
    answers = predictor(rows)
    assert [predictor([row])[0] for row in rows[:4]] == answers[:4] and {*answers[0]} == {"text"}
    model.trainable_variables[-1].assign(np.full(model.trainable_variables[-1].shape, np.nan))
    with pytest.raises(DataError, match="NaN"):
        predictor(rows[:1])
    assert np.isnan(Evaluator(model, model.task).evaluate(features(model.task, ROWS))["loss"])


def test_evaluation_is_the_same_for_any_batch_size_and_a_saved_model(tmp_path):
    task = task_of("seq2seq", max_target_length=6, source_prefix="say: ")
    model = build_for("transformer_tiny", task, dropout=0.0, **{**SMALL, "vocab_size": 260, "num_layers": 1})
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.task.settings == model.task.settings == {"max_target_length": 6, "source_prefix": "say: ",
                                                          "target_language": "auto", "num_beams": 1,
                                                          "length_penalty": 1.0, "no_repeat_ngram_size": 0}
    one = Evaluator(model, model.task).evaluate(features(model.task, ROWS, batch_size=3))
    two = Evaluator(again, again.task).evaluate(features(again.task, ROWS, batch_size=11))
    assert one == pytest.approx(two, rel=1e-5) and one["bleu"] >= 0
    shown = features(model.task, ROWS).batch(0)
    assert BYTES.decode(shown["encoder_token_ids"])[0].startswith("say: ")
    assert shown["answer_ids"].shape[1] == 6


@pytest.mark.slow
def test_the_update_does_not_depend_on_microbatches_and_smoothing_leaves_the_reported_loss():
    model = small_model(num_layers=1)
    data, before, found = features(model.task, ROWS, training=True), model.get_weights(), []
    batch = data.batch(2)  # the last, with a padding row
    plain = float(model.task.objective(lambda batch: model(batch, only_read=True), batch)[0]["loss"])
    for parts, rate in ((1, 0.1), (4, 0.1), (1, 0.0)):
        model.set_weights(before)
        task = task_of("seq2seq")
        task.label_smoothing = rate
        trainer = Trainer(model, task, make_optimizer("adamw", 1e-3, model.trainable_variables), microbatches=parts)
        sums, norm, *_ = trainer.train_step(batch)
        assert float(sums["loss"]) == pytest.approx(plain, rel=1e-5)
        found.append((float(norm), trainer.arrays()["optimizer"]))
    (norm, whole), (other, split), (unsmoothed, _) = found
    assert norm == pytest.approx(other, rel=1e-5) and abs(norm - unsmoothed) > 1e-3 * norm
    for path, value in whole.items():
        assert np.abs(value - split[path]).max() <= 1e-6 * max(1, np.abs(value).max()), path


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothing_moves_probability_to_the_other_possible_labels(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 5)).astype(np.float32), rng.integers(0, 4, 6).astype(np.int32)
    logits[3:, 4] = -1e9  # masked
    weights = rng.random(6).astype(np.float32)
    expected = 0.0
    for row, label, weight in zip(logits.astype(np.float64), labels, weights):
        row = row[:4] if row[4] < -1e8 else row
        target = np.full(len(row), smoothing / (len(row) - 1))
        target[label] = 1 - smoothing
        expected -= weight * (target * (row - np.log(np.exp(row).sum()))).sum()
    plain = tf.reduce_sum(weights * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    values = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = tf.reduce_sum(weights * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, values))
        found = smooth(loss, values, labels, weights, smoothing)
    assert float(found) == pytest.approx(expected, rel=1e-5) and float(found) != float(plain)
    assert np.isfinite(tape.gradient(found, values)).all()
    assert smooth(plain, logits, labels, weights, 0.0) is plain


@pytest.mark.parametrize("name, task, labels", [("bert_tiny", "classification", ["a", "b", "c"]),
                                                ("bert_tiny", "tagging", ["a", "b", "c"]),
                                                ("gpt2_tiny", "causal_lm", None), ("bert_tiny", "masked_lm", None)])
def test_every_task_with_cross_entropy_smooths_its_loss_term_alone(name, task, labels):
    model, rng = build(name, task=task, labels=labels, dropout=0.0, **SMALL), np.random.default_rng(0)
    batch = {"token_ids": rng.integers(5, 53, (3, 9)).astype(np.int32), "weights": rng.random((3, 9)).astype("float32"),
             "labels": rng.integers(0, 3, (3, 9)).astype(np.int32)}
    if task == "classification":
        batch.update(labels=batch["labels"][:, 0], weights=batch["weights"][:, 0])
    if task == "masked_lm":
        batch.update(masked_positions=np.array([[1], [8], [0]], np.int32), labels=batch["labels"][:, :1],
                     weights=batch["weights"][:, :1])
    found = []
    for smoothing in (0.0, 0.2):
        model.task.label_smoothing = smoothing
        found.append(model.task.objective(lambda given: model(given, only_read=True), batch))
    logits = model(batch)["logits"]
    expected = smooth(found[0][0]["loss"], logits, batch["labels"], batch["weights"], 0.2)
    assert float(found[1][0]["loss"]) == pytest.approx(float(expected), rel=1e-5)
    for sums in (one[1] for one in found):
        assert float(sums["loss"]) == pytest.approx(float(found[0][0]["loss"]), rel=1e-6) != float(expected)


@pytest.mark.parametrize("row, says", [({"source": "a"}, "no value for target"),
                                       ({"target": "a"}, "no value for source"),
                                       ({"source": "a", "target": " \n"}, "an empty target"),
                                       ({"source": "a", "target": 3}, "target is 3, not a string"),
                                       ({"source": ["a"], "target": "b"}, "source is .*, not a string")])
def test_bad_rows_are_named(row, says, tmp_path):
    import json

    from tfzoo.data.source import open_source
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"source": "", "target": "x"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=f"rows.jsonl.*2.*{says}"):
        open_source(str(path), task_of("seq2seq").schema)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="--target_language=german must be"):
        task_of("seq2seq", target_language="german")
