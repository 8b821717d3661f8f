"""Entities as read by conlleval: difficult sequences, all schemes, and tags that are not entity tags."""
import doctest

import pytest

from tests.records.conlleval import SCHEMES, chunks, random_sentences
from tfzoo.errors import DataError
from tfzoo.records import tags
from tfzoo.records.tags import (are_entities, entities, labels_of, strict_entities, tags_of, to_iob2, to_scheme,
                                types_of)


def test_examples():
    assert doctest.testmod(tags).attempted and not doctest.testmod(tags).failed


# Results of seqeval 1.2.2 in its default mode, which equals conlleval; strict modes find fewer entities.
@pytest.mark.parametrize("sentence, expected", [
    ("O I-PER", [("PER", 1, 2)]),
    ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
    ("B-PER I-LOC I-PER", [("PER", 0, 1), ("LOC", 1, 2), ("PER", 2, 3)]),
    ("I-PER I-PER B-PER", [("PER", 0, 2), ("PER", 2, 3)]),
    ("I-ORG I-ORG I-LOC", [("ORG", 0, 2), ("LOC", 2, 3)]),
    ("B-PER I-PER O", [("PER", 0, 2)]), ("I-PER E-PER", [("PER", 0, 2)]),
    ("I-PER B-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
    ("B-PER E-PER B-PER", [("PER", 0, 2), ("PER", 2, 3)]), ("S-PER S-PER", [("PER", 0, 1), ("PER", 1, 2)]),
    ("B-PER L-PER U-PER", [("PER", 0, 2), ("PER", 2, 3)]),
    ("B-creative-work I-creative-work", [("creative-work", 0, 2)]), ("B-a-b I-a-c", [("a-b", 0, 1), ("a-c", 1, 2)]),
    ("B I O I", [("", 0, 2), ("", 3, 4)]), ("", [])])
def test_hard_sequences(sentence, expected):
    assert entities(sentence.split()) == expected
    assert entities(to_iob2(sentence.split())) == expected


# Results of seqeval 1.2.2 with mode="strict" and scheme=IOB2 or IOBES.
@pytest.mark.parametrize("ends, sentence, expected", [
    (False, "O I-PER", []), (False, "B-PER I-LOC", [("PER", 0, 1)]), (False, "B-PER I-LOC I-PER", [("PER", 0, 1)]),
    (False, "I-PER I-PER B-PER", [("PER", 2, 3)]), (False, "I-ORG I-ORG I-LOC", []),
    (False, "B-PER I-PER B-PER O", [("PER", 0, 2), ("PER", 2, 3)]), (False, "", []),
    (True, "B-PER I-PER O", []), (True, "I-PER E-PER", []), (True, "B-PER I-PER E-PER", [("PER", 0, 3)]),
    (True, "B-PER E-LOC", []), (True, "S-PER E-PER S-LOC", [("PER", 0, 1), ("LOC", 2, 3)]), (True, "B-PER", []),
    (True, "B-PER B-PER L-PER U-PER", [("PER", 1, 3), ("PER", 3, 4)])])
def test_strict_entities(ends, sentence, expected):
    assert strict_entities(sentence.split(), ends) == expected


def test_entities_are_written_in_the_scheme_of_the_labels():
    tags = "B-PER B-PER I-PER I-PER O B-LOC".split()
    assert to_scheme(tags, ["O", "B-PER", "I-PER", "E-PER", "S-PER"]) == "S-PER B-PER I-PER E-PER O S-LOC".split()
    assert to_scheme(tags, ["O", "B-PER", "I-PER", "L-PER", "U-PER"]) == "U-PER B-PER I-PER L-PER O U-LOC".split()
    assert to_scheme(tags, ["O", "B-X", "M-X", "E-X", "S-X"]) == "S-PER B-PER M-PER E-PER O S-LOC".split()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_2000_random_sentences_of_a_scheme(scheme):
    for sentence in random_sentences(scheme, 2000, 0):
        found = entities(sentence)
        assert set(found) == chunks(sentence) and found == sorted(found, key=lambda entity: entity[1])
        again = to_iob2(sentence)
        assert len(again) == len(sentence) and set(map(lambda tag: tag[0], again)) <= set("BIO")
        assert entities(again) == found and to_iob2(again) == again


def test_iob1_keeps_its_b_between_entities_that_touch():
    assert to_iob2("I-PER I-PER B-PER O I-LOC".split()) == "B-PER I-PER B-PER O B-LOC".split()


def test_what_are_tags_of_entities():
    assert are_entities({"O", "I-PER"}) and are_entities({"B-PER", "I-PER"}) and are_entities({"O"})
    assert are_entities({"B", "I", "O"}) and are_entities({"B", "M", "E", "S"})
    for classes in ({"NOUN", "ADJ", "X"}, {"O", "NOUN"}, {"PRP$", "-LRB-", ","}, {"O", "S"}, {"I", "O"}, set(),
                    {"PERSON", "O"}, {"S-adj", "noun"}, {"B-"}, {"1", "0"}):
        assert are_entities(classes) is False, classes
    with pytest.raises(DataError, match="'B_LOC' is mixed with entity tags such as 'B-PER'.*expected O, or"):
        are_entities({"O", "B-PER", "B_LOC"})
    with pytest.raises(DataError, match="'NOUN'.*expected O, or one of"):
        entities(["O", "NOUN"])


def test_labels_do_not_depend_on_the_order_or_scheme():
    expected = ["O", "B-LOC", "I-LOC", "B-a-b", "I-a-b"]
    for found in (["O", "B-LOC", "I-LOC", "I-a-b"], ["S-a-b", "B-LOC", "E-LOC", "O"], expected, expected[::-1]):
        assert labels_of(found) == expected
    assert labels_of(["I-a-b", "I-LOC", "O"]) == labels_of(["M-a-b", "O", "M-LOC"]) == ["O", "I-LOC", "I-a-b"]  # IO
    many = [f"B-{kind}" for kind in "jihgfedcba"]  # too many for a set to be in order by chance
    assert labels_of(["O", *many])[1::2] == [f"B-{kind}" for kind in "abcdefghij"]
    assert labels_of(["VERB", "ADJ"]) == ["ADJ", "VERB"] and labels_of("IOB") == ["O", "B", "I"]
    assert types_of(expected) == ["LOC", "a-b"]


@pytest.mark.parametrize("tags, in_io, in_iob2", [
    ("B-A I-A O B-A", "I-A I-A O I-A", "B-A I-A O B-A"), ("I-A I-A O I-B", "I-A I-A O I-B", "B-A I-A O B-B"),
    ("S-A S-A", "I-A I-A", "B-A B-A"), ("B I O", "I I O", "B I O")])
def test_tags_are_put_into_the_scheme_of_labels(tags, in_io, in_iob2):
    assert to_scheme(tags.split(), ["O", "I-A", "I-B"]) == in_io.split()
    assert to_scheme(tags.split(), ["O", "B-A", "I-A"]) == in_iob2.split()


@pytest.mark.parametrize("found", [[("A", 0, 2), ("B", 1, 3)], [("A", 1, 1)], [("A", -1, 1)], [("A", 2, 4)]])
def test_entities_that_no_tags_can_spell_are_refused(found):
    with pytest.raises(DataError, match="entities must .* and not overlap"):
        tags_of(found, 3)


@pytest.mark.parametrize("tags", [["O", "PER-B", "PER-I"], ["O", "B_PER", "I_PER"], ["o", "b-per"], ["O", "LOC_S"],
                                  ["O", "B-", "I-"], ["o", "b-", "i-"]])  # the last as in explosion/spaCy#4385
def test_tags_of_entities_in_another_spelling_are_refused(tags):
    with pytest.raises(DataError, match="looks like a misspelled entity tag: expected O, or one of B E I"):
        are_entities(tags)


@pytest.mark.parametrize("tags", [["PER-B", "PER-I"], ["O", "NN_S", "VERB"], ["O", "X"], ["o", "NOUN"], ["a-b", "O"]])
def test_classes_stay_classes(tags):
    assert not are_entities(tags)
