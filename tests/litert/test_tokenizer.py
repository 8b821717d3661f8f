"""Tokenizers without TensorFlow: the ids and texts of tfzoo.text, for all kinds of tokenizers."""
import hashlib
import json

import pytest

from tests.helpers import hostile_texts, real_lines
from tests.text.kinds import MAKERS
from tests.text.test_wordpiece import HOSTILE
from tfzoo.errors import ConfigError, DataError
from tfzoo.litert.tokenizer import FILE, PortableTokenizer
from tfzoo.records.rows import as_text
from tfzoo.text import load_tokenizer

FAST = ("bert_uncased", "gpt2", "t5")


def written(tokenizer, folder):
    tokenizer.save(folder)
    return put(folder, json.dumps(tokenizer.portable()))


def put(folder, content):
    (folder / FILE).write_text(content)
    return PortableTokenizer(folder, hashlib.sha256(content.encode()).hexdigest())


def check_same(tokenizer, portable, texts, ties=False):
    for text, one, other in zip(texts, tokenizer.encode(texts).to_list(), portable.encode(texts), strict=True):
        # If two splits have the same score (o oo, oo o), tf-text's SentencePiece and the package may differ.
        assert one == other or ties and sorted(one) == sorted(other), text
    assert [list(part) for part in tokenizer.around] == portable.around
    words = [word for text in texts[:100] for word in as_text(text).split(" ")] + ["", " a", "\u2581", "<s>", "[CLS]"]
    assert tokenizer.word_pieces(words).to_list() == portable.encode_words(words)
    ids = [row[:50] for row in portable.encode(texts[:300])] + [[*tokenizer.special_ids, tokenizer.vocab_size + 5]]
    assert tokenizer.decode(ids) == [portable.decode(row) for row in ids]


@pytest.mark.parametrize("kind", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
                                  for name in MAKERS])
def test_every_kind_gives_the_ids_and_texts_of_the_library(kind, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "copy").mkdir()
    tokenizer = MAKERS[kind](tmp_path / "made")[0]
    texts = HOSTILE + [text.decode("utf-8", "replace") for text in hostile_texts(300)] + real_lines()[::10]
    check_same(tokenizer, written(tokenizer, tmp_path / "copy"), texts, ties=kind.startswith("albert"))


def test_bytes_and_damaged_files(tmp_path):
    tokenizer = load_tokenizer("bytes")
    portable = written(tokenizer, tmp_path)
    check_same(tokenizer, portable, HOSTILE)
    assert portable.encode([b"\xffa", "\ud800"]) == tokenizer.encode([b"\xffa", "\ud800"]).to_list()
    for content in ("{", "[]", "{}", json.dumps({**tokenizer.portable(), "kind": "wordpiece", "backend": "x"})):
        with pytest.raises(DataError, match="is damaged"):
            put(tmp_path, content)
    with pytest.raises(DataError, match="belongs to another export"):
        PortableTokenizer(tmp_path, "0")
    (tmp_path / FILE).unlink()
    with pytest.raises(FileNotFoundError):
        PortableTokenizer(tmp_path, "0")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match="requires pip install tokenizers"):
        put(tmp_path, json.dumps({**load_tokenizer("bytes").portable(), "kind": "bpe", "backend": "x"}))
