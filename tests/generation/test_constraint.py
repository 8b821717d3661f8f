"""Stop strings, regular expressions and choices: texts are what Python's own matching says, whatever the tokens."""
import itertools
import re

import numpy as np
import pytest
import tensorflow as tf

from tests.generation.test_generator import generator_of, model  # noqa: F401
from tfzoo.errors import ConfigError
from tfzoo.generation.constraint import constraint_of

# A vocabulary of 53 tokens in which strings can be written in several ways: bytes, pairs of them, a part of "é", "".
PIECES = [b"", b"", b"", *(bytes([byte]) for byte in b"abcde \xc3\xa9"), *(bytes(pair) for pair in itertools.product(
    b"abcde", repeat=2)), b"abcab", b"ab c", b" a", "\u00e9".encode(), b"e\xc3", *[b"zz"] * 12]
END = 2


def allowed(constraint, tokens):
    """Return whether the constraint allows these tokens, the state after them and whether the text ends there."""
    state, final = 0, False
    for token in tokens:
        if final or constraint.moves[state, constraint.classes[token]] < 0:
            return False, state, final
        state = constraint.moves[state, constraint.classes[token]]
        final = constraint.final[state]
    return True, state, final


def rows(count, most, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(3, len(PIECES), rng.integers(1, most)).tolist() for _ in range(count)]


def text(tokens):
    return b"".join(PIECES[token] for token in tokens)


def test_a_text_ends_with_the_first_token_that_completes_a_stop_string():
    stops = ("abca", "cc", "\u00e9e")
    constraint, ended = constraint_of(PIECES, stop=stops), 0
    for tokens in rows(3000, 9):
        for size in range(1, len(tokens) + 1):
            done = any(stop.encode() in text(tokens[:size]) for stop in stops)
            possible, _, final = allowed(constraint, tokens[:size])
            assert possible and final == done, tokens[:size]
            ended += done
            if done:
                break
    assert ended > 100 and constraint.may_end.all()


def prefixes(pattern, longest):
    """Return all byte strings up to this length that match, and those that begin a match of up to this length."""
    letters = [bytes([byte]) for byte in b"abcde \xc3\xa9"]
    matches = {whole for size in range(longest + 1) for whole in map(b"".join, itertools.product(letters, repeat=size))
               if _matches(pattern, whole)}
    return matches, {whole[:end] for whole in matches for end in range(len(whole) + 1)}


def _matches(pattern, whole):
    try:
        return re.fullmatch(pattern, whole.decode()) is not None
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize("pattern", ["(ab)+c?", "a{2,3}|\u00e9+b", "[^ab]c[de]?"])
def test_tokens_are_allowed_exactly_if_they_begin_a_match(pattern):
    pytest.importorskip("interegular")
    matches, begins = prefixes(pattern, 6)
    constraint, seen = constraint_of([piece if set(piece) <= set(b"abcde \xc3\xa9") else b"" for piece in PIECES],
                                     regex=pattern), set()
    tried = [[token] for token in range(3, 41)]
    while tried:
        tokens = tried.pop()
        if len(text(tokens)) > 4:
            continue
        possible, state, _ = allowed(constraint, tokens[:-1])
        possible = possible and constraint.moves[state, constraint.classes[tokens[-1]]] >= 0
        assert possible == (text(tokens) in begins), tokens
        if possible:
            state = constraint.moves[state, constraint.classes[tokens[-1]]]
            assert constraint.may_end[state] == (text(tokens) in matches), tokens
            seen.add(text(tokens))
            tried += [[*tokens, token] for token in range(3, 41)]
    assert len(seen) > 3


@pytest.mark.parametrize("pattern", ["[^\u00e9\u4e2d]+", ".{2}\u00e9?", "(\U0001f600|\u00f1a?)*",
                                     "[\u4e00-\u4e40]+x|\\w+"])
def test_characters_of_several_bytes_match_as_in_python(pattern):
    pytest.importorskip("interegular")
    constraint = constraint_of([b"", *(bytes([byte]) for byte in range(256))], regex=pattern)
    rng, right = np.random.default_rng(0), 0
    letters = "axé\u00f1\u4e2d\u4e00\U0001f600\ud7ff\ue000\ufffd\n\u0800\U0010ffff"
    for _ in range(2000):
        whole = "".join(letters[number] for number in rng.integers(0, len(letters), rng.integers(1, 4)))
        possible, state, _ = allowed(constraint, [1 + byte for byte in whole.encode()])
        matched = re.fullmatch(pattern, whole, re.ASCII) is not None
        assert (possible and bool(constraint.may_end[state])) == matched, whole
        right += matched
    assert right > 5
    for wrong in (b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80"):
        assert not allowed(constraint, [1 + byte for byte in wrong])[0]  # not UTF-8


@pytest.mark.parametrize("options", [{"temperature": 1.0}, {"num_beams": 3}, {"temperature": 0.7, "num_beams": 2}])
def test_what_is_generated_is_a_choice_and_stops(model, options):  # noqa: F811
    choices = ("abc", "ab c", "cab\u00e9", "cab")
    constraint = constraint_of(PIECES, choices=choices)
    drawn = generator_of(model, 12, (END,), constraint=constraint, **options).generate([[5, 6], [7], [9, 9]])
    for row, length in zip(drawn.token_ids, drawn.lengths):
        ended = row[length - 1] == END
        assert text(row[:length - ended]).decode() in choices
    assert len({tuple(row) for row in drawn.token_ids.tolist()}) > 1
    both = constraint_of(PIECES, choices=choices, stop=("ca",))
    drawn = generator_of(model, 12, (END,), constraint=both, **options).generate([[5, 6], [7], [9, 9]])
    for row, length in zip(drawn.token_ids, drawn.lengths):
        found = text(row[:length - (row[length - 1] == END)]).decode(errors="ignore")
        assert found in choices or "ca" in found and "cab\u00e9".startswith(found)


def test_a_text_that_begins_with_a_space_is_the_choice_as_well():
    constraint = constraint_of(PIECES, choices=("ab",), spaced=True)
    for tokens, right in (([PIECES.index(b" a"), PIECES.index(b"b")], True), ([PIECES.index(b"ab")], True),
                          ([PIECES.index(b" "), PIECES.index(b" a")], False)):
        possible, state, _ = allowed(constraint, tokens)
        assert possible == right and (not right or constraint.may_end[state])


@pytest.mark.parametrize("given, says", [
    ({"stop": ("",)}, "must not be empty"), ({"regex": "a", "choices": ("b",)}, "exclude each other"),
    ({"regex": "(a"}, "cannot be used"), ({"regex": "x"}, "has no tokens"),
    ({"choices": ("ax",)}, "the vocabulary has no tokens")])
def test_what_cannot_be_written_is_refused(given, says):
    pytest.importorskip("interegular")
    with pytest.raises(ConfigError, match=says):
        constraint_of(PIECES, **given)


def test_the_table_is_the_same_in_a_graph():
    constraint = constraint_of(PIECES, choices=("abc", "cab"))
    logits = tf.zeros([2, len(PIECES)])
    masked = constraint.mask(logits, tf.constant([0, 0]), tf.constant([END])).numpy()
    assert {PIECES[token] for token in np.flatnonzero(masked[0] == 0)} == {b"a", b"ab", b"c", b"ca"}
    after, final = constraint.move(tf.constant([0, 0]), tf.constant([PIECES.index(b"ab"), PIECES.index(b"ca")]))
    assert (constraint.mask(logits, after, tf.constant([END])).numpy() == 0).sum(1).tolist() == [1, 1]
    assert not final.numpy().any()
