"""Byte-level BPE inside a graph against the `tokenizers` package: merges, added tokens, long words, and refusals."""
import json
import time

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from tests.text.kinds import CONTRACTIONS, REST, spliced_texts
from tfzoo.errors import ConfigError
from tfzoo.text import learn_tokenizer
from tfzoo.text.byte_level import ByteLevelEncoder, alphabet
from tfzoo.text.package import PackageTokenizer

SPLITTERS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False), "blank": pre_tokenizers.ByteLevel(add_prefix_space=True),
    **{name: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CONTRACTIONS + digits + REST), "isolated"),
                                      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
       for name, digits in (("llama3", r"\p{N}{1,3}"), ("qwen2", r"\p{N}"))},
    **{name: pre_tokenizers.Sequence([pre_tokenizers.Digits(single), pre_tokenizers.ByteLevel(add_prefix_space=False)])
       for name, single in (("digit", True), ("number", False))}}
BYTES = {letter: number for number, letter in enumerate(alphabet())}


def package(splitter, added=(), normalizer=None, **settings):
    vocabulary = {**BYTES, "</s>": 256, "ab": 257, "\u0120a": 258}
    settings.setdefault("vocab", vocabulary)
    backend = Tokenizer(models.BPE(**{"merges": [("a", "b"), ("\u0120", "a")], **settings}))
    backend.pre_tokenizer = splitter
    if normalizer:
        backend.normalizer = normalizer
    for token in added:
        backend.add_tokens([token])
    return PackageTokenizer(backend.to_str(), {"eos_token": "</s>"})


def same(tokenizer, texts):
    for encode in (tokenizer.encode, tokenizer.word_pieces):
        got, wanted = tf.function(encode, autograph=False)(tf.constant(texts)).to_list(), encode(texts).to_list()
        assert len(got) == len(wanted) == len(texts)
        for text, one, other in zip(texts, got, wanted):
            assert one == other, text


def random_merges(rng):
    # Any merges, in any order: tokens with several splits, and tokens that the merges never make.
    letters = list("ab" if rng.random() < 0.8 else "abc")
    vocabulary, merges, tokens = dict(BYTES), [], list(letters)
    for _ in range(rng.integers(3, 14)):
        pair = tuple(map(str, rng.choice(tokens, 2)))
        if pair not in merges and len("".join(pair)) < 7:
            merges.append(pair)
            if "".join(pair) not in vocabulary:
                vocabulary["".join(pair)] = len(vocabulary)
                tokens.append("".join(pair))
    for token in ("abca", "bb", "cab"):
        vocabulary.setdefault(token, len(vocabulary))
    return letters, vocabulary, [merges[place] for place in rng.permutation(len(merges))]


@pytest.mark.parametrize("seed", range(3))
def test_merges_of_any_kind(seed):
    rng, splits = np.random.default_rng(seed), 0
    for trial in range(20):
        letters, vocabulary, merges = random_merges(rng)
        splits += len(merges) - len(set(map("".join, merges)))
        backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=trial % 2 > 0))
        backend.pre_tokenizer = SPLITTERS["gpt2"]
        texts = ["".join(rng.choice(letters + [" "] * (trial % 3), rng.integers(1, 12))) for _ in range(60)]
        texts += list(vocabulary)[256:]
        ids = ByteLevelEncoder(json.loads(backend.to_str())).encode(tf.constant(texts)).to_list()
        for text, got, encoding in zip(texts, ids, backend.encode_batch(texts), strict=True):
            assert got == encoding.ids, (text, merges)
    assert splits  # tokens that two merges make


def test_a_token_with_two_splits_has_the_rank_of_the_one_that_is_used():
    merges = [("a", "bc"), ("a", "b"), ("b", "c"), ("c", "a"), ("ab", "c")]  # abc is never made of a and bc
    vocabulary = {**BYTES, **{token: 256 + number for number, token in enumerate(("ab", "bc", "ca", "abc", "</s>"))}}
    tokenizer = package(SPLITTERS["gpt2"], vocab=vocabulary, merges=merges)
    assert tokenizer.encode(["abca", "abc"]).to_list() == [[256, 258], [259]]
    same(tokenizer, ["abca", "abc", "bca", "abcabc"])


@pytest.mark.parametrize("name", SPLITTERS)
@pytest.mark.parametrize("normalizer", [None, normalizers.NFC()])
def test_added_tokens_are_found_as_by_the_package(name, normalizer):
    contents = ["<e>", "<e2>", "<|x|>", "'s", "1", "\u00e9", "\u4e2d\u6587", "ab"]
    added = [AddedToken(content, normalized=number % 2 > 0) for number, content in enumerate(contents)]
    added += [AddedToken(blanks, normalized=True) for blanks in ("  ", "    ", "\n\n")]
    tokenizer = package(SPLITTERS[name], added, normalizer)
    parts = [*contents, "  ", "    ", "\n", "a", "b", " ", "e", ">", "<", "e\u0301", "\u0301", "12", "</s>", "\u0338"]
    same(tokenizer, spliced_texts(300, parts) + list(map(str.encode, contents)) + [b"", b" ", b"\xff<e>"])


def test_a_byte_without_a_token_is_skipped():
    vocabulary = {"</s>": 0, **{letter: number + 1 for number, letter in enumerate(alphabet()) if letter != "!"}}
    tokenizer = package(SPLITTERS["gpt2"], vocab={**vocabulary, "ab": 257}, merges=[("a", "b")])
    same(tokenizer, [b"a!b a! !b !", b"!", b"", b"x!\xff"])


def test_a_long_word_does_not_take_quadratic_time():
    tokenizer = learn_tokenizer("learn:bpe:600", ["abcab" * 99, "aaaa" * 99] * 9)
    graph, rng, seconds = tf.function(tokenizer.encode), np.random.default_rng(0), []
    graph(tf.constant(["a"]))
    for size in (10 ** 4, 10 ** 5):  # about 0.02 and 0.2 s; with quadratic merging, minutes
        texts = ["a" * size, "".join(rng.choice(list("abc"), size)), " " * size]
        start = time.perf_counter()
        ids = graph(tf.constant(texts))
        seconds.append(time.perf_counter() - start)
        assert ids.to_list() == tokenizer.encode(texts).to_list()
    assert seconds[1] < 10, seconds


def test_the_ops_are_tensorflow_s_or_linked_into_its_server():
    tokenizer = package(SPLITTERS["blank"], [AddedToken("<e>", normalized=True)], normalizers.NFC())
    graph = tf.function(tokenizer.word_pieces, autograph=False).get_concrete_function(tf.TensorSpec([None], tf.string))
    nodes = graph.graph.as_graph_def(add_shapes=False)
    kinds = {node.op for node in [*nodes.node, *(node for one in nodes.library.function for node in one.node_def)]}
    assert kinds - set(dir(tf.raw_ops)) == {"NormalizeUTF8", "SentencepieceTokenizeOp"}  # in tf-text's ops_lib
    assert not any(kind.startswith("Xla") for kind in kinds)


@pytest.mark.parametrize("settings, says", [
    ({"splitter": pre_tokenizers.Whitespace()}, "only byte-level BPE"),
    ({"splitter": pre_tokenizers.ByteLevel(use_regex=False)}, "splits texts by no pattern; only the patterns of GPT-2"),
    ({"splitter": pre_tokenizers.Sequence([pre_tokenizers.Split("a", "isolated"), SPLITTERS["gpt2"]])},
     "splits texts by"),
    ({"splitter": pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), SPLITTERS["gpt2"]])}, "the step .*Punctuat"),
    ({"splitter": pre_tokenizers.Sequence([pre_tokenizers.Digits(), SPLITTERS["blank"]])}, "before every part"),
    ({"normalizer": normalizers.NFKC()}, "its normalizer is NFKC; NFC or none can"),
    ({"vocab": {"a": 0, "b": 1, "ab": 2, "\u0120": 3, "\u0120a": 4, "</s>": 5}, "unk_token": "</s>"},
     "lacks 253 of 256 bytes"),
    ({"continuing_subword_prefix": "#", "merges": []}, "continuing_subword_prefix '#'"),
    ({"added": [AddedToken("<e>", lstrip=True, single_word=True)]}, "'<e>' has lstrip and single_word"),
    ({"added": [AddedToken("a", normalized=True), AddedToken("<a>", normalized=False)]}, "'<a>' and 'a' overlap"),
    ({"added": [AddedToken("a  b")]}, "'a  b' has two spaces before a letter"),
    ({"added": [AddedToken(f"<{number}>") for number in range(1001)]}, "more than 1,000 tokens"),
])
def test_what_a_graph_cannot_do_is_said(settings, says):
    tokenizer = package(**{"splitter": SPLITTERS["gpt2"], **settings})
    assert not tokenizer.in_graph and not tokenizer.resources
    with pytest.raises(ConfigError, match=f"inside a graph .*{says}"):
        tf.function(tokenizer.encode)(tf.constant(["a"]))
    assert tokenizer.encode(["a"]).shape[0] == 1
