"""Test entity scores against seqeval and independently counted conlleval chunks, and scores without entities."""
import doctest
import json
import warnings

import pytest

from tests.helpers import CHECKOUT
from tests.records.conlleval import SCHEMES, chunks, random_sentences
from tfzoo.errors import DataError
from tfzoo.metrics import entities as module
from tfzoo.metrics.entities import class_metrics, entity_metrics, word_accuracy
from tfzoo.records.tags import entities, to_iob2

GOLDEN = json.loads((CHECKOUT / "tests" / "golden" / "entities.json").read_text())["scores"]


def test_examples():
    assert doctest.testmod(module).attempted and not doctest.testmod(module).failed


@pytest.mark.parametrize("scheme", GOLDEN)
@pytest.mark.parametrize("form", [list, to_iob2])
def test_seqeval_s_scores(scheme, form):
    golden = GOLDEN[scheme]
    true, predicted = ([form(tags.split()) for tags in golden[side]] for side in ("true", "predicted"))
    metrics = entity_metrics([entities(tags) for tags in true], [entities(tags) for tags in predicted])
    assert metrics == pytest.approx(golden["metrics"], abs=1e-12) and list(metrics) == list(golden["metrics"])
    if form is list:
        assert word_accuracy(true, predicted) == pytest.approx(golden["accuracy"], abs=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_2000_random_pairs_counted_apart(scheme):
    pairs = list(zip(random_sentences(scheme, 2000, 3), random_sentences(scheme, 2000, 4)))
    for one, other in pairs:
        true, predicted = chunks(one), chunks(other)
        right = len(true & predicted)
        metrics = entity_metrics([entities(one)], [entities(other)])
        assert metrics["precision"] == (right / len(predicted) if predicted else 0)
        assert metrics["recall"] == (right / len(true) if true else 0)
        assert metrics["f1"] == pytest.approx(2 * right / (len(true) + len(predicted)) if true or predicted else 0)
    true, predicted = ([chunks(sentence) for sentence in side] for side in zip(*pairs))
    all_true, all_predicted = (sum(map(len, side)) for side in (true, predicted))
    right = sum(len(one & other) for one, other in zip(true, predicted))
    assert entity_metrics(true, predicted)["f1"] == pytest.approx(2 * right / (all_true + all_predicted))


def test_nothing_to_divide_by_is_0_and_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = {"f1": 0, "precision": 0, "recall": 0}
        assert entity_metrics([], []) == entity_metrics([[]], [[]]) == nothing
        assert entity_metrics([[("PER", 0, 1)]], [[]], ["LOC"]) == {**nothing, "f1/LOC": 0, "f1/PER": 0}
        assert word_accuracy([], []) == word_accuracy([[]], [[]]) == 0
        assert set(class_metrics([[]], [[]], ["a", "b"]).values()) == {0}


def test_entities_never_join_across_sentences():
    tags = [["O", "I-PER"], ["I-PER", "O"]]
    assert entity_metrics(list(map(entities, tags)), [entities(sum(tags, [])), []])["f1"] == 0


def test_a_type_is_counted_by_its_whole_name_and_a_bare_one_has_a_name():
    metrics = entity_metrics([[("a-b", 0, 1), ("micro avg", 1, 2)]], [[("a-c", 0, 1), ("micro avg", 1, 2)]])
    assert metrics == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "f1/a-b": 0, "f1/a-c": 0, "f1/micro avg": 1}
    assert entity_metrics([entities("BIO")], [entities("BIO")])["f1/_"] == 1


def test_classes_are_scored_by_words():
    metrics = class_metrics([["NOUN", "VERB"], ["ADJ"]], [["NOUN", "ADJ"], ["ADJ"]], ["ADJ", "NOUN", "VERB", "X"])
    assert metrics["accuracy"] == pytest.approx(2 / 3) and metrics["f1/NOUN"] == 1 and metrics["f1/VERB"] == 0
    # The mean of three, as in scikit-learn: "X" is neither true nor predicted.
    assert metrics["f1"] == pytest.approx((2 / 3 + 1 + 0) / 3) and "f1/X" not in metrics
    with pytest.raises(DataError, match="'X' is unknown; expected one of NOUN"):
        class_metrics([["NOUN"]], [["X"]], ["NOUN"])


def test_words_without_a_prediction_are_refused():
    with pytest.raises(DataError, match="got 2 tags in sentence 2 but predictions for 1"):
        word_accuracy([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(DataError, match="1 sentences"):
        entity_metrics([[]], [])
