"""SentencePiece inside graphs: T5's published model, and models learned like those of ALBERT and Llama."""
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import vocab_dir
from tests.text import kinds
from tfzoo.errors import DataError
from tfzoo.text import load_tokenizer


@pytest.fixture(scope="module")
def t5():
    return load_tokenizer(vocab_dir() / "t5")


@pytest.fixture(scope="module")
def albert(tmp_path_factory):
    return kinds.albert(tmp_path_factory.mktemp("albert"))[0]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return kinds.llama2(tmp_path_factory.mktemp("llama"), "model")[0]


def test_t5_s_published_ids(t5):
    assert t5.vocab_size == 32100 and (t5.pad_id, t5.end_id, t5.unk_id, t5.start_id) == (0, 1, 2, None)
    ids = t5(["A fine film.", "Yes"])
    assert ids["token_ids"].numpy().tolist() == [[71, 1399, 814, 5, 1], [2163, 1, 0, 0, 0]]
    assert t5.decode(ids["token_ids"]) == ["A fine film.", "Yes"]


def test_a_text_cannot_spell_a_special_token(t5, llama):
    for tokenizer, text in ((t5, "</s> <extra_id_0> <pad>"), (llama, "<s></s><unk><0x0A>")):
        ids = tokenizer.encode([text]).to_list()[0]
        assert not set(ids) & (set(tokenizer.special_ids) - {t5.unk_id})
    assert llama.unk_id not in ids


def test_llama_s_bytes_and_settings(llama, tmp_path):
    texts = ["  two  blanks\n", "\U0001f600 \u4e2d\u6587 caf\u00e9", "nul \x00"]
    assert llama.decode(llama(texts)["token_ids"]) == texts
    assert (llama.unk_id, llama.start_id, llama.end_id) == (0, 1, 2)
    assert llama.pad_id == llama.end_id  # Llama has no padding token of its own
    assert llama.opening == [1]
    (tmp_path / "tokenizer.model").write_bytes(llama.model)
    config = {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": False, "add_eos_token": True,
              "pad_token": {"content": "<unk>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "again").mkdir()
    load_tokenizer(tmp_path).save(tmp_path / "again")
    for folder in (tmp_path, tmp_path / "again"):
        tokenizer = load_tokenizer(folder)
        one, two = llama.encode(["one"]).to_list()[0], llama.encode(["two"]).to_list()[0]
        assert tokenizer(["one"], ["two"])["token_ids"].numpy().tolist() == [[*one, 2, *two, 2]]
        assert tokenizer.pad_id == 0 and tokenizer.opening == []
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "add_prefix_space": false}')
    with pytest.raises(DataError, match="tokenizer.json too"):
        load_tokenizer(tmp_path)


def test_in_a_graph_bytes_and_files(t5, albert, llama, tmp_path):
    for number, tokenizer in enumerate((t5, albert, llama)):
        encode = tf.function(lambda texts: tokenizer(texts, max_length=9)["token_ids"])
        texts = ["a fine film indeed", "b\ufffd"]
        assert np.array_equal(encode(tf.constant(texts)), tokenizer(texts, max_length=9)["token_ids"])
        assert tokenizer.encode([b"b\xff"]).to_list() == tokenizer.encode(["b\ufffd"]).to_list()
        folder = tmp_path / str(number)
        folder.mkdir()
        tokenizer.save(folder)
        assert load_tokenizer(folder).fingerprint == tokenizer.fingerprint


def test_offsets_point_at_the_pieces(t5, albert, llama):
    text = "Ein schöner Film."
    for tokenizer in (t5, llama):
        pieces = [text[begin:end] for begin, end in tokenizer.offsets([text])[0]]
        spelled = "".join(f"{tokenizer.pieces[token]}|" for token in tokenizer.encode([text]).to_list()[0])
        assert pieces == spelled.replace("\u2581", " ")[1:-1].split("|")
    text = "\u0130  ``Na\u0303\ufb01''"  # cleaned: i "nafi"
    assert [text[begin:end] for begin, end in merged(albert, text)] == ["\u0130", "  ``", "N", "a", "\ufb01", "''"]
    assert llama.offsets(["a\U0001f600"]) == [[(0, 1), *[(1, 2)] * 4]]
    assert t5.offsets(["x \ufb03"])[0][-3:] == [(2, 3)] * 3
    assert t5.offsets([]) == [] and albert.offsets([""]) == [[]]


def merged(tokenizer, text):
    """Return the distinct spans of a text's tokens; several tokens may share a character."""
    return list(dict.fromkeys(tokenizer.offsets([text])[0]))


def test_a_model_without_its_special_tokens_is_refused(tmp_path, t5):
    kinds.learn_sentencepiece(tmp_path, "spiece")  # <unk> <s> </s>, like XLM-R's: neither <pad> nor bytes
    with pytest.raises(DataError, match="lacks special .*, or LlamaTokenizer's <s> </s> <unk> <0x0A>") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "spiece.model").write_bytes(t5.model)
    for style, token in (("AlbertTokenizer", "[CLS]"), ("LlamaTokenizer", "<s>")):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": style}))
        with pytest.raises(DataError, match="lacks special tokens") as caught:
            load_tokenizer(tmp_path)
        assert token in str(caught.value) and "T5Tokenizer" not in str(caught.value)


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"\x00\x01 nothing")
    with pytest.raises(DataError, match="not a SentencePiece model"):
        load_tokenizer(tmp_path)
