"""SentencePiece in the graph gives the package's ids, for T5's published model and one learned as ALBERT's."""
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from tests.helpers import hostile_texts, real_lines, vocab_dir
from tfzoo.errors import DataError
from tfzoo.text import load_tokenizer


@pytest.fixture(scope="module")
def t5():
    return load_tokenizer(vocab_dir() / "t5")


@pytest.fixture(scope="module")
def albert(tmp_path_factory):
    """A unigram model with ALBERT's special tokens, learned from real lines."""
    folder = tmp_path_factory.mktemp("albert")
    (folder / "text").write_text("\n".join(real_lines()[:3000]).lower())
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "spiece"), vocab_size=1000, pad_id=0, unk_id=1,
        bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]"], user_defined_symbols=["[MASK]"],
        character_coverage=0.98, minloglevel=2)
    return load_tokenizer(folder)


def texts_of():
    return [text.decode("utf-8", "replace") for text in hostile_texts(300)] + real_lines()


def test_t5_s_ids_are_the_package_s(t5):
    package = sentencepiece.SentencePieceProcessor(model_file=str(vocab_dir() / "t5" / "spiece.model"))
    texts = texts_of()
    assert t5.encode(texts).to_list() == package.encode(texts)
    assert t5.vocab_size == 32100 and (t5.pad_id, t5.end_id, t5.unk_id, t5.start_id) == (0, 1, 2, None)
    ids = t5(["A fine film.", "Yes"])
    assert ids["token_ids"].numpy().tolist() == [[71, 1399, 814, 5, 1], [2163, 1, 0, 0, 0]]
    assert t5.decode(ids["token_ids"]) == ["A fine film.", "Yes"]
    pair = t5(["Yes"], ["Yes"], max_length=4)
    assert pair["token_ids"].numpy().tolist() == [[2163, 1, 2163, 1]]


def test_a_text_cannot_spell_a_special_token(t5):
    ids = t5.encode(["</s> <extra_id_0> <pad>"]).to_list()[0]
    assert not set(ids) & (set(t5.special_ids) - {t5.unk_id})


def test_albert_s_ids_are_those_of_the_reference_s_normalizers(albert):
    from tokenizers import normalizers
    cleaner = normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
                                    normalizers.StripAccents(), normalizers.Lowercase()])
    package = sentencepiece.SentencePieceProcessor(model_proto=albert.model)
    texts = [text for text in texts_of() if "[MASK]" not in text.upper()]
    for text, ids in zip(texts, albert.encode(texts).to_list()):
        assert ids == package.encode(cleaner.normalize_str(text)), text
    pair = albert(["one"], ["two"])
    tokens = pair["token_ids"].numpy()[0]
    assert tokens[0] == albert.start_id and (tokens == albert.end_id).sum() == 2
    assert pair["segment_ids"].numpy()[0].tolist()[-1] == 1


def test_in_a_graph_bytes_and_files(t5, albert, tmp_path):
    for number, tokenizer in enumerate((t5, albert)):
        encode = tf.function(lambda texts: tokenizer(texts, max_length=9)["token_ids"])
        texts = ["a fine film indeed", "b\ufffd"]
        assert np.array_equal(encode(tf.constant(texts)), tokenizer(texts, max_length=9)["token_ids"])
        assert tokenizer.encode([b"b\xff"]).to_list() == tokenizer.encode(["b\ufffd"]).to_list()
        folder = tmp_path / str(number)
        folder.mkdir()
        tokenizer.save(folder)
        assert load_tokenizer(folder).fingerprint == tokenizer.fingerprint


def test_offsets_point_at_the_pieces(t5):
    text = "Ein schöner Film."
    pieces = [text[begin:end].strip() for begin, end in t5.offsets([text])[0]]
    assert "".join(pieces) == text.replace(" ", "")


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"\x00\x01 nothing")
    with pytest.raises(DataError, match="no SentencePiece model"):
        load_tokenizer(tmp_path)
