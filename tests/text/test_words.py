"""Pre-split sentences are encoded as in transformers, and raw text is split into words with their offsets."""
import doctest
import json

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers

from tests.helpers import CHECKOUT, data_dir, hostile_texts, real_lines, vocab_dir
from tfzoo.data.sentences import SENTENCES
from tfzoo.data.source import open_source
from tfzoo.errors import ConfigError
from tfzoo.text import load_tokenizer, split_words, split_words_in_graph
from tfzoo.text import words as module

GOLDEN = json.loads((CHECKOUT / "tests" / "golden" / "words.json").read_text())
# SentencePiece itself recognizes no special tokens in a text, and keeps U+0085.
NOT_T5_S = {"\x85", "</s>", "<pad>", "<extra_id_0>"}


@pytest.fixture(scope="module", params=["bert_uncased", "bert_cased", "bert_chinese", "gpt2", "t5"])
def published(request):
    return request.param, load_tokenizer(vocab_dir() / request.param)


def test_transformers_ids_of_hostile_words(published):
    name, tokenizer = published
    sentences, golden = GOLDEN["sentences"], GOLDEN[name]
    ours = tokenizer.encode_words(sentences)
    for words, start, end, ids, owners in zip(sentences, ours.starts, ours.ends, golden["token_ids"],
                                              golden["word_ids"], strict=True):
        theirs = [[token for token, owner in zip(ids, owners) if owner == place] for place in range(len(words))]
        for place, word in enumerate(words):
            got = ours.token_ids[start:end][ours.word_ids[start:end] == place].tolist()
            assert got == theirs[place] or (name == "t5" and word in NOT_T5_S), word
    missing = {word for word, first in zip(sum(sentences, []), ours.first) if first < 0}
    if name == "bert_uncased":
        assert missing == {"", " ", "\t", "\t\n", "\xa0", "\u3000", "\u2028", "\u0301", "\x00", "\x07", "\x7f", "\x85",
                           "\xad", "\u200b", "\ufeff", "\ufffd"}
    assert "" in missing and (name != "gpt2" or missing == {""})


def test_words_in_are_words_out_on_real_sentences(published):
    _, tokenizer = published
    sentences = open_source(str(data_dir() / "ner_wnut17"), SENTENCES, "eval").columns["tokens"]
    sentences = [*sentences, [], ["\x00", "word"] * 1000, [""]]
    ours = tokenizer.encode_words(sentences)
    counts = [len(words) for words in sentences]
    assert len(ours.first) == sum(counts) and ours.token_ids.dtype == ours.word_ids.dtype == np.int32
    assert ours.starts[0] == 0 and ours.ends[-1] == len(ours.token_ids) and (ours.starts[1:] == ours.ends[:-1]).all()
    for first, start, end in zip(np.split(ours.first, np.cumsum(counts)[:-1]), ours.starts, ours.ends):
        owners = ours.word_ids[start:end]
        assert (np.diff(owners) >= 0).all() and (owners[first[first >= 0]] == np.flatnonzero(first >= 0)).all()
        assert len(set(owners.tolist())) == (first >= 0).sum()


def test_words_alone_are_those_of_a_sentence_and_run_in_graphs(published):
    name, tokenizer = published
    words = [word for words in GOLDEN["sentences"] for word in words]
    pieces = tokenizer.word_pieces(words)
    assert pieces.flat_values.numpy().tolist() == tokenizer.encode_words([words]).token_ids.tolist()
    graph = tf.function(tokenizer.word_pieces, input_signature=[tf.TensorSpec([None], tf.string)])
    if tokenizer.in_graph:
        assert graph(tf.constant(words)).to_list() == pieces.to_list()
    else:
        with pytest.raises(ConfigError, match="inside a graph"):
            graph(tf.constant(words))


def test_bytes_have_a_blank_before_each_word():
    tokenizer = load_tokenizer("bytes")
    ours = tokenizer.encode_words([["ab", "\u00e9"], ["", " c", b"\xff"]])
    assert tokenizer.decode([ours.token_ids]) == [" ab \u00e9 c \ufffd"]
    assert ours.first.tolist() == [0, 3, -1, 0, 2] and ours.word_ids.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]


def test_a_text_in_place_of_words_is_refused():
    for sentences in (["a b"], [["a"], b"b"], "ab"):
        with pytest.raises(ConfigError, match="must be a list of (lists of )?words, got a single string"):
            load_tokenizer("bytes").encode_words(sentences)
    empty = load_tokenizer("bytes").encode_words([])
    assert [len(part) for part in empty] == [0] * 5


def test_examples():
    assert doctest.testmod(module).attempted and not doctest.testmod(module).failed


def broken_texts(count):
    """Return byte strings that are rarely valid UTF-8: partial characters, surrogates, overlong forms."""
    parts = list(b"\xe4\xb8\xad\xf0\x9f\x98\x80\xc3\xa9\xed\xa0A \xef\xbb\xbf\xc0\xf5\xfe.")
    rng = np.random.default_rng(0)
    return [bytes(rng.choice(parts, rng.integers(1, 20)).astype(np.uint8)) for _ in range(count)]


def test_both_forms_agree():
    graph = tf.function(split_words_in_graph, input_signature=[tf.TensorSpec([None], tf.string)])
    for texts in (hostile_texts(500), broken_texts(1000), real_lines()[::20], [b""], [b"", b" ", b""], []):
        ours, other = split_words(texts), graph(tf.constant(texts, tf.string, shape=[len(texts)]))
        assert ours.words == [[word.decode() for word in row] for row in other.words.to_list()]
        assert ours.starts == other.starts.to_list() and ours.ends == other.ends.to_list()
        assert other.words.dtype == tf.string and other.starts.dtype == other.ends.dtype == tf.int32


def test_words_are_slices_of_the_raw_text():
    texts = [text.decode("utf-8", "replace") for text in [*hostile_texts(1000), *broken_texts(200)]]
    for text, words, starts, ends in zip(texts, *split_words(texts), strict=True):
        assert words == [text[start:end] for start, end in zip(starts, ends)]
        assert [0, *ends] <= [*starts, len(text)] and all(start < end for start, end in zip(starts, ends))
        assert all(before <= after for before, after in zip([0, *ends], [*starts, len(text)]))


def test_places_of_tokenizers_where_nothing_is_normalized():
    lines = [line for line in real_lines()[:7500] if not any("\u2e80" <= letter < "\ud800" for letter in line)]
    splitter = pre_tokenizers.BertPreTokenizer()
    for line, *split in zip(lines, *split_words(lines)):
        assert splitter.pre_tokenize_str(line) == [(word, (start, end)) for word, start, end in zip(*split)], line
    assert len(lines) > 5000


def test_places_of_berts_tokenizer_in_real_lines():
    backend = Backend(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    lines = real_lines()[::2]
    for line, starts, ends, encoding in zip(lines, *split_words(lines)[1:], backend.encode_batch(lines)):
        assert encoding.offsets == list(zip(starts, ends)), line


def test_the_tokens_of_the_words_are_those_of_the_text():
    tokenizer, texts = load_tokenizer(vocab_dir() / "bert_uncased"), [*hostile_texts(300), *real_lines()[::20]]
    ours = tokenizer.encode_words(split_words(texts).words)
    for text, start, end, ids in zip(texts, ours.starts, ours.ends, tokenizer.encode(texts).to_list(), strict=True):
        assert ours.token_ids[start:end].tolist() == ids, text


@pytest.mark.parametrize("text, words", [
    ("a\x00b", ["a\x00b"]), ("\u200ba\xad", ["a"]), ("\ufffd", []), ("e\u0301 x", ["e\u0301", "x"]),
    ("\U0001f600\U0001f600 \U0001f468\u200d\U0001f469", ["\U0001f600\U0001f600", "\U0001f468\u200d\U0001f469"]),
    ("\u4e2d\u6587x", ["\u4e2d", "\u6587", "x"]), ("a\u00a0b\u3000c\u2028d", ["a", "b", "c", "d"]),
    ("#1 @x", ["#", "1", "@", "x"]), ("\uac00\ub098", ["\uac00\ub098"]), (" \t\n", []), ("\ud800x", ["?", "x"])])
def test_what_a_word_is(text, words):
    assert split_words([text]).words == [words]
