"""Question answering: gold spans through windows, the best answers by brute force, thresholds, serving and saving."""
import json
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.golden.make_squad import nearest
from tests.helpers import check_task, data_dir, fill, hostile_texts, vocab_dir
from tfzoo.checkpoints import Loaded
from tfzoo.data.questions import QUESTIONS, Questions
from tfzoo.data.source import open_source
from tfzoo.errors import ConfigError, DataError
from tfzoo.export.saved_model import serving_function
from tfzoo.metrics.squad import answer_metrics
from tfzoo.tasks import task_of
from tfzoo.tasks.question_answering import N_BEST, NONE
from tfzoo.text import learn_tokenizer, load_tokenizer
from tfzoo.training.evaluator import Evaluator
from tfzoo.training.optimizer import WarmUp, make_optimizer
from tfzoo.training.trainer import Trainer

SMALL = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "ffn_dim": 32, "vocab_size": 200, "max_length": 64}
CONTEXTS = ["Ann  lives in Rome, \U0001f600 and Bob in Oslo. Eve left e\u0301te\u0301 for \u4e2d\u6587. " * 3,
            "Bob lives in Oslo.", " x ", "Rome " * 30]
QUESTIONS_ASKED = ["Where does Ann live?", "Who lives in Oslo?", "", "  why " * 30]
SUMS = {"loss": 1.0, "right": 1.0, "count": 1.0}


def rows(answers=True):
    found = [{"id": str(number), "question": question or "?", "context": context,
              "answers": [{"text": context.split()[0], "answer_start": context.index(context.split()[0])}]}
             for number, (question, context) in enumerate(zip(QUESTIONS_ASKED, CONTEXTS))]
    found.append({**found[1], "id": "none", "question": "Who?", "answers": []})
    return found if answers else [{key: value for key, value in row.items() if key != "answers"} for row in found]


@pytest.fixture(scope="module")
def tokenizer():
    return learn_tokenizer("learn:wordpiece:200", CONTEXTS + QUESTIONS_ASKED)


def make(tokenizer, length=24, **settings):
    task = task_of("question_answering", **settings)
    sizes = {**SMALL, "vocab_size": max(200, tokenizer.vocab_size)}
    model = tfzoo.build("bert_tiny", task="question_answering", dropout=0.0, **sizes)
    model.task = task
    fill(model.weights, 3)
    return Loaded(model, tokenizer, {"model": "bert_tiny", "task": task.name, "labels": None,
                                     "settings": task.settings, "max_length": length})


def gold_predictions(data):
    # What a model predicts for each window that is sure of the label, as `predict` returns it.
    found = []
    for step in range(data.batches_per_epoch):
        batch = data.batch(step)
        for row, example in enumerate(data.rows(step)):
            if example >= 0:
                start, end = batch["labels"][row]
                inside = bool(batch["context_mask"][row, start]) and batch["weights"][row] > 0
                found.append((example, batch["window"][row], start, end, inside))
    examples, windows, starts, ends, inside = map(np.array, zip(*sorted(found)))
    none = np.full((len(found), N_BEST - 1), NONE)
    return {"scores": np.concatenate([np.where(inside, 1, NONE)[:, None], none], 1), "window": windows,
            "firsts": np.repeat(starts[:, None], N_BEST, 1), "lasts": np.repeat(ends[:, None], N_BEST, 1),
            "null": np.zeros(len(found))}


@pytest.mark.parametrize("name, vocabulary, length, overlap, off", [
    ("qa_squad1.1", "bert_uncased", 128, 60, 1), ("qa_squad1.1", "bert_uncased", 32, 13, 1),
    ("qa_squad2.0", "bert_cased", 128, 60, 0), ("qa_squad1.1", "t5", 128, 60, 1), ("qa_squad1.1", "gpt2", 128, 60, 1),
    ("zh_qa_cmrc2018", "bert_chinese", 128, 60, 0)])
def test_gold_spans_in_give_100(name, vocabulary, length, overlap, off):
    source = open_source(str(data_dir() / name), QUESTIONS, "eval").take(range(0, 1000, 4))
    tokenizer = load_tokenizer(vocab_dir() / vocabulary)
    task = task_of("question_answering", overlap=overlap)
    task.adapt(source)
    data = task.features(source, tokenizer, batch_size=32, max_length=length)
    answers = task.answers(gold_predictions(data), data)
    assert [answer["id"] for answer in answers] == source.columns["id"]
    golds = [[answer["text"] for answer in each] for each in source.columns["answers"]]
    sizes = tokenizer.encode([(each or [""])[0] for each in golds]).row_lengths().numpy()
    whole = []  # the questions whose answer fits into the tokens that windows share, and is where it says it is
    for example, (answer, context, (first, *_)) in enumerate(zip(
            answers, source.columns["context"], [each or [{"text": "", "answer_start": 0}]
                                                 for each in source.columns["answers"]])):
        text, start = first["text"], first["answer_start"]
        assert context[answer["start"]:answer["end"]] == answer["answer"] and (
            text in answer["answer"] or not answer["answer"])
        if context[start:start + len(text)] == text and sizes[example] <= overlap + 1:
            whole.append(example)
    metrics = task.metrics(SUMS, [answers[example] for example in whole], [golds[example] for example in whole])
    # The answer 2 of 12 or 129 is a part of a token, which is the nearest answer.
    assert metrics["exact_match"] == pytest.approx(100 - 100 * off / len(whole)) and len(whole) > 0.95 * len(source)


def test_a_sentence_with_shared_characters_is_the_chinese_baseline():
    source = open_source(str(data_dir() / "zh_qa_cmrc2018"), QUESTIONS, "eval")
    golds = [[answer["text"] for answer in answers] for answers in source.columns["answers"]]
    guesses = [nearest(question, context)[0] for question, context in zip(*source.texts)]
    metrics = answer_metrics(golds[::4], guesses[::4], scoring="cmrc2018")
    assert metrics["exact_match"] < 5 and 20 < metrics["f1"] < 60
    print(metrics)


def spans_of(logits, mask, most):
    # All scores of spans, by (first, last), from brute force.
    columns = np.flatnonzero(mask)
    return {(first, last): logits[first, 0] + logits[last, 1] for first in columns for last in columns
            if first <= last < first + most}


@pytest.mark.parametrize("most", [1, 3, 30])
def test_the_best_answers_and_no_answer_are_those_of_brute_force(tokenizer, most):
    loaded = make(tokenizer, max_answer=most, overlap=4)
    task, source = loaded.task, Questions.of_rows("x", rows())
    data = task.features(source, tokenizer, batch_size=4, max_length=24)
    best, null = [{} for _ in rows()], [np.inf] * len(rows())
    for step in range(data.batches_per_epoch):
        batch = data.batch(step)
        logits = loaded.model(batch)["logits"].numpy()
        found = {key: np.asarray(value) for key, value in task.predict(loaded.model, batch, {"logits": logits}).items()}
        for row, example in enumerate(data.rows(step)):
            if example < 0:
                continue
            spans = spans_of(logits[row], batch["context_mask"][row], most)
            order = sorted(spans, key=lambda span: -spans[span])[:N_BEST]
            there = found["scores"][row] > NONE / 2
            assert there.sum() == min(N_BEST, len(spans))
            assert [*zip(found["firsts"][row][there], found["lasts"][row][there])] == order
            for (first, last), score in spans.items():
                key = tuple(data.token(batch["window"][row], column) for column in (first, last))
                best[example][key] = max(best[example].get(key, -np.inf), score)
            null[example] = min(null[example], logits[row, 0].sum())
    tops = [max(each.values()) for each in best]
    loaded.model.task.null_threshold = limit = float(np.median(np.array(null) - tops))
    answers = loaded.predict(*zip(*((row["question"], row["context"]) for row in rows())))
    for example, (answer, row) in enumerate(zip(answers, rows())):
        (first, last), top = max(best[example].items(), key=lambda item: item[1])
        start, end = data.place(example, first, last)
        assert answer["null_odds"] == pytest.approx(null[example] - top, abs=1e-4)
        assert answer["nbest"][0]["answer"] == row["context"][start:end].strip()
        if abs(null[example] - top - limit) > 1e-3:
            assert answer["answer"] == ("" if null[example] - top > limit else answer["nbest"][0]["answer"])
        scores = np.sort(np.array([*best[example].values()]))[::-1][:N_BEST]
        shares = np.exp(np.append(scores, null[example]) - max(top, null[example]))
        assert answer["nbest"][0]["score"] == pytest.approx(shares[0] / shares.sum(), rel=1e-3)
    assert {answer["answer"] == "" for answer in answers} == {True, False}


def test_evaluation_predicts_what_prediction_does_and_keeps_the_best_threshold(tokenizer):
    source = Questions.of_rows("x", rows())
    task = task_of("question_answering")
    task.adapt(source)
    loaded, seen = make(tokenizer, **task.settings), []
    assert task.null_threshold == 0 and task.scoring == "squad"
    keep = task.metrics
    task.metrics = lambda *given: seen.append(given[1]) or keep(*given)
    data = task.features(source, tokenizer, batch_size=3, max_length=24)
    metrics = Evaluator(loaded.model, task).evaluate(data)
    alone = [dict(answer, id=row["id"]) for answer, row in zip(
        loaded.predict(*zip(*[(row["question"], row["context"]) for row in rows()])), rows())]
    assert [answer["answer"] for answer in alone] == [answer["answer"] for answer in seen[0]]
    assert [answer["id"] for answer in seen[0]] == [row["id"] for row in rows()]
    assert {"exact_match", "f1", "HasAns_f1", "NoAns_exact_match", "best_f1", "best_f1_threshold"} < set(metrics)
    task.adopt(metrics)
    assert task.null_threshold == metrics["best_f1_threshold"] == task.settings["null_threshold"]
    again = task_of("question_answering", **task.settings).metrics(SUMS, seen[0], data.references)
    assert again["f1_at_threshold"] == pytest.approx(metrics["best_f1"])
    for settings, part, threshold in (({"null_threshold": -2.0}, source, -2.0), ({}, source.take([0, 1]), None)):
        other = task_of("question_answering", **settings)
        other.adapt(part)
        other.adopt(metrics)
        assert other.null_threshold == threshold
    answers = task_of("question_answering").metrics(SUMS, seen[0], data.references)
    assert "best_f1" not in answers and answers["NoAns_f1"] == 0  # such a model never answers ""


def test_the_contract_of_a_task(tokenizer, tmp_path):
    loaded = make(tokenizer, overlap=3, null_threshold=1.5, scoring="cmrc2018", max_answer=7)
    data = loaded.task.features(Questions.of_rows("x", rows()), tokenizer, batch_size=8, max_length=24, training=True)
    terms, sums = check_task(loaded.model, data.batch(0), tmp_path)
    assert loaded.task.metrics({key: np.asarray(value) for key, value in sums.items()}).keys() == {"loss", "accuracy"}
    batch = data.batch(0)
    padded = {key: np.pad(value, [(0, 0), (0, 9)]) if value.ndim == 2 and key != "labels" else value
              for key, value in batch.items()}
    more, _ = loaded.task.objective(loaded.model, padded)
    assert float(more["loss"]) == pytest.approx(float(terms["loss"]), rel=1e-5)  # padding has no probability
    assert data.rows(0).max() <= 4 and len(np.unique(data.examples(0))) == len(data.examples(0))


def test_served_and_live_give_the_same_answers(tokenizer):
    texts = [text.decode("utf-8", "replace") for text in hostile_texts(40)]
    questions, contexts = ["Where?", *QUESTIONS_ASKED[:3]] * 10, texts
    for threshold in (None, 0.0):
        loaded = make(tokenizer, length=64, null_threshold=threshold)
        live = loaded.predict(questions, contexts)
        served = {key: value.numpy() for key, value in serving_function(loaded)(
            tf.constant(questions), tf.constant(contexts)).items()}
        assert set(served) == {"answer", "start", "end", "score", "cut"}
        for row, (answer, context) in enumerate(zip(live, contexts)):
            if served["cut"][row]:
                continue
            assert (served["answer"][row].decode(), served["start"][row], served["end"][row]) == (
                answer["answer"], answer["start"], answer["end"]), context
            following = context[answer["end"]:][:1] if answer["answer"] else ""
            assert unicodedata.category(following or " ") != "Mn", context  # accents stay with their letters
            assert served["score"][row] == pytest.approx(answer["score"], abs=1e-4)
        assert served["cut"].max() > 0 and (served["cut"] == 0).sum() > 20
    with pytest.raises(ConfigError, match="a bytes tokenizer gives no character offsets"):
        serving_function(make(load_tokenizer("bytes")))(tf.constant(["a"]), tf.constant(["b"]))


def test_saved_folders_keep_the_task(tokenizer, tmp_path):
    loaded = make(tokenizer, null_threshold=0.25, scoring="cmrc2018")
    expected = loaded.predict(QUESTIONS_ASKED, CONTEXTS)
    loaded.model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").task.settings == loaded.task.settings
    tfzoo.save(loaded, tmp_path / "ours")
    assert tfzoo.load(tmp_path / "ours").predict(QUESTIONS_ASKED, CONTEXTS) == expected
    tfzoo.save(loaded, tmp_path / "theirs", format="huggingface")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config["architectures"] == ["BertForQuestionAnswering"]
    there = tfzoo.load(tmp_path / "theirs")  # their config has no threshold
    assert there.task.null_threshold is None
    there.config["max_length"] = loaded.config["max_length"]
    for answer, other in zip(there.predict(QUESTIONS_ASKED, CONTEXTS), expected):
        assert [each["answer"] for each in answer["nbest"]] == [each["answer"] for each in other["nbest"]]


def test_empty_texts_are_answered_and_missing_ones_refused(tokenizer):
    answers = make(tokenizer).predict(["", "Who?"], ["Bob.", ""])
    assert answers[1] == {"answer": "", "start": 0, "end": 0, "score": 0.0, "null_odds": answers[1]["null_odds"],
                          "nbest": []} and answers[0]["answer"]
    with pytest.raises(DataError, match="row 1: no value for context"):
        make(tokenizer).predict(["Who?"])


@pytest.mark.slow
def test_an_update_does_not_depend_on_microbatches(tokenizer):
    found = []
    for parts in (1, 4):
        loaded = make(tokenizer)
        data = loaded.task.features(Questions.of_rows("x", rows()), tokenizer, batch_size=8, max_length=24,
                                    training=True)
        optimizer = make_optimizer("adamw", WarmUp(1e-2, 20, 1), loaded.model.trainable_variables, 0.1)
        trainer = Trainer(loaded.model, loaded.task, optimizer, seed=0, clip_norm=0.5, microbatches=parts)
        assert len(np.unique(data.rows(0))) < 8  # windows of an example in several microbatches
        sums, norm, *_ = trainer.train_step(data.batch(0))
        found.append((float(sums["loss"]), float(norm), trainer.arrays()["optimizer"]))
    (loss, norm, arrays), other = found
    assert other[:2] == pytest.approx((loss, norm), rel=1e-5)
    for path in arrays:
        assert np.abs(arrays[path] - other[2][path]).max() < 1e-6, path
