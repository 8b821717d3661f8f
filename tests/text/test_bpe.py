"""Byte-level BPE: the ids of `tokenizers`, lossless decoding, all forms of vocabulary files, and offsets."""
import json

import pytest

from tests.helpers import data_dir, hostile_texts, vocab_dir
from tfzoo.errors import ConfigError, DataError
from tfzoo.text import learn_tokenizer, load_tokenizer


@pytest.fixture(scope="module")
def gpt2():
    return load_tokenizer(vocab_dir() / "gpt2")


def test_published_ids(gpt2):
    assert gpt2.vocab_size == 50257 and gpt2.end_id == 50256
    assert gpt2.encode(["Hello world", " Hello  world"]).to_list() == [[15496, 995], [18435, 220, 995]]


def test_bytes_come_back(gpt2):
    texts = [text.decode("utf-8", "replace") for text in hostile_texts(300)]
    texts += (data_dir() / "lm_shakespeare" / "eval.txt").read_text().split("\n\n")[:200]
    ids = gpt2.encode(texts).to_list()
    assert gpt2.decode(ids) == texts
    assert gpt2.encode(hostile_texts(300)).to_list() == ids[:300]


def test_a_text_cannot_spell_the_end_token(gpt2):
    assert gpt2.end_id not in gpt2.encode(["a <|endoftext|> b"]).to_list()[0]


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_learned_vocabularies_round_trip_through_files(names, tmp_path):
    text = (data_dir() / "lm_shakespeare" / "eval.txt").read_text()
    learned = learn_tokenizer("learn:bpe:600", text.split("\n"))
    assert learned.vocab_size == 600
    again = learn_tokenizer("learn:bpe:600", text.split("\n"))
    assert again.fingerprint == learned.fingerprint
    learned.save(tmp_path)
    for there, name in zip(("vocab.json", "merges.txt"), names):
        (tmp_path / there).rename(tmp_path / name)
    for source in (tmp_path, tmp_path / names[0]):
        assert load_tokenizer(source).fingerprint == learned.fingerprint
    assert learned.decode(learned.encode([text])) == [text]


def test_tokenizer_json_of_both_kinds(tmp_path, gpt2):
    gpt2._backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).fingerprint == gpt2.fingerprint
    wordpiece = load_tokenizer(vocab_dir() / "bert_uncased")
    wordpiece._backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).fingerprint == wordpiece.fingerprint


@pytest.mark.parametrize("kind", ["bert_uncased", "bert_cased", "gpt2", "bytes"])
def test_offsets_belong_to_the_ids_and_point_into_the_text(kind):
    tokenizer = load_tokenizer("bytes" if kind == "bytes" else vocab_dir() / kind)
    texts = hostile_texts(200)
    offsets, ids = tokenizer.offsets(texts), tokenizer.encode(texts).to_list()
    assert [len(row) for row in offsets] == [len(row) for row in ids]
    for text, row in zip(texts, offsets):
        size = len(text.decode("utf-8", "replace"))
        assert all(0 <= start <= end <= size for start, end in row)
        assert all(one[0] <= two[0] for one, two in zip(row, row[1:]))
    text = "A naïve test"
    if "uncased" in kind:
        assert [text[start:end] for start, end in tokenizer.offsets([text])[0]] == ["A", "naïve", "test"]
    if kind == "bytes":
        assert tokenizer.offsets(["aï"]) == [[(0, 1), (1, 2), (1, 2)]]


def test_what_cannot_be_used_is_refused(tmp_path):
    for text, says in (('{"a": 0, "b": 1, "a": 2}', "duplicate key 'a'"), ("[]", "not an object")):
        for name in ("vocab.json", "tokenizer.json", "tokenizer_config.json"):
            (tmp_path / "merges.txt").touch()
            (tmp_path / name).write_text(text)
            with pytest.raises(DataError, match=says) as caught:
                load_tokenizer(tmp_path)
            assert "\n" not in str(caught.value) and name in str(caught.value)
            (tmp_path / name).unlink()
    (tmp_path / "merges.txt").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0}))
    with pytest.raises(FileNotFoundError, match="merges"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("a b c\n")
    with pytest.raises(DataError, match="line 1"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(DataError, match="endoftext"):
        load_tokenizer(tmp_path)
    for spec in ("learn:bpe:100", "learn:unigram:800", "learn:bpe", "none"):
        with pytest.raises(ConfigError, match="expected bytes, learn:wordpiece:SIZE or learn:bpe:SIZE, with SIZE"):
            learn_tokenizer(spec, ["a"])
