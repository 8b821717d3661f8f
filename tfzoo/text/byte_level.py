"""Byte-level BPE (Radford et al. 2019) inside a TensorFlow graph, with the ids of the `tokenizers` package.

Two substitutions with RE2 mark the words of a text; a SentencePiece model made from the vocabulary then merges their
bytes. RE2 has no lookahead and an older Unicode version than `tokenizers`, so character classes are written as ranges,
found with that package, and `\\s+(?!\\S)` is replaced by a cut before the last whitespace character of a run.

tf-text's NFC (for Qwen2) is that of Unicode 10: combining marks added to Unicode since 2018 do not change places with
others, and the 21 characters composed since then are not composed, whereas `tokenizers` knows those of Unicode 16.

SentencePiece merges two neighbors if their concatenation is a piece, the `tokenizers` package if they are a listed
pair. Both have the same result if the pieces are exactly the tokens that the merges make of their own text: as long as
no merge crosses the edges of such a text, its merges are those of the text alone, and they end in one pair only, whose
rank is the piece's score.
"""
import functools
import itertools
import re
import typing
import unicodedata

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from tfzoo.errors import ConfigError, shown
from tfzoo.text.tokenizer import as_strings, as_texts
from tfzoo.text.wordpiece import POINTS

_LAST = r"|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+" + _LAST
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          + _LAST)
QWEN2 = LLAMA3.replace("{1,3}", "")
_LEAD, _UPPER, _LOWER = r"[^\r\n\p{L}\p{N}]?", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+"
          + _LAST)  # Mistral NeMo's
# pattern -> the whitespace that never ends a cut run: \s*[\r\n]+ makes a word of a run up to its last line break.
PATTERNS = {GPT2: "", LLAMA3: "\r\n", QWEN2: "\r\n", TEKKEN: "\r\n"}
SPLITS = (("Isolated", False), ("Removed", True))  # the same for a pattern that every character matches
ATOM = re.compile(r"\\s|\\p\{\w+\}")
BEGIN, END, UNKNOWN = "\u27e6", "\u27e7", "<unk>"  # the pieces around words; GPT-2's alphabet of bytes has none of them
OPEN, CUT = b"\xfe", b"\xff"  # bytes that UTF-8 never has: neither texts nor RE2's classes contain them
ADDED = "\U0010ffff".encode()  # before an added token: text that becomes equal to it later is none
LITERALS = 1000  # more added tokens than these would exceed the memory that RE2 has for a pattern


class Plan(typing.NamedTuple):
    """What a tokenizer.json does to a text before its merges.

    Attributes:
        pattern: str, one of PATTERNS, which splits a text into words.
        digits: str, "", "D" (a digit is a word) or "D+" (a run of digits is a word).
        prefix: bool, whether to add a space before a text.
        normalized: bool, whether texts are normalized to NFC.
        literals: two lists of str, the added tokens to find in a text before and after it is normalized.
    """

    pattern: str
    digits: str
    prefix: bool
    normalized: bool
    literals: tuple


def plan_of(state):
    """Return how a graph encodes as a tokenizer.json does.

    Args:
        state: dict, the content of tokenizer.json, in which only those added tokens are special that are text if a text
            spells them.

    Returns:
        Plan.

    Raises:
        ConfigError: if a graph cannot do it; the message is the reason, to follow "... cannot run in a SavedModel: ".
    """
    model, normalizer = state["model"], (state.get("normalizer") or {}).get("type")
    splitter = state.get("pre_tokenizer") or {}
    steps = splitter.get("pretokenizers") or [splitter]
    if model.get("type") != "BPE" or steps[-1].get("type") != "ByteLevel":
        raise ConfigError(f"only byte-level BPE can; its model is {model.get('type')} without bytes as letters")
    if normalizer not in (None, "NFC"):
        raise ConfigError(f"its normalizer is {normalizer}; NFC or none can")
    for option in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise ConfigError(f"its model has {option} {shown(model[option])}")
    missing = [letter for letter in alphabet() if letter not in model["vocab"]]
    if missing and (model.get("unk_token") or model.get("ignore_merges")):
        raise ConfigError(f"its vocabulary lacks {len(missing)} of 256 bytes")
    return Plan(*_splitting(steps), normalizer == "NFC", _literals(state))


def _splitting(steps):
    # The pattern, the digits and the prefix of a list of pre-tokenizers, of which the last is ByteLevel.
    *first, last = steps
    patterns = [GPT2] if last.get("use_regex", True) else []
    digits, blank = "", bool(last.get("add_prefix_space"))
    for number, step in enumerate(first):
        kind = step.get("type")
        if kind == "Digits" and number == 0:
            digits = "D" if step.get("individual_digits") else "D+"
        elif kind == "Split" and (step.get("behavior"), bool(step.get("invert"))) in SPLITS and not digits:
            patterns.append((step.get("pattern") or {}).get("Regex"))
        else:
            raise ConfigError(f"its pre-tokenizer has the step {shown(step)}")
    if len(patterns) != 1 or patterns[0] not in PATTERNS:
        raise ConfigError(f"it splits texts by {shown(patterns) if patterns else 'no pattern'}; only the patterns of "
                          "GPT-2, Llama 3, Qwen2 and Mistral NeMo are supported there")
    if blank and first:
        raise ConfigError("it adds a space before every part of a text")
    return patterns[0], digits, blank


def _literals(state):
    added = {token["content"]: token for token in state.get("added_tokens") or ()}
    groups = [[], [], []]  # found before and after normalization, and text
    nfc = bool(state.get("normalizer"))
    for content, token in added.items():
        groups[2 if token.get("special") else int(bool(token.get("normalized")))].append(content)
        flags = [flag for flag in ("lstrip", "rstrip", "single_word") if token.get(flag) and not token.get("special")]
        if flags:
            raise ConfigError(f"the added token {shown(content)} has {' and '.join(flags)}")
        if re.search(r"\s\s\S", content) or (nfc and unicodedata.normalize("NFC", content) != content):
            raise ConfigError(f"the added token {shown(content)} has two spaces before a letter, or is not NFC")
    for one, other in itertools.permutations(groups, 2):
        for pair in itertools.product(one, other):
            if _overlap(*pair):
                raise ConfigError(f"the added tokens {shown(pair[0])} and {shown(pair[1])} overlap")
    if sum(map(len, groups[:2])) > LITERALS:
        raise ConfigError(f"it adds more than {LITERALS:,} tokens")
    return [sorted(group, key=len, reverse=True) for group in (groups[:2] if nfc else [groups[0] + groups[1], []])]


def _overlap(one, other):
    # Whether a text may contain `one` where `other` begins, so that finding one hides the other.
    return other in one or any(one.endswith(other[:size]) for size in range(1, min(len(one), len(other))))


@functools.cache
def alphabet():
    """Return the letter that stands for each byte in GPT-2's vocabulary: list of 256 str."""
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = itertools.count(256)
    return [chr(byte if byte in own else next(others)) for byte in range(256)]


@functools.cache
def _members(kind):
    # The code points of a class of `tokenizers`, bool [1114112]; "D" are the digits of its Digits pre-tokenizer.
    from tokenizers import Regex, normalizers, pre_tokenizers
    points = "".join(map(chr, POINTS))
    if kind == "D":
        runs = [run for run, _ in pre_tokenizers.Digits(individual_digits=False).pre_tokenize_str(points)]
        found = "".join(runs[1::2])  # the first run, which begins with NUL, is none of digits
    else:
        found = normalizers.Replace(Regex(f"[^{kind}]+"), "").normalize_str(points)
    members = np.zeros(0x110000, bool)
    members[[ord(character) for character in found]] = True
    return members


def _ranges(members):
    edges = np.flatnonzero(np.diff(np.concatenate([[False], members, [False]]).astype(np.int8)))
    return "".join(rf"\x{{{first:x}}}-\x{{{end - 1:x}}}" for first, end in edges.reshape(-1, 2))


def _class_of(members):
    return f"[{_ranges(members)}]" if members.any() else r"[^\x00-\x{10ffff}]"


def _patterns(plan):
    # The pattern of the cut before the last whitespace of a run, and the pattern of words, for RE2.
    digits = _members("D") if plan.digits else np.zeros(0x110000, bool)
    blank = _members(r"\s")
    tail = blank.copy()
    tail[[ord(character) for character in PATTERNS[plan.pattern]]] = False

    def spelled(match):
        if match[0][0] == "[":
            inside = ATOM.sub(lambda atom: _ranges(_members(atom[0])), match[0][1:-1])
            return f"[{inside}{_ranges(digits) if inside[0] == '^' else ''}]"
        return _class_of(_members(match[0]) & ~digits)

    words = re.sub(r"\[[^\]]*\]|" + ATOM.pattern, spelled, plan.pattern.replace(_LAST, r"|\s+"))
    if plan.digits:
        words = f"{plan.digits.replace('D', _class_of(digits))}|{words}"
    return f"({_class_of(tail)})({_class_of(tail)})({_class_of(~(blank | digits))})", words


def _any_of(literals):
    return "|".join("".join(rf"\x{{{ord(character):x}}}" for character in literal) for literal in literals)


def _ranks(vocabulary, merges):
    # The rank of the merge that makes each token, for the tokens that the merges make of their own text.
    from tokenizers import Tokenizer, models
    ranks = {tuple(merge): rank for rank, merge in enumerate(merges)}
    backend = Tokenizer(models.BPE(vocabulary, list(ranks)))
    tokens = [token for token in vocabulary if token]
    encoded = backend.encode_batch_fast(tokens, add_special_tokens=False)
    made = {token for token, encoding in zip(tokens, encoded) if encoding.ids == [vocabulary[token]]}
    found, before, apart = {token: 0 for token in made if len(token) == 1}, None, set()
    for (one, other), rank in ranks.items():
        token = one + other
        if token in found and token != before:
            apart.add(token)
        if token in made:
            found.setdefault(token, rank)
        before = token
    return {**found, **{token: _rank_of(token, ranks) for token in apart if len(token) > 1}}


def _rank_of(token, ranks):
    parts = list(token)
    while True:
        rank, place = min((ranks.get(pair, len(ranks)), place) for place, pair in enumerate(zip(parts, parts[1:])))
        if len(parts) == 2:
            return rank
        parts[place:place + 2] = ["".join(parts[place:place + 2])]


def encode_by(texts, outside, inside):
    """Encode texts with the `tokenizers` package, or inside a graph with TensorFlow ops.

    Args:
        texts: see `Tokenizer.encode`.
        outside: callable that maps a list of str to a list of `tokenizers.Encoding`.
        inside: callable that maps a symbolic tf.string [B] to a RaggedTensor int32 [B, None].

    Returns:
        RaggedTensor int32 [B, None].
    """
    if tf.is_tensor(texts) and not tf.executing_eagerly():
        return inside(texts)
    rows = [np.asarray(encoding.ids, np.int32) for encoding in outside(as_texts(texts))]
    return tf.RaggedTensor.from_row_lengths(np.concatenate([np.zeros(0, np.int32), *rows]),
                                            np.array([len(row) for row in rows], np.int64))


class ByteLevelEncoder:
    """Encode texts inside a graph as a byte-level tokenizer.json does.

    Args:
        state: dict, the content of tokenizer.json, as for `plan_of`.

    Raises:
        ConfigError: if `plan_of` does.
    """

    def __init__(self, state):
        self.plan, model = plan_of(state), state["model"]
        vocabulary, letters = model["vocab"], alphabet()
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        ranks = _ranks(vocabulary, merges)
        whole = {token: number for token, number in vocabulary.items() if token not in ranks} \
            if model.get("ignore_merges") else {}  # tokens that the merges do not make, but a word equal to them
        spelled = {"".join(letters[byte] for byte in ADDED + token["content"].encode()): token["id"]
                   for token in state.get("added_tokens") or () if not token["special"]}
        rows = [(UNKNOWN, 0, "UNKNOWN", -1), (BEGIN, 0, "NORMAL", -1), (END, 0, "NORMAL", -1)]
        rows += [(token, -rank, "NORMAL", vocabulary[token]) for token, rank in ranks.items()]
        rows += [(f"{BEGIN}{token}{END}", 0, "USER_DEFINED", number) for token, number in {**whole, **spelled}.items()]
        points = [ord(letter) if letter in vocabulary or spelled else -1 for letter in letters]
        points[OPEN[0]], points[CUT[0]] = ord(BEGIN), ord(END)
        self._open = OPEN if whole or spelled else b""  # only these pieces need the beginning of a word
        self._points, self._ids = np.array(points, np.int32), np.array([row[3] for row in rows], np.int32)
        self._cut, self._words = _patterns(self.plan)
        with tf.init_scope():
            self.resource = tf_text.SentencepieceTokenizer(_model_of(rows), out_type=tf.int32)

    def encode(self, texts, prefix=False):
        """Encode texts without special tokens.

        Args:
            texts: tf.string [B].
            prefix: bool, whether to add a space before each text, even if the tokenizer.json does not.

        Returns:
            RaggedTensor int32 [B, None].
        """
        texts = tf.strings.unicode_transcode(as_strings(texts), "UTF-8", "UTF-8", errors="replace")
        texts = self._marked(texts, prefix or self.plan.prefix)
        texts = tf.strings.regex_replace(texts, self._cut, b"\\1" + CUT + b"\\2\\3")
        literals = _any_of(sorted(sum(self.plan.literals, []), key=len, reverse=True))
        words = rf"\x{{10ffff}}(?:{literals})|{self._words}" if literals else self._words
        texts = tf.strings.regex_replace(texts, words, self._open + b"\\0" + CUT)
        values = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8), tf.int32)
        points = tf.RaggedTensor.from_row_lengths(tf.gather(self._points, values), tf.strings.length(texts),
                                                  validate=False)
        letters = tf.strings.unicode_encode(_kept(points) if self._points.min() < 0 else points, "UTF-8")
        pieces = self.resource.tokenize(letters)
        return _kept(pieces.with_flat_values(tf.gather(self._ids, pieces.flat_values)))

    def _marked(self, texts, prefix):
        # Put cuts around added tokens; normalize what is outside them, and put the space before it.
        for literals, normalizes in zip(self.plan.literals, (self.plan.normalized, False)):
            if literals:
                texts = tf.strings.regex_replace(texts, _any_of(literals), CUT + ADDED + b"\\0" + CUT)
            if normalizes:
                texts = _outside(texts, lambda parts: tf_text.normalize_utf8(parts, "NFC"))
        return _outside(texts, _prefixed) if prefix else texts


def _outside(texts, change):
    parts = tf.strings.split(texts, CUT)  # text, added token, text ...
    place = tf.ragged.range(parts.row_lengths()).flat_values
    parts = parts.with_flat_values(tf.where(place % 2 == 1, parts.flat_values, change(parts.flat_values)))
    return tf.strings.reduce_join(parts + CUT, axis=1)  # its `separator` is omitted after empty strings


def _prefixed(texts):
    lead = tf.strings.substr(texts, 0, 1)
    return tf.where((lead == "") | (lead == " "), texts, " " + texts)


def _kept(rows):
    kept = rows.flat_values >= 0
    lengths = tf.reduce_sum(rows.with_flat_values(tf.cast(kept, tf.int64)), axis=1)
    return tf.RaggedTensor.from_row_lengths(tf.boolean_mask(rows.flat_values, kept), lengths, validate=False)


def _model_of(rows):
    # A serialized SentencePiece model of rows of piece, score, type and id.
    from sentencepiece import sentencepiece_model_pb2
    model = sentencepiece_model_pb2.ModelProto()
    model.trainer_spec.model_type = model.trainer_spec.BPE
    model.trainer_spec.vocab_size = len(rows)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = False
    for piece, score, kind, _ in rows:
        model.pieces.add(piece=piece, score=score, type=getattr(model.SentencePiece, kind))
    return model.SerializeToString()
