"""Answers' scores equal those of the official scripts of SQuAD 1.1, SQuAD 2.0 and CMRC 2018, saved by make_squad.py."""
import doctest
import json

import numpy as np
import pytest

from tests.golden.make_squad import guessed
from tests.helpers import CHECKOUT, data_dir
from tfzoo.errors import DataError
from tfzoo.metrics import squad as module
from tfzoo.metrics.squad import answer_metrics, best_threshold, cjk_share, segments

GOLDEN = json.loads((CHECKOUT / "tests" / "golden" / "squad.json").read_text())
SCORES = GOLDEN["scores"]


def test_examples():
    assert doctest.testmod(module).attempted and not doctest.testmod(module).failed


def scored(name, scoring="squad", with_odds=False):
    if name in GOLDEN["cases"]:
        golds, predictions, odds = zip(*GOLDEN["cases"][name])
    else:
        whole, texts, by_id = guessed(data_dir() / name / "eval.json")
        rows = [row for article in whole["data"] for paragraph in article["paragraphs"] for row in paragraph["qas"]]
        golds = [[answer["text"] for answer in row["answers"]] for row in rows]
        predictions, odds = ([found[row["id"]] for row in rows] for found in (texts, by_id))
    return answer_metrics(golds, predictions, odds if with_odds else None, scoring), len(golds)


@pytest.mark.parametrize("name", ["english", "qa_squad1.1"])
def test_squad_1_scores(name):
    found, _ = scored(name)
    assert {key: found[key] for key in SCORES[name]} == pytest.approx(SCORES[name], abs=1e-9)
    assert set(found) == {"exact_match", "f1"} | ({"missing"} if name == "english" else set())


@pytest.mark.parametrize("name", ["no_answer", "qa_squad2.0"])
def test_squad_2_scores_and_thresholds(name):
    (found, count), golden = scored(name, with_odds=True), SCORES[name]
    for ours, theirs in (("exact_match", "exact"), ("f1", "f1")):
        for prefix in ("", "HasAns_", "NoAns_"):
            assert found[prefix + ours] == pytest.approx(golden[prefix + theirs], abs=1e-9)
        # The official script leaves missing predictions out of the number of questions here.
        there = (count - found.get("missing", 0)) / count
        assert found[f"best_{ours}"] == pytest.approx(golden[f"best_{theirs}"] * there, abs=1e-9)
        assert found[f"best_{ours}_threshold"] == golden[f"best_{theirs}_thresh"]


@pytest.mark.parametrize("name", ["chinese", "zh_qa_cmrc2018"])
def test_cmrc_scores(name):
    (found, count), golden = scored(name, "cmrc2018"), SCORES[name]
    assert (found["exact_match"], found["f1"]) == pytest.approx((golden["exact_match"], golden["f1"]), abs=1e-9)
    assert (count, found.get("missing", 0)) == (golden["total"], golden["skipped"])


def test_the_best_threshold_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = rng.integers(1, 9)
        scores, odds = rng.integers(0, 3, count) / 2, rng.permutation(count) - 4.0
        has, empty = rng.random(count) < 0.6, rng.random(count) < 0.2
        # Without an answer, a question is right if the prediction is empty or the odds are above the threshold.
        means = {limit: 100 * np.mean([(score if yes else float(none)) if odd <= limit else float(not yes)
                                       for score, odd, yes, none in zip(scores, odds, has, empty)])
                 for limit in [odds.min() - 1, *odds]}
        best, threshold = best_threshold(scores.tolist(), odds.tolist(), has.tolist(), empty.tolist())
        assert best == pytest.approx(max(means.values())) and means[threshold] == pytest.approx(best)


def test_the_kept_threshold_is_scored_too_and_bad_sizes_are_refused():
    golds, odds = [["a b"], [], ["c"]], [1.0, 3.0, -1.0]
    found = answer_metrics(golds, ["a b", "x", "d"], odds, threshold=2.0)
    assert found["exact_match"] == pytest.approx(100 / 3)
    assert found["exact_match_at_threshold"] == pytest.approx(200 / 3)
    assert found["best_exact_match"] == pytest.approx(200 / 3) and found["best_exact_match_threshold"] == 1.0
    assert answer_metrics([], []) == {"exact_match": 0, "f1": 0}
    assert answer_metrics([["a b"]], [None], [5.0]) == {"exact_match": 0, "f1": 0, "missing": 1}
    with pytest.raises(DataError, match="got 2 questions but 1 predictions"):
        answer_metrics([["a"], []], ["a"])


def test_words_between_chinese_characters_and_the_share_of_cjk():
    for text, words in GOLDEN["words"].items():  # NLTK has two spellings of a double quotation mark
        words = [{"``": '"', "''": '"'}.get(word, word) for word in words]
        assert segments(text) == words and segments(f"中{text}，文") == ["中", *words, "文"]
    assert cjk_share(["中文ab", "12"]) == 0.5 and cjk_share([""]) == 0
