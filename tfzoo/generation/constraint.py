"""What a text may contain, and what ends it, as one static table: stop strings, a regular expression, or choices.

The table maps a state and a token to the next state, as in outlines (Willard and Louf 2023, arXiv:2307.09702): automata
over bytes are walked with the bytes of every token, so that a match may begin and end within tokens. Tokens with equal
columns share a class, which keeps the table small.
"""
import functools
import typing

import numpy as np
import tensorflow as tf

from tfzoo.errors import ConfigError, shown
from tfzoo.generation.processors import NEVER

LARGEST, MOST_STATES = 2 ** 27, 10000  # entries of a table over states and tokens; states of an automaton
BYTES = 256


class Constraint(typing.NamedTuple):
    """A constraint on R rows of tokens, all of which begin in state 0.

    Attributes:
        classes: int32 [V], the class of each token.
        moves: int32 [S, C], the next state; -1 for tokens that must not follow.
        final: bool [S], whether a text ends on entering the state.
        may_end: bool [S], whether the end token may follow.
    """

    classes: np.ndarray
    moves: np.ndarray
    final: np.ndarray
    may_end: np.ndarray

    def mask(self, logits, states, end_ids):
        """Set the logits, float32 [R, V], of tokens that must not follow `states`, int32 [R], to -inf, in a graph."""
        allowed = tf.gather(tf.gather(self.moves, states), self.classes, axis=1) >= 0
        ends = tf.reduce_any(tf.one_hot(end_ids, logits.shape[-1], on_value=True, off_value=False), axis=0)
        return tf.where(tf.where(ends, tf.gather(self.may_end, states)[:, None], allowed), logits, NEVER)

    def move(self, states, tokens):
        """Return the states after `tokens`, both int32 of one shape, and bool, whether the texts end there."""
        after = tf.gather_nd(self.moves, tf.stack([states, tf.gather(self.classes, tokens)], axis=-1))
        after = tf.where(after < 0, states, after)  # the end token
        return after, tf.gather(self.final, after)


def _stops(strings):
    # An automaton over bytes (Aho and Corasick 1975): int32 [S, 256], and bool [S], where a string is complete.
    words, prefixes = [text.encode() for text in strings], {b"": 0}
    for word in words:
        for end in range(1, len(word) + 1):
            prefixes.setdefault(word[:end], len(prefixes))
    table = np.zeros((len(prefixes), BYTES), np.int32)
    for prefix, state in prefixes.items():
        for byte in range(BYTES):
            text = prefix + bytes([byte])
            endings = (text[begin:] for begin in range(len(text) + 1))
            table[state, byte] = next(prefixes[ending] for ending in endings if ending in prefixes)
    done = np.array([any(prefix.endswith(word) for word in words) for prefix in prefixes])
    table[done] = np.flatnonzero(done)[:, None]  # what follows a stop string in its token does not matter
    return table, done


def _choices(strings):
    # A tree of the strings' bytes: int32 [S, 256] with -1, and bool [S], where a string is complete.
    states = {b"": 0}
    for text in strings:
        for end in range(1, len(text.encode()) + 1):
            states.setdefault(text.encode()[:end], len(states))
    table = np.full((len(states), BYTES), -1, np.int32)
    for prefix, state in states.items():
        if prefix:
            table[states[prefix[:-1]], prefix[-1]] = state
    return table, np.isin(np.arange(len(states)), [states[text.encode()] for text in strings])


def _walked(table, pieces):
    # int32 [S, V]: the state after each token; -1 where there is none, and for tokens without text.
    if len(table) * len(pieces) > LARGEST:
        raise ConfigError(f"the constraint has {len(table):,} states, too many for a vocabulary of {len(pieces):,} "
                          "tokens: use fewer or shorter strings, or a simpler expression")
    dead = np.vstack([table, np.full((1, BYTES), -1, np.int32)])  # index -1: nothing follows
    found = np.tile(np.arange(len(table), dtype=np.int32)[:, None], (1, len(pieces)))
    lengths = np.array([len(piece) for piece in pieces])
    for place in range(lengths.max(initial=0)):
        at = np.flatnonzero(lengths > place)
        found[:, at] = dead[found[:, at], np.array([pieces[token][place] for token in at])]
    found[:, lengths == 0] = -1
    return found


def _regex(pattern):
    # An automaton over bytes of a regular expression: int32 [S, 256] with -1, and bool [S], where a text matches.
    try:
        import interegular
    except ImportError:
        raise ConfigError("--regex requires the package interegular: pip install \"tfzoo[regex]\"") from None
    try:
        machine = interegular.parse_pattern(pattern).to_fsm().reduce()
    except Exception as error:  # the package raises its own types
        raise ConfigError(f"--regex={shown(pattern)} cannot be used: {type(error).__name__} {error}") from None
    classes, letters = machine.alphabet.by_transition, {}
    for number, symbols in classes.items():
        letters.update({symbol: number for symbol in symbols if isinstance(symbol, str)})
    other = next(number for number, symbols in classes.items() if interegular.fsm.anything_else in symbols)
    begun = {letter.encode()[:end] for letter in letters for end in range(1, len(letter.encode()))}
    nodes, rows = {(machine.initial, b""): 0}, []
    for state, prefix in (todo := list(nodes)):  # (a state, the bytes of a character so far)
        rows.append(np.full(BYTES, -1, np.int32))
        moves = machine.map.get(state, {})
        for byte in range(BYTES):
            node = _next(prefix + bytes([byte]), state, moves, letters, other, begun)
            if node is not None:
                if node not in nodes:
                    nodes[node] = len(nodes)
                    todo.append(node)
                rows[-1][byte] = nodes[node]
        if len(rows) > MOST_STATES:
            raise ConfigError(f"--regex={shown(pattern)} has more than {MOST_STATES:,} states: use a simpler one")
    return np.stack(rows), np.array([not prefix and state in machine.finals for state, prefix in nodes])


def _next(text, state, moves, letters, other, begun):
    # The node after the bytes `text` of a character; None if nothing matches. All unfinished characters of which no
    # listed letter is a part share one node for each number of bytes that is left, named by an example.
    try:
        letter = text.decode()
        after = moves.get(letters.get(letter, other))
        return None if after is None else (after, b"")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data" or error.start:
            return None
    if text in begun:
        return state, text
    left = (2 if text[0] < 0xE0 else 3 if text[0] < 0xF0 else 4) - len(text)
    special = len(text) == 1 and text[0] in b"\xe0\xed\xf0\xf4"  # not every byte may follow these
    alike = () if special else {1: range(0xC2, 0xE0), 2: range(0xE1, 0xED), 3: range(0xF1, 0xF4)}[left]
    example = next((bytes([byte]) for byte in alike if bytes([byte]) not in begun), text)
    return None if moves.get(other) is None else (state, example)


def _pruned(moves, may_end):
    # Forbid what leads to states from which no end can be reached.
    while True:
        alive = may_end | (moves >= 0).any(1)
        dead = (moves >= 0) & ~alive[moves]
        if not dead.any():
            return moves, alive[0]
        moves = np.where(dead, -1, moves)


def _merged(moves, final, may_end):
    columns, classes = np.unique(moves, axis=1, return_inverse=True)
    return Constraint(classes.reshape(-1).astype(np.int32), columns.astype(np.int32), final, may_end)


def _both(one, other):
    # The product of two constraints.
    pairs, classes = np.unique(one.classes.astype(np.int64) * (other.moves.shape[1] + 1) + other.classes,
                               return_inverse=True)
    left, right = np.divmod(pairs, other.moves.shape[1] + 1)
    first, second = one.moves[:, left][:, None], other.moves[:, right][None]
    moves = np.where((first < 0) | (second < 0), -1, first * len(other.moves) + second)
    join = lambda how, each: how(getattr(one, each)[:, None], getattr(other, each)[None]).reshape(-1)  # noqa: E731
    return Constraint(classes.reshape(-1).astype(np.int32), moves.reshape(-1, len(pairs)).astype(np.int32),
                      join(np.logical_or, "final"), join(np.logical_and, "may_end"))


def constraint_of(pieces, stop=(), regex=None, choices=(), spaced=False):
    """Return the Constraint for texts that end with a stop string, match a regular expression, or are a choice.

    Args:
        pieces: list of V bytes, the text of each token (see tfzoo.text.pieces); b"" for special tokens, which are
            forbidden by `regex` and `choices`.
        stop: sequence of str; a text ends with the token that completes one of them, which stays in the text.
        regex: str or None, a regular expression in Python's syntax (as far as the package interegular knows it: no
            back-references; classes such as \\w are ASCII) that the whole text matches.
        choices: sequence of str; the text is one of them.
        spaced: bool, whether a space at the beginning of a text is dropped, so that one may precede the text.

    Returns:
        Constraint, or None if nothing is constrained.

    Raises:
        ConfigError: if a string is empty, both regex and choices are given, the vocabulary cannot write what is
            required, or the table would be too large.
    """
    if not all(isinstance(text, str) and text for text in (*stop, *choices, *(() if regex is None else (regex,)))):
        raise ConfigError("--stop, --choices and --regex must not be empty")
    if regex is not None and choices:
        raise ConfigError("--regex and --choices exclude each other: give one of them")
    found = []
    if stop:
        table, done = _stops(stop)
        found.append((_walked(table, pieces), done, np.ones_like(done)))
        silent = np.array([not piece for piece in pieces])
        found[-1][0][:, silent] = np.arange(len(table))[:, None]  # special tokens add no text
    if choices:
        table, done = _choices([*choices, *(f" {text}" for text in choices if spaced)])
        found.append((_walked(table, pieces), np.zeros_like(done), done))
    if regex is not None:
        table, done = _regex(f" ?({regex})" if spaced else regex)
        found.append((_walked(table, pieces), np.zeros_like(done), done))
    made = []
    for moves, final, may_end in found:
        moves, possible = _pruned(moves, may_end)
        if not possible:
            raise ConfigError("the vocabulary has no tokens for what --regex or --choices requires")
        made.append(_merged(moves, final | ~(moves >= 0).any(1), may_end))
    return functools.reduce(_both, made) if made else None
