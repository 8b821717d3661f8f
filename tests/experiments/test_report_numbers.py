"""Reports: numbers equal to the metrics, and a page that parses, is self-contained and escapes everything."""
import html.parser
import json
import re

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score

from experiments.report import check_folder, evidence_of, numbers_of, write_report
from experiments.report.bootstrap import bootstrap
from experiments.report.evidence import of_choices, of_classes, of_label_sets, of_numbers
from experiments.report.page import page
from tfzoo.data.completions import Completions
from tfzoo.data.source import Source
from tfzoo.errors import ConfigError, DataError
from tfzoo.metrics.bleu import bleu_metrics
from tfzoo.tasks import task_of

BAD = "<script>alert('x')</script> & \"<b>\" \x00 \ud800"
VOID = {"meta"}


class Parser(html.parser.HTMLParser):
    """Collects the elements of a page, and checks that they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.attributes = [], [], "", []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += "" if self.open and self.open[-1] == "style" else data


def check_page(text):
    found = Parser(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "a"} & set(found.tags)
    assert not re.search(r"https?:|url\(|@import", text)
    assert not {"src", "href"} & {name for name, _ in found.attributes}
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    return found


def classified(labels, count=200, seed=0):
    """Return (metrics, Evidence, probabilities, true) of random answers of a classifier."""
    rng, task = np.random.default_rng(seed), task_of("classification", labels)
    true = np.random.default_rng(9).integers(0, len(labels), count)
    logits = rng.standard_normal((count, len(labels))) + 2 * np.eye(len(labels))[true]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    answers = task.answers({"probabilities": probabilities}, None)
    source = Source("rows", {"text": [f"{BAD} {number}" for number in range(count)],
                             "label": [labels[number] for number in true]})
    best = probabilities.argmax(1)
    counts = [np.bincount(each, minlength=len(labels)) for each in (true[true == best], true, best)]
    metrics = task.metrics({"loss": 1.0, "right": 0, "count": 1.0, "labels": counts})
    return metrics, evidence_of(task, answers, source.columns["label"], source), probabilities, true


def test_a_classifier_s_numbers_are_those_of_its_metrics_and_of_sklearn():
    labels = ["a", BAD, "c", "never"]
    metrics, evidence, probabilities, true = classified(labels[:3])
    found = numbers_of({"model": BAD}, metrics, evidence)
    for name in ("accuracy", "f1", "precision", "recall"):
        value, low, high = (found["intervals"][name][key] for key in ("value", "low", "high"))
        assert value == pytest.approx(metrics[name], abs=1e-12) and low < value < high
    rows = {row["name"]: row for row in found["tables"]["class"]}
    assert {name: rows[name]["f1"] for name in rows} == pytest.approx({name: metrics[f"f1/{name}"] for name in rows})
    assert found["confusion"] == {"labels": labels[:3],
                                  "counts": confusion_matrix(true, probabilities.argmax(1)).tolist()}
    for number, label in enumerate(labels[:3]):
        assert found["precision_recall"][label]["average_precision"] == pytest.approx(
            average_precision_score(true == number, probabilities[:, number]))
    wrong = np.flatnonzero(probabilities.argmax(1) != true)
    losses = -np.log(probabilities[wrong, true[wrong]])
    assert found["wrong"] == len(wrong) and len(found["errors"]) == min(50, len(wrong))
    assert [error["example"] for error in found["errors"]] == wrong[np.argsort(-losses)].tolist()[:50]
    assert found["errors"][0]["loss"] == pytest.approx(losses.max())
    text = page(found)
    parsed = check_page(text)
    assert "<script" not in text and BAD.replace("\x00", "\ufffd") in parsed.text
    assert f"Report on {BAD[:20]}" in parsed.text and parsed.tags.count("svg") == 2


def test_many_classes_are_limited_and_none_is_lost():
    labels = [f"label {number}" for number in range(150)]
    metrics, evidence, _, true = classified(labels, 2000)
    found = numbers_of({}, metrics, evidence)
    counts = np.array(found["confusion"]["counts"])
    assert counts.shape == (31, 31) and counts.sum() == 2000 and found["confusion"]["labels"][-1] == "(120 others)"
    assert len(found["tables"]["class"]) == 100 and len(found["precision_recall"]) == 10
    assert found["intervals"].keys() == {"accuracy"} and len(found["errors"]) == 50
    check_page(page(found))


def test_a_comparison_is_paired_and_that_of_a_model_with_itself_finds_nothing():
    (metrics, one, *_), (other_metrics, two, *_) = (classified(["a", "b", "c"], 400, seed) for seed in (0, 1))
    found = numbers_of({}, metrics, one, other=(BAD, other_metrics, two))["compare"]
    assert found["scores"].keys() == {"accuracy", "f1", "precision", "recall"}
    for name, row in found["scores"].items():
        assert row["difference"] == pytest.approx(metrics[name] - other_metrics[name])
        assert row["low"] < row["difference"] < row["high"]
    assert found["mcnemar"]["only_one"] - found["mcnemar"]["only_other"] == round(
        400 * (metrics["accuracy"] - other_metrics["accuracy"]))
    same = numbers_of({}, metrics, one, other=("itself", metrics, one))
    assert all(row["p_value"] == 1 and row["low"] == row["high"] == 0 for row in same["compare"]["scores"].values())
    assert same["compare"]["mcnemar"] == {"only_one": 0, "only_other": 0, "p_value": 1.0}
    check_page(page(same))


TOKENS = [["Ann", "<b>", "Rome"], ["x"], [], ["New", "York", "\U0001f600"]]
GOLD = [["B-PER", "O", "B-LOC"], ["O"], [], ["B-LOC", "I-LOC", "O"]]
FOUND = [["B-PER", "O", "B-LOC"], ["O"], [], ["B-LOC", "O", "B-PER"]]


def test_a_tagger_s_entities_are_counted_by_type_and_marked():
    task = task_of("tagging", ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"])
    answers = [{"tokens": tokens, "tags": tags} for tokens, tags in zip(TOKENS, FOUND)]
    metrics = task.metrics({"loss": 0.0, "right": 0, "count": 1.0}, answers, GOLD)
    found = numbers_of({}, metrics, evidence_of(task, answers, GOLD, None))
    assert {name: each["value"] for name, each in found["intervals"].items()} == pytest.approx(
        {name: metrics[name] for name in ("accuracy", "f1", "precision", "recall")})
    rows = {row["name"]: row for row in found["tables"]["entity type"]}
    assert [[rows[name][key] for key in ("right", "true", "predicted")] for name in ("LOC", "PER")] == [
        [1, 2, 2], [1, 1, 2]]
    assert {name: rows[name]["f1"] for name in rows} == pytest.approx({name: metrics[f"f1/{name}"] for name in rows})
    error, = found["errors"]
    assert error["example"] == 3 and error[found["unit"]] == 3
    assert error["gold"] == "LOC: New York" and error["predicted"] == "LOC: New; PER: \U0001f600"
    assert error["texts"][0]["spans"] == [
        {"start": 0, "end": 8, "type": "LOC", "of": "gold"}, {"start": 0, "end": 3, "type": "LOC", "of": "predicted"},
        {"start": 9, "end": 10, "type": "PER", "of": "predicted"}]
    assert ('<span class="gold predicted">New</span><span class="type">predicted LOC</span><span class="gold"> York'
            '</span><span class="type">gold LOC</span> <span class="predicted">\U0001f600</span>') in page(found)
    check_page(page(found))


def test_a_tagger_of_word_classes_has_a_confusion_matrix_of_words():
    task = task_of("tagging", ["DET", "NOUN", "VERB"])
    gold = [["DET", "NOUN", "VERB"], ["VERB"], []]
    answers = [{"tokens": ["the", "dog", "runs"], "tags": ["DET", "NOUN", "NOUN"]},
               {"tokens": ["run"], "tags": ["VERB"]}, {"tokens": [], "tags": []}]
    metrics = task.metrics({"loss": 0.0, "right": 0, "count": 1.0}, answers, gold)
    found = numbers_of({}, metrics, evidence_of(task, answers, gold, None))
    assert {name: each["value"] for name, each in found["intervals"].items()} == pytest.approx(
        {name: metrics[name] for name in ("accuracy", "f1", "precision", "recall")})
    assert found["confusion"]["counts"] == [[1, 0, 0], [0, 1, 0], [0, 1, 1]] and "calibration" not in found
    assert found["errors"][0]["gold"] == "VERB: runs" and found["errors"][0]["predicted"] == "NOUN: runs"
    check_page(page(found))


def test_extracted_answers_are_scored_at_threshold_0_and_marked_in_their_context():
    task = task_of("question_answering", null_threshold=0.0, scoring="squad")
    context = "x" * 5000 + " The tower is in Paris, France. " + "y" * 5000
    place = context.index("Paris")
    golds = [[{"text": "Paris", "answer_start": place}, {"text": "Paris, France", "answer_start": place}], [], [],
             [{"text": "tower", "answer_start": place - 10}]]
    source = Source("rows", {"question": ["Where?", "Why?", "When?", "What?"], "context": [context] * 4,
                             "answers": golds})
    best = [{"answer": "in Paris", "start": place - 3, "end": place + 5}, {"answer": "x", "start": 0, "end": 1},
            {"answer": "x", "start": 0, "end": 1}, {"answer": "tower", "start": place - 10, "end": place - 5}]
    answers = [{"nbest": [each], "null_odds": odds} for each, odds in zip(best, (-1.0, 0.5, -0.5, -3.0))]
    references = [[gold["text"] for gold in each] for each in golds]
    metrics = task.metrics({"loss": 0.0, "right": 0, "count": 1.0}, answers, references)
    found = numbers_of({}, metrics, evidence_of(task, answers, references, source))
    assert found["intervals"].keys() == {"exact_match", "f1", "HasAns_exact_match", "HasAns_f1", "NoAns_exact_match",
                                         "NoAns_f1"}
    for name, each in found["intervals"].items():
        assert each["value"] == pytest.approx(metrics[name])
    assert metrics["f1"] == pytest.approx(100 * (2 / 3 + 1 + 0 + 1) / 4)
    assert [error["example"] for error in found["errors"]] == [2, 0]
    assert found["errors"][0]["gold"] == "(no answer)" and found["errors"][1]["gold"] == "Paris | Paris, France"
    shown = found["errors"][1]["texts"][1]
    marked = [shown["text"][span["start"]:span["end"]] for span in shown["spans"]]
    assert marked == ["Paris", "Paris, France", "in Paris"]
    assert shown["before"] + len(shown["text"]) + shown["after"] == len(context)
    check_page(page(found))


def test_generated_texts_are_scored_as_their_corpus_is():
    task = task_of("seq2seq", target_language="de")
    references = [f"Der Hund {number} schläft heute im Garten hinter dem Haus ." for number in range(30)]
    texts = [text if number % 3 else f"{BAD} ein Hund {number} im Garten hinter dem Haus ."
             for number, text in enumerate(references)]
    source = Source("rows", {"source": [BAD] * 30, "target": references})
    answers = [{"text": text} for text in texts]
    metrics = task.metrics({"loss": 0.0, "right": 0, "count": 1.0}, answers, references)
    found = numbers_of({}, metrics, evidence_of(task, answers, references, source))
    assert {"bleu", "chrf", "rouge1", "rougeL", "exact_match"} <= found["intervals"].keys()
    for name, each in found["intervals"].items():
        assert each["value"] == pytest.approx(metrics[name]) and each["low"] < each["value"] < each["high"]
    # BLEU is not a mean, so a resample of the texts is scored again.
    drawn = np.random.default_rng(5).integers(30, size=(20, 30))
    draws = bootstrap(evidence_of(task, answers, references, source).scores, resamples=20, seed=5)
    for number, rows in enumerate(drawn):
        again = bleu_metrics(*([each[row] for row in rows] for each in (texts, references)), "de")
        assert [draws[name][number] for name in ("bleu", "chrf")] == pytest.approx([again["bleu"], again["chrf"]])
    assert found["wrong"] == 10 and len(found["errors"]) == 10
    check_page(page(found))


def test_conversations_are_shown_up_to_their_last_answer():
    messages = [[{"role": "user", "content": BAD}, {"role": "assistant", "content": "yes"}]] * 2
    task = task_of("completion")
    answers, source = [{"text": "yes"}, {"text": "no"}], Completions("rows", {"messages": messages})
    metrics = task.metrics({"loss": 1.0, "right": 0, "count": 1.0}, answers, ["yes", "yes"])
    found = numbers_of({}, metrics, evidence_of(task, answers, ["yes", "yes"], source))
    assert found["intervals"].keys() == {"rouge1", "rouge2", "rougeL", "rougeLsum", "exact_match"}
    assert all(each["value"] == metrics[name] for name, each in found["intervals"].items())
    error, = found["errors"]
    assert error["texts"][0]["text"] == f"user: {BAD}" and (error["gold"], error["predicted"]) == ("yes", "no")
    check_page(page(found))


def test_label_sets_are_scored_as_sklearn_scores_them():
    labels, rng = ["a", BAD, "c", "never"], np.random.default_rng(4)
    true = (rng.random((80, 4)) < [0.6, 0.4, 0.2, 0]).astype(int)
    probabilities = np.clip(0.3 * rng.random((80, 4)) + 0.4 * true + 0.15 * rng.random((80, 4)), 0, 1)
    answers = [{"labels": [label for label, value in zip(labels, row) if value >= 0.5],
                "probabilities": dict(zip(labels, row.tolist()))} for row in probabilities]
    source = Source("rows", {"text": [BAD] * 80, "text_pair": ["b"] * 80})
    found = numbers_of({}, {}, of_label_sets(labels, answers, true, source))
    predicted = probabilities >= 0.5
    for name in ("micro", "macro", "samples"):
        assert found["intervals"][f"{name.removesuffix('s')}_f1"]["value"] == pytest.approx(
            f1_score(true, predicted, average=name, zero_division=0))
    assert found["intervals"]["subset_accuracy"]["value"] == (predicted == true).all(1).mean()
    assert found["precision_recall"].keys() == set(labels[:3]) and "confusion" not in found
    assert found["precision_recall"]["a"]["average_precision"] == pytest.approx(
        average_precision_score(true[:, 0], probabilities[:, 0]))
    assert sum(each["count"] for each in found["calibration"]["bins"]) == 320
    assert found["wrong"] == (predicted != true).any(1).sum() and len(found["errors"][0]["texts"]) == 2
    check_page(page(found))


def test_choices_and_numbers_are_reported():
    source = Source("rows", {"text": [BAD, "b", "c"], "choices": [["x", BAD], ["x", "y", "z"], ["x", "y"]],
                             "choice": [1, 2, 0]})
    answers = [{"label": 0, "probabilities": [0.75, 0.25]}, {"label": 2, "probabilities": [0.1, 0.2, 0.7]},
               {"label": 0, "probabilities": [0.9, 0.1]}]
    found = numbers_of({}, {}, of_choices(answers, source))
    assert found["intervals"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["calibration"]["ece"] == pytest.approx((0.75 + 0.3 + 0.1) / 3)
    error, = found["errors"]
    assert (error["gold"], error["predicted"], error["loss"]) == (BAD, "x", pytest.approx(np.log(4)))
    check_page(page(found))
    found = numbers_of({}, {}, of_numbers([{"value": value} for value in (1.0, 2.0, 5.0)], [1.0, 3.0, 4.5], source))
    assert found["intervals"]["mse"]["value"] == pytest.approx(1.25 / 3)
    assert [error["example"] for error in found["errors"]] == [1, 2] and found["errors"][0]["gold"] == 3.0
    check_page(page(found))


def test_entities_whose_relation_is_asked_for_are_marked():
    source = Source("rows", {"text": ["Ann lives in Rome"], "entities": [
        [{"start": 0, "end": 3, "type": "PER"}, {"start": 13, "end": 17}]]})
    answers = [{"label": "b", "probabilities": {"a": 0.2, "b": 0.8}}]
    found = numbers_of({}, {}, of_classes(["a", "b"], answers, ["a"], source))
    assert '<span class="gold">Ann</span><span class="type">gold PER</span> lives in <span class="gold">Rome' in page(
        found)


def test_a_report_replaces_only_a_report(tmp_path):
    metrics, evidence, *_ = classified(["a", "b"])
    numbers = numbers_of({"model": "m", "loss": float("nan")}, metrics, evidence)
    for _ in range(2):
        write_report(numbers, check_folder(tmp_path / "new" / "report"))
    assert json.loads((tmp_path / "new" / "report" / "report.json").read_text()) == numbers
    check_page((tmp_path / "new" / "report" / "report.html").read_text())
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(ConfigError, match="which tfzoo did not write"):
        check_folder(tmp_path)


@pytest.mark.parametrize("kind", ["scores", "texts"])
def test_a_report_on_vectors_has_the_numbers_of_its_metrics(kind):
    rng, task = np.random.default_rng(0), task_of("contrastive", min_score=1, max_score=5)
    texts = np.array([[0, 1, 2], [0, 3, -1], [4, 5, -1], [6, 7, 8], [6, 9, -1], [6, 1, -1]])
    vectors = rng.standard_normal((10, 4))[texts]  # the last is unused
    answers = task.answers({"embedding": vectors}, None)
    references = {"texts": texts} if kind == "texts" else {"scores": [1.0, 5.0, 2.0, 3.0, 4.0, 2.5]}
    source = Source("rows", {"text": [BAD] * 6, "text_pair": list("abcdef")})
    metrics = task.metrics({"loss": 1.0, "right": 0.0, "count": 1.0}, answers, references)
    evidence = evidence_of(task, answers, references, source)
    found = numbers_of({}, metrics, evidence)
    names = ("pearson", "spearman") if kind == "scores" else ("recall@1", "recall@5", "recall@10", "mrr")
    assert {name: each["value"] for name, each in found["intervals"].items()} == pytest.approx(
        {name: metrics[name] for name in names})
    if kind == "scores":
        assert evidence.errors == pytest.approx(
            (np.array([answer["similarity"] for answer in answers]) - [0, 1, 0.25, 0.5, 0.75, 0.375]) ** 2)
    check_page(page(found))
    with pytest.raises(DataError, match="rows: --report requires pairs of texts"):
        evidence_of(task, answers, None, source)
