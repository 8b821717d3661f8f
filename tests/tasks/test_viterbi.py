"""Viterbi decoding against an exhaustive search."""
import itertools

import numpy as np
import pytest

from tfzoo.records.tags import strict_entities, transitions
from tfzoo.records.viterbi import decode, penalties
from tfzoo.tasks.viterbi import viterbi

LABELS = {"IOB2": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"], "BIOES": ["O", "B-X", "I-X", "E-X", "S-X", "S-Y"],
          "IO": ["O", "I-LOC", "I-PER"], "classes": ["ADJ", "NOUN", "VERB"]}


@pytest.mark.parametrize("scheme", LABELS)
def test_the_best_of_all_sequences_is_found(scheme):
    labels, rng = LABELS[scheme], np.random.default_rng(0)
    allowed = transitions(labels)
    start, between, end = penalties(allowed)
    lengths = np.array([3, 0, 1, 5, 2, 4, 4, 1, 5])
    scores = np.log(rng.dirichlet(np.full(len(labels), 0.3), lengths.sum()) + 1e-9).astype(np.float32)
    found = np.split(decode(scores, lengths, allowed), np.cumsum(lengths)[:-1])
    for size, ids, part in zip(lengths, found, np.split(scores, np.cumsum(lengths)[:-1])):
        def total(path):
            return (start[path[0]] + end[path[-1]] + sum(part[word, label] for word, label in enumerate(path))
                    + sum(between[one, two] for one, two in itertools.pairwise(path)))
        if size:
            best = max(itertools.product(range(len(labels)), repeat=size), key=total)
            assert total(tuple(ids)) == pytest.approx(total(best), abs=1e-5)
            assert total(best) > -1e5
    if scheme in ("IO", "classes"):
        assert np.array_equal(np.concatenate(found), scores.argmax(1))


def test_the_graph_finds_the_same_sequences_in_200_random_settings():
    rng = np.random.default_rng(2)
    for _ in range(200):
        labels = rng.integers(1, 7)
        allowed = rng.random(labels) < 0.8, rng.random((labels, labels)) < 0.8, rng.random(labels) < 0.8
        lengths = rng.integers(0, 9, rng.integers(1, 6))
        scores = np.log(rng.dirichlet(np.full(labels, 0.5), (len(lengths), 9)) + 1e-9).astype(np.float32)
        inside = np.arange(9) < lengths[:, None]
        graph = viterbi(scores, lengths.astype(np.int32), *penalties(allowed)).numpy()
        assert np.array_equal(decode(scores[inside], lengths, allowed), graph[inside])


def test_transitions_allow_what_strict_scoring_accepts():
    for scheme in ("IOB2", "BIOES"):
        labels = LABELS[scheme]
        start, between, end = transitions(labels)
        for path in itertools.product(range(len(labels)), repeat=4):
            tags = [labels[number] for number in path]
            covered = {place for _, first, stop in strict_entities(tags, scheme == "BIOES")
                       for place in range(first, stop)}
            valid = covered == {place for place, tag in enumerate(tags) if tag != "O"}
            allowed = start[path[0]] and end[path[-1]] and all(between[pair] for pair in itertools.pairwise(path))
            if scheme == "IOB2" or "S-Y" not in tags:
                assert valid == allowed, tags


def test_labels_that_the_rules_leave_unreachable_stay_free():
    start, between, _ = transitions(["O", "B-PER", "I-PER", "I-LOC"])  # no entity of LOC could begin
    assert start.tolist() == [True, True, False, True] and between[0].tolist() == [True, True, False, True]


def test_a_long_sentence_is_as_exact_as_a_short_one():
    labels, rng = LABELS["IOB2"], np.random.default_rng(1)
    part = (-8 + 1e-3 * rng.standard_normal((50, 5))).astype(np.float32)  # almost ties
    part[-1] = [0, -50, -50, -50, -50]  # O, so that copies of the sentence do not influence each other
    once = decode(part, np.array([50]), transitions(labels))
    many = decode(np.tile(part, (400, 1)), np.array([20000]), transitions(labels))
    assert np.array_equal(np.tile(once, 400), many)
