"""Regression, multi-label classification, multiple choice, poolings and class weights."""
import json

import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.helpers import check_task, fill
from tests.tasks.test_tasks import SMALL
from tfzoo.data.source import open_source
from tfzoo.errors import ConfigError, DataError
from tfzoo.export import export, serving_function
from tfzoo.tasks import task_of, tasks
from tfzoo.tasks.build import build_for
from tfzoo.text import load_tokenizer
from tfzoo.training.evaluator import Evaluator
from tfzoo.training.optimizer import WarmUp, make_optimizer
from tfzoo.training.trainer import Trainer

LABELS = ["a", "b", "c"]
ROWS = {"regression": [{"text": "one", "text_pair": "two", "label": 1.5}, {"text": "", "text_pair": "x", "label": "-2"},
                       {"text": "three words here", "text_pair": "", "label": 0}],
        "multi_label": [{"text": "one", "labels": ["b", "a"]}, {"text": "", "labels": []},
                        {"text": "three words here", "labels": ["c"]}],
        "multiple_choice": [{"text": "one", "choices": ["a", "bb", "cccc"], "label": 1},
                            {"text": "two", "choices": ["", "b"], "label": 0},
                            {"text": "", "choices": ["x", "y"], "label": 1}]}
TOKENIZER = load_tokenizer("bytes")


def open_rows(folder, task, rows=None):
    path = folder / f"{task}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or ROWS[task]))
    return open_source(path, tasks()[task].schema)


def make(task, name="bert_tiny", dropout=0.0, settings=None, **sizes):
    task = task_of(task, LABELS if tasks()[task].labelled else None, **(settings or {}))
    model = build_for(name, task, dropout=dropout, **{**SMALL, "vocab_size": TOKENIZER.vocab_size, **sizes})
    fill(model.trainable_variables)
    return model


def batch_of(model, source, batch_size=4, training=False):
    """Return the first batch, in the order of the examples; padding rows come last."""
    data = model.task.features(source, TOKENIZER, batch_size=batch_size, max_length=20, training=training)
    order = np.argsort(data.rows(0) % 2 ** 32, kind="stable")
    return {key: value[order] for key, value in data.batch(0).items()}


@pytest.mark.parametrize("name", ["bert_tiny", "gpt2_tiny"])
@pytest.mark.parametrize("task", list(ROWS))
def test_each_task_keeps_the_contract_and_its_loss_is_the_one_in_numpy(task, name, tmp_path):
    model = make(task, name)
    batch = batch_of(model, open_rows(tmp_path, task))  # the fourth row is padding
    terms, sums = check_task(model, batch, tmp_path)
    logits, labels, weights = np.asarray(model(batch)["logits"], np.float64), batch["labels"], batch["weights"]
    if task == "regression":
        losses = (logits[:, 0] - [1.5, -2, 0, 0]) ** 2
    elif task == "multi_label":
        assert labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]]
        chances = 1 / (1 + np.exp(-logits))
        losses = -np.log(np.where(labels, chances, 1 - chances))
    else:
        assert logits.shape == (4, 3) and (logits[1:3, 2] < -1e8).all()
        losses = np.log(np.exp(logits[:3] - logits[:3].max(1, keepdims=True)).sum(1)) + logits[:3].max(1)
        losses = np.append(losses - logits[np.arange(3), [1, 0, 1]], 0)
    assert weights[3].sum() == 0 and float(sums["count"]) == weights.sum() == 3 * (3 if task == "multi_label" else 1)
    assert float(terms["loss"]) == pytest.approx((losses * weights).sum(), rel=1e-5)


def test_a_new_regression_head_predicts_about_the_mean_of_the_training_labels(tmp_path):
    task, rows = tasks()["regression"](), [{"text": "a", "label": 100}, {"text": "b", "label": 104}]
    task.adapt(open_rows(tmp_path, "regression", rows))
    model = build_for("bert_tiny", task, **{**SMALL, "vocab_size": TOKENIZER.vocab_size})
    assert model.head.dense.bias.numpy().tolist() == [102]


def test_a_new_multi_label_head_predicts_about_the_frequencies_of_the_training_labels(tmp_path):
    task = tasks()["multi_label"](["a", "b", "c"])
    rows = [{"text": "x", "labels": ["a"] if number < 99 else ["a", "b", "b"]} for number in range(100)]
    task.adapt(open_rows(tmp_path, "multi_label", rows))
    model = build_for("bert_tiny", task, **{**SMALL, "vocab_size": TOKENIZER.vocab_size})
    shares = tf.nn.sigmoid(model.head.dense.bias).numpy()
    assert shares.tolist() == pytest.approx([100.5 / 101, 1.5 / 101, 0.5 / 101], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["regression", "multi_label", "multiple_choice"])
def test_an_update_does_not_depend_on_how_the_batch_is_split(task, tmp_path):
    source, found = open_rows(tmp_path, task), []
    for parts in (1, 2):
        model = make(task, dropout=0.3, num_layers=1)
        optimizer = make_optimizer("adamw", WarmUp(1e-3, 20, 0), model.trainable_variables)
        trainer = Trainer(model, model.task, optimizer, seed=3, microbatches=parts)
        sums, norm, *_ = trainer.train_step(batch_of(model, source))
        found.append([float(sums["loss"]), float(norm)])
    assert np.abs(np.array(found) / found[0] - 1).max() < 1e-5
    model = make(task, num_layers=1)
    assert abs(found[0][0] / Evaluator(model, model.task).evaluate(model.task.features(
        source, TOKENIZER, batch_size=4, max_length=20))["loss"] - 1) > 1e-3  # dropout has an effect


def test_choices_are_pairs_and_a_row_has_as_many_probabilities_as_choices(tmp_path):
    model, source = make("multiple_choice"), open_rows(tmp_path, "multiple_choice")
    batch = batch_of(model, source)
    assert batch["token_ids"].shape[:2] == (4, 3)
    alone = TOKENIZER(["one"] * 3, ["a", "bb", "cccc"])
    for key, value in alone.items():
        assert np.array_equal(batch[key][0, :, :value.shape[1]], value)
    single = np.asarray(model(alone)["logits"])
    assert np.abs(single - np.asarray(model(batch)["logits"])[0]).max() < 1e-5
    rows = [{"text": row["text"], "choices": row["choices"]} for row in ROWS["multiple_choice"]]
    loaded = tfzoo.checkpoints.Loaded(model, TOKENIZER, {
        "model": "bert_tiny", "task": "multiple_choice", "labels": None, "settings": {}, "max_length": 20})
    answers = loaded.predict(rows)
    assert [len(answer["probabilities"]) for answer in answers] == [3, 2, 2]
    for answer in answers:
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-6)
        assert answer["label"] == int(np.argmax(answer["probabilities"]))
    expected = np.exp(single - single.max())
    assert answers[0]["probabilities"] == pytest.approx(expected / expected.sum(), abs=1e-5)


@pytest.mark.parametrize("task, row, says", [
    ("regression", {"label": "high"}, "label is 'high', not a finite number"),
    ("regression", {"label": True}, "label is True, not a finite number"),
    ("regression", {"label": "nan"}, "label is 'nan', not a finite number"), ("regression", {}, "no value for label"),
    ("multi_label", {"labels": "a"}, "labels is 'a', not a list of labels"),
    ("multi_label", {"labels": [" "]}, "labels is .* not a list of labels"),
    ("multi_label", {}, "no value for labels"),
    ("multiple_choice", {"choices": ["a", "b"], "label": 2}, "label is 2, but must be below 2, the number of choices"),
    ("multiple_choice", {"choices": ["a", "b"], "label": -1}, "label is -1, not an index"),
    ("multiple_choice", {"choices": ["a"], "label": 0}, "choices has 1 items, but must have at least two"),
    ("multiple_choice", {"choices": [1, 2], "label": 0}, "choices is .* not a list of strings"),
    ("multiple_choice", {"choices": ["a", "b"], "label": "1" * 5000}, "label is '1+.*, not an index"),
    ("multiple_choice", {"choices": ["a", "b"], "label": "first"}, "label is 'first', not an index")])
def test_bad_rows_are_named(task, row, says, tmp_path):
    with pytest.raises(DataError, match=f"{task}.jsonl line 2: {says}"):
        open_rows(tmp_path, task, [{**ROWS[task][0], "text_pair": None}, {"text": "x", **row}])


def test_undefined_scores_are_0_and_reported(capsys):
    sums = {"loss": 1.0, "count": 2.0}
    found = task_of("multi_label", ["a", "b"]).metrics(
        sums, [{"probabilities": {"a": 0.1, "b": 0.2}}] * 2, np.zeros((2, 2), bool))
    assert found["micro_f1"] == 0 and "as 0, since no row of the data has a label" in capsys.readouterr().err
    answers = [{"value": 3.0}, {"value": 3.0}]
    assert task_of("regression").metrics(sums, answers, [1.0, 2.0])["pearson"] == 0
    assert "undefined, since all predictions are equal" in capsys.readouterr().err


def test_unknown_labels_of_evaluation_data_are_named(tmp_path):
    with pytest.raises(DataError, match="unknown label 'z' in 2 examples .first: example 2.; expected some of a, b, c"):
        batch_of(make("multi_label"), open_rows(tmp_path, "multi_label", [
            {"text": "x", "labels": ["a"]}, {"text": "x", "labels": ["b", "z"]}, {"text": "x", "labels": ["z"]}]))
    source = open_rows(tmp_path, "multi_label", [{"text": "x", "labels": [10, 9]}, {"text": "x", "labels": []}])
    assert tasks()["multi_label"].labels_in(source) == ["9", "10"]


def test_constant_predictions_are_noted_and_count_as_0(tmp_path, capsys):
    source, model = open_rows(tmp_path, "regression"), make("regression")
    model.head.dense.kernel.assign(tf.zeros_like(model.head.dense.kernel))
    data = model.task.features(source, TOKENIZER, batch_size=2, max_length=20)
    metrics = Evaluator(model, model.task).evaluate(data)
    bias = float(model.head.dense.bias[0])
    assert metrics["pearson"] == metrics["spearman"] == 0 and metrics["mse"] == pytest.approx(
        np.mean((bias - np.array([1.5, -2, 0])) ** 2), rel=1e-5)
    assert "since all predictions are equal" in capsys.readouterr().err


def pooled_by_hand(sequence, mask, pooling):
    rows = [row[:count] for row, count in zip(np.asarray(sequence, np.float64), mask.sum(1))]
    how = {"first": lambda row: row[0], "auto": lambda row: row[-1], "mean": lambda row: row.mean(0),
           "max": lambda row: row.max(0)}[pooling]
    return np.stack([how(row) for row in rows])


@pytest.mark.parametrize("name, pooling", [("bert_tiny", "first"), ("bert_tiny", "mean"), ("bert_tiny", "max"),
                                           ("gpt2_tiny", "mean"), ("gpt2_tiny", "auto")])
def test_poolings_are_those_by_hand_and_are_saved(name, pooling, tmp_path):
    model = make("classification", name, settings={"pooling": pooling})
    tokens = np.random.default_rng(0).integers(5, 53, (3, 9)).astype(np.int32)
    mask = (np.arange(9) < np.array([[9], [4], [1]])).astype(np.int32)
    inputs = {"token_ids": tokens, "padding_mask": mask}
    vectors = pooled_by_hand(model(inputs)["sequence"], mask, pooling)
    logits = vectors @ model.head.dense.kernel.numpy() + (0 if name == "gpt2_tiny" else model.head.dense.bias.numpy())
    for only_read in (False, True):
        assert np.abs(model(inputs, only_read=only_read)["logits"] - logits).max() < 1e-4
    other = model({**inputs, "token_ids": np.where(mask, tokens, 7)})["logits"]
    assert np.array_equal(other, model(inputs)["logits"])
    assert not np.isnan(model({**inputs, "padding_mask": mask * 0})["logits"]).any()
    tfzoo.save(model, tmp_path / "model")
    again = tfzoo.load(tmp_path / "model")
    assert again.config["settings"]["pooling"] == again.model.head.config["pooling"] == pooling
    assert np.array_equal(again.model(inputs)["logits"], model(inputs)["logits"])
    if pooling != "auto":
        with pytest.raises(ConfigError, match=f"pooling={pooling}.*save with format=\"tfzoo\""):
            tfzoo.save(model, tmp_path / "other", format="huggingface")


def test_what_cannot_be_pooled_is_refused():
    with pytest.raises(ConfigError, match="the first token of a decoder does not see the others"):
        make("classification", "gpt2_tiny", settings={"pooling": "first"})
    with pytest.raises(ConfigError, match="pooling must be one of auto, mean, first, max, got 'last'"):
        task_of("regression", pooling="last")


def test_class_weights_multiply_the_weights_of_training_rows_only(tmp_path):
    rows = [{"text": "x", "label": label} for label in "aaab"]
    source = open_rows(tmp_path, "classification", rows)
    for given, weights in (([], [1, 1, 1, 1]), (["auto"], [4 / 9] * 3 + [4 / 3]), (["b=3"], [1, 1, 1, 3]),
                           (["auto", "a=0.5"], [0.5] * 3 + [4 / 3])):
        model = make("classification", settings={"class_weights": given})
        batch = batch_of(model, source, training=True)
        order = np.argsort(batch["labels"], kind="stable")
        assert batch["weights"][order] == pytest.approx(weights)
        assert model.task.counts(batch)["loss"] == pytest.approx(sum(weights))
        assert batch_of(model, source)["weights"].tolist() == [1] * 4
    model = make("multi_label", settings={"class_weights": ["auto"]})
    batch = batch_of(model, open_rows(tmp_path, "multi_label"), training=True)
    # Each label occurs in one of three rows: there it weighs 2, elsewhere 1; the fourth row is padding.
    assert np.array_equal(batch["weights"], (1 + batch["labels"]) * (batch["weights"] > 0))
    assert batch["weights"].sum() == 9 + 3


@pytest.mark.parametrize("given, says", [
    ("d=2", "'d' is unknown; the labels are a, b, c"), ("a", "expected auto or LABEL=WEIGHT"),
    ("a=0", "positive number"), ("a=x", "positive number"), ("a=inf", "positive number")])
def test_bad_class_weights_are_refused(given, says):
    with pytest.raises(ConfigError, match=f"--class_weights={given}: .*{says}"):
        task_of("classification", LABELS, class_weights=[given])


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_a_served_model_answers_as_predict_does(task):
    model = make(task)
    loaded = tfzoo.checkpoints.Loaded(model, TOKENIZER, {
        "model": "bert_tiny", "task": task, "labels": model.task.labels, "settings": {}, "max_length": 20})
    texts, pairs = ["one", "", "three words here and more"], ["a", "b", ""]
    for given in ((texts, None), (texts, pairs)):
        live = loaded.predict(*given)
        served = serving_function(loaded)(*(one and tf.constant(one) for one in given))
        assert (served["cut"].numpy() > 0).tolist() == [False, False, True]
        for row, answer in enumerate(live):
            if task == "regression":
                assert float(served["value"][row]) == pytest.approx(answer["value"], abs=1e-5)
            else:
                assert [label.decode() for label in served["labels"][row].numpy() if label] == answer["labels"]
                assert served["probabilities"][row].numpy() == pytest.approx(
                    [answer["probabilities"][label] for label in LABELS], abs=1e-5)


def test_a_served_model_chooses_as_predict_does(tmp_path):
    loaded = tfzoo.checkpoints.Loaded(make("multiple_choice"), TOKENIZER, {
        "model": "bert_tiny", "task": "multiple_choice", "labels": None, "settings": {}, "max_length": 20})
    rows = [{"text": "one", "choices": ["a", "bb", "cccc"]}, {"text": "two", "choices": ["b", "a much longer choice"]}]
    export(loaded, tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served" / "1").signatures["serving_default"](
        text=tf.constant(["one", "two"]), choices=tf.constant([rows[0]["choices"], [*rows[1]["choices"], ""]]))
    assert served["cut"].numpy().tolist() == [0, len("two" + "a much longer choice") + 3 - 20]
    for row, answer in enumerate(loaded.predict(rows)):
        assert int(served["label"][row]) == answer["label"]
        assert served["probabilities"][row].numpy() == pytest.approx(
            [*answer["probabilities"], 0.0][:3], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("task", list(ROWS))
def test_a_run_s_model_is_loaded_and_predicts(task, tmp_path):
    open_rows(tmp_path, task, ROWS[task] * 4)
    results = tfzoo.train(
        tmp_path / "run", task=task, model="bert_tiny", tokenizer="bytes", data=str(tmp_path / f"{task}.jsonl"),
        eval_fraction=0.25, steps=2, batch_size=4, max_length=24, pooling="mean",
        override=["num_layers=1", "hidden_dim=16", "num_heads=2", "ffn_dim=32"])
    assert np.isfinite(results["loss"]) and tasks()[task].better[0] in results
    answers = tfzoo.load(results["model"]).predict([{key: value for key, value in row.items() if "label" not in key}
                                                    for row in ROWS[task]])
    keys = {"regression": {"value"}, "multi_label": {"labels", "probabilities"},
            "multiple_choice": {"label", "probabilities"}}[task]
    assert [answer.keys() for answer in answers] == [keys] * 3
