"""Classification of long texts by windows: their tokens, weights and pooled predictions, made by hand."""
import numpy as np
import pytest
import tensorflow as tf

from tests.tasks.test_tasks import SMALL, TOKENIZER, encoded
from tfzoo import build
from tfzoo.data.batches import TextWindows
from tfzoo.data.source import Source
from tfzoo.errors import ConfigError
from tfzoo.tasks import TaskModel, task_of
from tfzoo.tasks.text_task import labelled
from tfzoo.tasks.predictor import Predictor
from tfzoo.text import load_tokenizer
from tfzoo.training.evaluator import Evaluator

LABELS = ["a", "b", "c"]
TEXTS = ["x" * 30, "", "yz", "pqrstuvw" * 2, "hello"]  # bytes: windows of 8 tokens with 2 special ones


def windows_task(**settings):
    return task_of("classification", LABELS, **{"long": "windows", "overlap": 2, **settings})


def model_of(task, seed=0):
    model = build("bert_tiny", task="classification", labels=LABELS, **{**SMALL, "vocab_size": 260, "max_length": 64})
    for variable in model.weights:
        rng = np.random.default_rng([seed, *variable.path.encode()])
        variable.assign(rng.standard_normal(variable.shape) * 0.5)
    return TaskModel(model.body, model.head, task)


def features(task, texts=TEXTS, max_length=8, **options):
    source = Source("rows", {"text": list(texts), "label": [LABELS[number % 3] for number in range(len(texts))]})
    return task.features(source, load_tokenizer("bytes"), **{"batch_size": 4, "max_length": max_length, **options})


def test_each_window_has_the_label_of_its_text_and_a_part_of_its_weight():
    texts = encoded([10, 11, 12, 13, 14, 15, 16], [20, 21], [])
    data = TextWindows(texts, TOKENIZER, 6, 6, 0, False, overlap=1)  # 4 tokens of text in a window
    batches = labelled(data, np.array([2, 0, 1]), 1 / data.windows)
    assert data.windows.tolist() == [2, 1, 1] and data.batches_per_epoch == 1 and data.cut == 0
    batch = batches.batch(0)
    assert batches.rows(0).tolist() == [0, 0, 1, 2, -1, -1] and batches.examples(0).tolist() == [0, 1, 2]
    assert batch["token_ids"][:4].tolist() == [[1, 10, 11, 12, 13, 2], [1, 13, 14, 15, 16, 2], [1, 20, 21, 2, 0, 0],
                                               [1, 2, 0, 0, 0, 0]]
    assert batch["labels"][:4].tolist() == [2, 2, 0, 1] and batch["weights"].tolist() == [0.5, 0.5, 1, 1, 0, 0]
    source = Source("rows", {"text": ["a", "b", "c"]})
    assert data.notes(source, 6) == ["rows: 1 of 3 texts were split into 2 windows of up to 6 tokens"]


def test_an_epoch_weighs_each_text_once_in_any_order():
    for seed in range(3):
        data = features(windows_task(), training=True, seed=seed)
        weights = np.zeros(len(TEXTS))
        for step in range(data.batches_per_epoch):
            rows, batch = data.rows(step), data.batch(step)
            np.add.at(weights, rows[rows >= 0], batch["weights"][rows >= 0])
        assert weights == pytest.approx(np.ones(len(TEXTS)))


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_the_logits_of_a_text_s_windows_are_pooled(pooling):
    task = windows_task(long_pooling=pooling)
    model, tokenizer = model_of(task), load_tokenizer("bytes")
    predictor = Predictor(model, tokenizer, 8)
    answers = predictor([{"text": text} for text in TEXTS])
    assert (predictor.split, predictor.windows) == (2, 7 + 4)
    for text, answer in zip(TEXTS, answers):
        # With bytes, a character is a token; windows start every 4 characters and end with the text.
        parts = [text[first:first + 6] for first in range(0, max(1, len(text) - 2), 4)]
        logits = np.concatenate([model(tokenizer([part], max_length=8))["logits"] for part in parts])
        pooled = logits.mean(0) if pooling == "mean" else logits.max(0)
        expected = np.exp(pooled) / np.exp(pooled).sum()
        assert [answer["probabilities"][label] for label in LABELS] == pytest.approx(expected, rel=1e-4)
        assert answer["label"] == LABELS[pooled.argmax()]


def test_texts_of_one_window_are_treated_as_without_windows_to_the_bit():
    texts = ["abc", "", "z", "hello!", "longer"]
    found = []
    for task in (windows_task(), task_of("classification", LABELS)):
        model, data = model_of(task), features(task, texts)
        batches = [data.batch(step) for step in range(data.batches_per_epoch)]
        found.append((batches, Predictor(model, load_tokenizer("bytes"), 8)([{"text": text} for text in texts]),
                      Evaluator(model, task).evaluate(data)))
    (ours, answers, metrics), (batches, expected, reference) = found
    assert answers == expected and metrics == reference
    for one, other in zip(ours, batches, strict=True):
        assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_an_exported_model_returns_one_window_and_no_logits():
    task = windows_task()
    model, tokenizer = model_of(task), load_tokenizer("bytes")
    batch = task.encode(tokenizer, tf.constant(["x" * 30, "ab"]), max_length=8)
    served = task.serve(task.predict(model, batch, model(batch)), batch)
    assert served.keys() == {"label", "probabilities", "cut"} and served["cut"].numpy().tolist() == [24, 0]


def test_evaluation_counts_each_text_once_by_its_pooled_prediction():
    task = windows_task()
    model, data = model_of(task, seed=3), features(task)
    metrics = Evaluator(model, task).evaluate(data)
    answers = Predictor(model, load_tokenizer("bytes"), 8)([{"text": text} for text in TEXTS])
    right = [answer["label"] == label for answer, label in zip(answers, ["a", "b", "c", "a", "b"])]
    assert metrics["accuracy"] == np.mean(right)
    losses = [0.0] * len(TEXTS)
    for step in range(data.batches_per_epoch):
        batch = data.batch(step)
        logs = np.asarray(tf.nn.log_softmax(model(batch)["logits"]))
        for row, label, weight, log in zip(data.rows(step), batch["labels"], batch["weights"], logs):
            losses[row] -= weight * log[label]
    assert metrics["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_sums_of_a_batch_are_those_of_its_parts(tmp_path):
    from tests.helpers import check_task
    task = windows_task()
    model = build("bert_tiny", task="classification", labels=LABELS, dropout=0.0,
                  **{**SMALL, "vocab_size": 260, "max_length": 64})
    check_task(TaskModel(model.body, model.head, task), features(task, batch_size=8).batch(0), tmp_path)


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ConfigError, match="--overlap=6 must be less than 6, the number of text tokens"):
        features(windows_task(overlap=6))
    pairs = Source("pairs.tsv", {"text": ["a"], "text_pair": ["b"], "label": ["a"]})
    with pytest.raises(ConfigError, match="pairs.tsv has pairs of texts, which cannot be split"):
        windows_task().features(pairs, load_tokenizer("bytes"), batch_size=1, max_length=8)
    for settings, says in (({"long": "split"}, "long must be cut or windows, got 'split'"),
                           ({"long_pooling": "sum"}, "long_pooling must be mean or max"),
                           ({"overlap": -1}, "overlap must be an integer >= 0")):
        with pytest.raises(ConfigError, match=says):
            windows_task(**settings)
