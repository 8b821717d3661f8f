"""WordPiece and bytes: the ids of the `tokenizers` package for all code points and hostile texts."""
import random

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import BertWordPieceTokenizer

from tfzoo.errors import ConfigError, DataError
from tfzoo.text import learn_tokenizer, load_tokenizer
from tfzoo.text.wordpiece import SPECIALS, WordPieceTokenizer

HOSTILE = ["", " ", "[CLS] hi [SEP]", "naïve café ÀÉ", "cafe\u0301s", "日本語 text中", "👩‍👩‍👧 ok",
           "a\x00b\x07c\u200bd", "ΟΔΥΣΣΕΥΣ Σ",
           "a" * 100, "a" * 101, "б" * 60, "don't... (stop)!", "½ … ﬁ", "İstanbul", "한국어", "\ufeffx\u2028y\u00a0z"]


def fuzz(count, seed=0):
    draw = random.Random(seed)
    spans = [(32, 127), (0, 32), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x590), (0x2000, 0x2070), (0x4E00, 0x4F00),
             (0x1F300, 0x1F700), (0xAC00, 0xAD00)]
    return ["".join(chr(draw.randrange(*draw.choice(spans))) for _ in range(draw.randrange(60))) for _ in range(count)]


def reference(tokenizer):
    ids = {token: number for number, token in enumerate(tokenizer.vocabulary)}
    return BertWordPieceTokenizer(vocab=ids, lowercase=tokenizer.lowercase, strip_accents=tokenizer.lowercase)


def assert_same(tokenizer, texts):
    tokenizer_ids = tokenizer.encode(texts).to_list()
    other = reference(tokenizer)
    other._tokenizer.encode_special_tokens = True  # a text must never produce a special token
    expected = [encoding.ids for encoding in other.encode_batch(texts, add_special_tokens=False)]
    assert len(tokenizer_ids) == len(expected)
    for text, got, wanted in zip(texts, tokenizer_ids, expected):
        assert got == wanted, text


@pytest.fixture(scope="module", params=[True, False])
def learned(request):
    return learn_tokenizer("learn:wordpiece:900", HOSTILE * 3 + fuzz(2000), lowercase=request.param)


def test_hostile_and_random_texts(learned):
    assert_same(learned, HOSTILE + fuzz(3000, seed=1))


def test_every_code_point(learned):
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    texts = ["".join(f"a{point}a" for point in points[first:first + 16]) for first in range(0, len(points), 16)]
    words = learned._words(learned._clean(tf.constant(texts))[0]).to_list()
    other = reference(learned)._tokenizer
    for text, got in zip(texts, words):
        wanted = [word for word, _ in other.pre_tokenizer.pre_tokenize_str(other.normalizer.normalize_str(text))]
        assert [word.decode() for word in got] == wanted, text.encode("unicode_escape")


def test_invalid_utf8_becomes_the_replacement_character(learned):
    draw = random.Random(0)
    raw = [bytes(draw.randrange(256) for _ in range(20)) for _ in range(300)]
    decoded = [text.decode("utf-8", "replace") for text in raw]
    assert learned.encode(raw).to_list() == learned.encode(decoded).to_list()


def test_in_a_graph_and_in_a_data_set(learned):
    eager = learned(["Hello, world", ""])
    graph = tf.function(lambda texts: learned(texts), input_signature=[tf.TensorSpec([None], tf.string)])
    for key, value in graph(tf.constant(["Hello, world", ""])).items():
        assert np.array_equal(value, eager[key])
    data = tf.data.Dataset.from_tensor_slices(HOSTILE).batch(4).map(learned.encode)
    assert [row for batch in data for row in batch.to_list()] == learned.encode(HOSTILE).to_list()


def test_save_and_load(learned, tmp_path):
    learned.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == learned.fingerprint and again.lowercase == learned.lowercase


def test_decode():
    tokenizer = WordPieceTokenizer([*SPECIALS, "hel", "##lo", "you"], True)
    assert tokenizer.decode(tokenizer(["Hello you"])["token_ids"]) == ["hello you"]


def test_bytes_are_bytes(tmp_path):
    tokenizer = load_tokenizer("bytes")
    texts = HOSTILE + fuzz(200)
    for text, ids in zip(texts, tokenizer.encode(texts).to_list()):
        assert ids == [4 + byte for byte in text.encode()]
    assert tokenizer.decode(tokenizer(texts)["token_ids"]) == texts
    assert tokenizer.encode([b"a\xffb"]).to_list() == tokenizer.encode(["a\ufffdb"]).to_list()
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).kind == "bytes"


def test_learning_keeps_every_character_that_the_size_has_room_for(capsys):
    # 3,000 Chinese characters, the most frequent first, and Cherokee, whose letters also continue words.
    characters = [chr(0x4E00 + number) for number in range(3000)]
    texts = ["".join(characters[:count]) for count in (3000, 2000, 1000)]
    tokenizer = learn_tokenizer("learn:wordpiece:4000", texts)
    assert not (tokenizer.encode(texts).flat_values.numpy() == SPECIALS.index("[UNK]")).any()
    assert not capsys.readouterr().err
    small = learn_tokenizer("learn:wordpiece:1505", texts)
    assert small.vocab_size == 1505
    assert "1,500 of 3,000 characters do not fit and become [UNK], 33.3% of the text" in capsys.readouterr().err
    unknown = [(ids == SPECIALS.index("[UNK]")).sum() for ids in map(np.asarray, small.encode(texts).to_list())]
    assert unknown == [1500, 500, 0]
    words = learn_tokenizer("learn:wordpiece:100", ["".join(chr(0x13A0 + (number + start) % 80) for number in range(7))
                                                    for start in range(80)], lowercase=False)
    assert words.vocab_size == 99 and "33 of 80 characters do not fit" in capsys.readouterr().err


def test_wrong_vocabularies_and_settings_are_refused(tmp_path):
    with pytest.raises(DataError, match="twice"):
        WordPieceTokenizer([*SPECIALS, "a", "a"], True)
    with pytest.raises(DataError, match="MASK"):
        WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], True)
    with pytest.raises(FileNotFoundError, match="no vocabulary at .*: expected bytes, vocab.txt"):
        load_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="learn:wordpiece"):
        learn_tokenizer("learn:words:100", [])
    with pytest.raises(ConfigError, match="max_length"):
        load_tokenizer("bytes")(["a"], max_length=2)
