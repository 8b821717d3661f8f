"""BLEU, chrF and ROUGE against the papers' formulas, computed with counters, and against cases by hand."""
import collections
import json
import math

import pytest

from tests.helpers import CHECKOUT
from tfzoo.metrics.bleu import bleu_metrics, bleu_signature, language_of
from tfzoo.metrics.rouge import is_latin, rouge_metrics

OFFICIAL = json.loads((CHECKOUT / "tests" / "golden" / "rouge.json").read_text())
ANSWERS = ["the cat sat on the mat", "a small dog barks at the old tree", "no match here", "the the the the",
           "two men ride a red bicycle down the street"]
REFERENCES = ["the cat is on the mat", "a small dog barks at a tree", "entirely different words", "the cat",
              "two men are riding a red bicycle down the road"]


def grams(items, size):
    return collections.Counter(tuple(items[first:first + size]) for first in range(len(items) - size + 1))


def bleu(answers, references):
    """Papineni et al. 2002, with the smoothing of Chen and Cherry 2014, method 3 (sacreBLEU's exp)."""
    logs, halves = 0.0, 1
    for size in range(1, 5):
        right = sum((grams(a, size) & grams(r, size)).total() for a, r in zip(answers, references))
        total = sum(grams(a, size).total() for a in answers)
        if not right:
            halves *= 2
        logs += math.log(100 * right / total if right else 100 / (halves * total)) / 4
    made, wanted = sum(map(len, answers)), sum(map(len, references))
    return math.exp(logs + min(0.0, 1 - wanted / made))


def chrf(answers, references, beta=2):
    """Popović 2015: the mean over sizes of corpus precision and recall of character n-grams without spaces."""
    scores = []
    for size in range(1, 7):
        pairs = [(grams(a.replace(" ", ""), size), grams(r.replace(" ", ""), size))
                 for a, r in zip(answers, references)]
        right = sum((one & two).total() for one, two in pairs)
        scores.append((right / sum(one.total() for one, _ in pairs), right / sum(two.total() for _, two in pairs)))
    precision, recall = (sum(side) / 6 for side in zip(*scores))
    return 100 * (1 + beta ** 2) * precision * recall / (beta ** 2 * precision + recall)


def test_bleu_and_chrf_equal_the_papers_formulas():
    found = bleu_metrics(ANSWERS, REFERENCES)
    assert found["bleu"] == pytest.approx(bleu(*([text.split() for text in texts] for texts in (ANSWERS, REFERENCES))))
    assert found["chrf"] == pytest.approx(chrf(ANSWERS, REFERENCES), rel=1e-6)
    few = ["one two three"], ["one two four"]  # no 3-gram or 4-gram matches
    assert bleu_metrics(["one two three x y"], ["one two four x"])["bleu"] == pytest.approx(
        bleu([["one", "two", "three", "x", "y"]], [["one", "two", "four", "x"]]))
    assert bleu_metrics(*few)["bleu"] == 0.0  # as sacreBLEU: it has no 4-gram at all
    assert bleu_metrics(REFERENCES, REFERENCES) == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}
    assert bleu_metrics(["", ""], ["a b", "c"]) == bleu_metrics(["x"], ["a b c d e"]) == {"bleu": 0.0, "chrf": 0.0}


def test_the_language_chooses_the_tokenizer_and_the_signature_tells_it():
    chinese, japanese = ["我喜欢读书。", "今天天气 very 好"], ["私は本を読むのが好きです。", "今日は天気がいい"]
    texts = chinese, japanese, ["나는 책을 읽는다"], ANSWERS, ["Привет, мир"], ["", "1 2"], ["中文 and more English words"]
    assert list(map(language_of, texts)) == ["zh", "ja", "ko", "", "", "", ""]
    assert bleu_signature().startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.")
    assert "|tok:zh|" in bleu_signature("zh") and "|tok:char|" in bleu_signature("ja")
    made, wanted = ["我喜欢看书和电影。"], ["我喜欢读书和电影。"]
    by_character = bleu(*([list(text) for text in texts] for texts in (made, wanted)))
    assert bleu_metrics(made, wanted, "zh")["bleu"] == pytest.approx(by_character)
    assert bleu_metrics(made, wanted, "en")["bleu"] == 0.0  # one word for 13a
    # 13a separates punctuation, but not within numbers, and keeps the case (mteval-v13a).
    one, two = "Prices rose 3.5%, he said.", "Prices rose 3.5 % , he said ."
    assert bleu_metrics([one], [two])["bleu"] == pytest.approx(100)
    assert bleu_metrics([one.lower()], [two])["bleu"] < 100


def lcs(one, two):
    row = [0] * (len(two) + 1)
    for a in one:
        before = row
        row = [0]
        for index, b in enumerate(two):
            row.append(before[index] + 1 if a == b else max(before[index + 1], row[-1]))
    return row[-1]


def f1(right, made, wanted):
    return 200 * right / (made + wanted) if right else 0.0


def test_rouge_equals_the_paper_s_formulas():
    found = rouge_metrics(ANSWERS[:4], REFERENCES[:4])  # no word of these is changed by the stemmer
    pairs = [(a.split(), r.split()) for a, r in zip(ANSWERS[:4], REFERENCES[:4])]
    for name, size in (("rouge1", 1), ("rouge2", 2)):
        expected = [f1((grams(a, size) & grams(r, size)).total(), len(a) + 1 - size, len(r) + 1 - size)
                    for a, r in pairs]
        assert found[name] == pytest.approx(sum(expected) / 4)
    assert found["rougeL"] == pytest.approx(sum(f1(lcs(a, r), len(a), len(r)) for a, r in pairs) / 4)
    assert found["rougeLsum"] == found["rougeL"] and found["exact_match"] == 0


@pytest.mark.parametrize("case", OFFICIAL, ids=lambda case: case["answer"][:20])
def test_rouge_equals_the_official_script(case):
    found = rouge_metrics([case["answer"]], [case["reference"]])
    assert {name: found[name] for name in ("rouge1", "rouge2", "rougeLsum")} == pytest.approx(
        {name: 100 * case[name] for name in ("rouge1", "rouge2", "rougeLsum")}, abs=6e-4)


@pytest.mark.parametrize("answer, reference, expected", [
    # By hand. Lin 2004, section 3.2: police kill the gunman (rouge-L 2/4, 3/4).
    ("police kill the gunman", "police killed the gunman", {"rouge1": 100, "rougeL": 100}),  # stemmed
    ("police kill the gunman", "the gunman kill police", {"rouge1": 100, "rouge2": 100 / 3, "rougeL": 50}),
    ("The gunman, police!", "the gunman police", {"rouge1": 100, "rouge2": 100, "rougeL": 100, "exact_match": 0}),
    # Lines in another order: the union of the LCS of each reference line finds all words, the LCS of the texts half.
    ("c d\na b", "a b\nc d", {"rougeL": 50, "rougeLsum": 100}),
    (" same text\n", "same text", {"exact_match": 100}),
    ("", "words", {"rouge1": 0, "rouge2": 0, "rougeL": 0, "rougeLsum": 0, "exact_match": 0}),
    ("我喜欢看书", "我喜欢读书", {"rouge1": 80, "rouge2": 50, "rougeL": 80}),  # by character
    ("Привет, мой мир", "привет мир", {"rouge1": 80, "rouge2": 0, "rougeL": 80})])
def test_rouge_by_hand(answer, reference, expected):
    found = rouge_metrics([answer], [reference])
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("answer, reference, words, right", [
    # google/adk-python#3111 and huggingface/evaluate#256 with other words, and the vowel signs of openai/tiktoken#292.
    ("पूर्व प्रधानमन्त्री", "पूर्व प्रधानमन्त्री शिंजो", 5, 2),  # Nepali
    ("कि की", "के का", 4, 0),  # Hindi; all are equal without their vowel signs
    ("হব মনে", "হব মন", 4, 1), ("தமிழ்", "தமிழ் மொழி", 3, 1),  # Bengali, Tamil
    ("כָּתַב סֵפֶר", "כָּתַב ספר", 4, 1),  # Hebrew, with and without points
    ("مُحَمَّد رَسُول", "مُحَمَّد رَسُول", 4, 2), ("می\u200cخواهم", "می خواهم", 3, 0),  # Arabic, Persian
    ("สวัสดี", "สวัสดิ์", 8, 3),  # Thai, by character: ส วั ส ดี and ส วั ส ดิ์
    ("が・ぎ", "か\u3099ぎ", 4, 1)])  # Japanese; the marks of decomposed characters are not dropped
def test_rouge_keeps_the_marks_of_letters(answer, reference, words, right):
    assert rouge_metrics([answer], [reference])["rouge1"] == pytest.approx(200 * right / words)


def test_texts_are_latin_by_their_letters():
    assert is_latin(["Grüße aus Köln", "123"]) and is_latin([""]) and not is_latin(["Привет"]) and not is_latin(["中文a"])
