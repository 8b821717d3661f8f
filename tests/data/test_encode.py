"""Splitting long texts, and BERT's sentence pairs."""
import numpy as np
import pytest

from tfzoo.data.encode import encode_texts, sentence_pairs, split_long, split_sentences
from tfzoo.data.source import Source
from tfzoo.errors import ConfigError
from tfzoo.tasks import task_of
from tfzoo.text import load_tokenizer


def pairs_of(texts, tokenizer, max_length, seed):
    counts = []
    sentences = encode_texts(tokenizer, [text for text, _ in split_sentences(texts, counts)])
    edges = np.cumsum([0, *counts])
    return sentence_pairs(sentences, np.stack([edges[:-1], edges[1:]], 1), max_length - 3, seed=seed, name="x")


def test_pieces_of_long_texts_hold_every_token_once():
    tokenizer = load_tokenizer("bytes")
    texts = ["a" * 25, "", "bcd", "e" * 10]
    pieces = split_long(encode_texts(tokenizer, texts), 10)
    assert pieces.lengths.tolist() == [8, 8, 9, 3, 10]
    assert np.array_equal(np.concatenate([pieces[number] for number in range(5)]), pieces.tokens)


def test_pairs_are_neighbours_or_of_two_documents():
    tokenizer = load_tokenizer("bytes")
    texts = [" ".join(f"{letter}{number:02d}." for number in range(30)) for letter in "abcdefgh"]
    first, second, elsewhere = pairs_of(texts, tokenizer, 43, 0)
    decode = [(tokenizer.decode([first[row]])[0], tokenizer.decode([second[row]])[0]) for row in range(len(first))]
    assert 0.3 < elsewhere.mean() < 0.7
    for (one, two), far in zip(decode, elsewhere):
        assert len(one) + len(two) <= 40 and one.endswith(".") and two
        assert (one[0] != two[0]) == bool(far)
        if not far:
            assert int(two[1:3]) == int(one[-3:-1]) + 1
        else:
            assert two[1:3] == "00"
    again = pairs_of(texts, tokenizer, 43, 0)
    assert np.array_equal(again[0].starts, first.starts) and np.array_equal(again[2], elsewhere)


@pytest.mark.parametrize("ends_between", [1, 2])
def test_pairs_have_room_for_all_that_the_tokenizer_puts_around_them(ends_between):
    tokenizer = load_tokenizer("bytes")
    tokenizer.ends_between = ends_between  # 2 as in RoBERTa
    texts = [" ".join(f"{letter}{number:02d}." for number in range(30)) for letter in "abcdefgh"]
    data = task_of("masked_lm", next_sentence=True).features(Source("x", {"text": texts}), tokenizer, batch_size=4,
                                                             max_length=43)
    assert data.cut == 0
    lengths = np.concatenate([data.batch(step)["padding_mask"].sum(1) for step in range(data.batches_per_epoch)])
    assert lengths.max() == {1: 40 + 3, 2: 36 + 4}[ends_between]  # sentences of four bytes, plus special tokens


def test_single_sentences_make_no_pairs():
    with pytest.raises(ConfigError, match="two sentences"):
        pairs_of(["one sentence.", "another"], load_tokenizer("bytes"), 40, 0)
