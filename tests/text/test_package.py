"""Byte-level BPE as RoBERTa has it, and any other tokenizer.json: the ids of the `tokenizers` package."""
import json

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.helpers import hostile_texts, real_lines, vocab_dir
from tfzoo.errors import DataError
from tfzoo.text import load_tokenizer

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def texts_of():
    return [text.decode("utf-8", "replace") for text in hostile_texts(200)] + real_lines()[:2000]


def learn(backend, specials):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(real_lines()[:2000], trainers.BpeTrainer(
        vocab_size=600, special_tokens=specials, initial_alphabet=alphabet, show_progress=False))
    return backend


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roberta")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    learn(backend, SPECIALS)
    ids = {token: backend.token_to_id(token) for token in SPECIALS}
    backend.post_processor = processors.RobertaProcessing(("</s>", ids["</s>"]), ("<s>", ids["<s>"]))
    backend.model.save(str(folder))
    return backend, load_tokenizer(folder)


def test_roberta_s_ids_pairs_and_cuts_are_the_package_s(roberta, tmp_path):
    backend, tokenizer = roberta
    texts = [text for text in texts_of() if "<" not in text]
    assert tokenizer.encode(texts).to_list() == [
        encoding.ids for encoding in backend.encode_batch(texts, add_special_tokens=False)]
    backend.enable_truncation(24, strategy="longest_first")
    ours = tokenizer(texts[:300], texts[300:600], max_length=24)
    for row, mask, expected in zip(ours["token_ids"].numpy(), ours["padding_mask"].numpy(),
                                   backend.encode_batch(list(zip(texts[:300], texts[300:600])))):
        assert row[mask > 0].tolist() == expected.ids
    backend.no_truncation()
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["mask_token"] == "<mask>"
    assert tokenizer.decode(tokenizer(["a fine film"])["token_ids"]) == ["a fine film"]
    assert tokenizer.mask_id == tokenizer.ids["<mask>"] and tokenizer.pad_id == tokenizer.ids["<pad>"]


@pytest.fixture
def llama3(tmp_path):
    backend = Tokenizer(models.BPE())
    split = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(split, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    learn(backend, ["<|begin_of_text|>", "<|end_of_text|>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
        special_tokens=[("<|begin_of_text|>", backend.token_to_id("<|begin_of_text|>"))])
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|end_of_text|>"}}))
    return backend, load_tokenizer(tmp_path)


def test_llama_3_s_kind_begins_texts_and_ends_none(llama3, tmp_path):
    backend, tokenizer = llama3
    texts = [text for text in texts_of() if "<|" not in text]
    ours = tokenizer(texts)
    for row, mask, expected in zip(ours["token_ids"].numpy(), ours["padding_mask"].numpy(),
                                   backend.encode_batch(texts)):
        assert row[mask > 0].tolist() == expected.ids
    assert tokenizer.end_id == backend.token_to_id("<|end_of_text|>") and tokenizer.lossless
    pair = tokenizer(["one"], ["two"])["token_ids"].numpy()[0]
    assert pair.tolist() == backend.encode("one", "two").ids
    assert tokenizer.decode(tokenizer(["one  two\n"])["token_ids"]) == ["one  two\n"]
    (tmp_path / "again").mkdir()
    tokenizer.save(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.fingerprint == tokenizer.fingerprint and again.end_id == tokenizer.end_id


def test_generation_begins_as_the_model_was_trained(llama3, roberta, tmp_path):
    assert llama3[1].opening == [llama3[0].token_to_id("<|begin_of_text|>")]
    assert roberta[1].opening == [roberta[1].start_id]
    gpt2 = load_tokenizer(vocab_dir() / "gpt2")
    assert gpt2.opening == [50256] and gpt2(["a"])["token_ids"].numpy().tolist() == [[50256, 64, 50256]]
    bare = load_tokenizer(vocab_dir() / "gpt2", bare=True)  # as others' models were trained
    ids = bare(["a", "a b"], max_length=2)["token_ids"].numpy().tolist()
    assert bare.opening == [] and ids == [[64, 50256], [64, 275]]


def test_tokenizer_json_says_more_than_the_files_beside_it(tmp_path):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False)])
    learn(backend, ["<|endoftext|>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    backend.model.save(str(tmp_path))
    tokenizer, texts = load_tokenizer(tmp_path), ["in 1984  12", "\n\n12"]
    assert tokenizer.kind == "package" and tokenizer.encode(texts).to_list() == [
        encoding.ids for encoding in backend.encode_batch(texts, add_special_tokens=False)]
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode(["a"]).to_list() == [backend.encode("a", add_special_tokens=False).ids]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    with pytest.raises(DataError, match="tokenizer.json too"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("settings", [{"strip_accents": False}, {"handle_chinese_chars": False}])
def test_a_wordpiece_that_is_not_bert_s_is_the_package_s(settings, tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "caf\u00e9", "cafe", "\u4e2d\u6587", "\u4e2d"]
    backend = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True, **settings)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.save(str(tmp_path / "tokenizer.json"))
    texts = ["Caf\u00e9", "\u4e2d\u6587"]
    assert load_tokenizer(tmp_path).encode(texts).to_list() == [
        encoding.ids for encoding in backend.encode_batch(texts, add_special_tokens=False)]


def test_a_text_cannot_spell_a_special_token(llama3):
    ids = llama3[1].encode(["<|end_of_text|>"]).to_list()[0]
    assert len(ids) > 1 and llama3[1].end_id not in ids


def test_a_unigram_tokenizer_json_gives_the_package_s_ids(tmp_path):
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.train_from_iterator(real_lines()[:1000], trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    texts = real_lines()[:300]
    assert tokenizer.encode(texts).to_list() == [
        encoding.ids for encoding in backend.encode_batch(texts, add_special_tokens=False)]
    assert tokenizer(["a"])["token_ids"].numpy()[0, -1] == 1


def test_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Sorcery"}}')
    with pytest.raises(DataError, match="cannot be read"):
        load_tokenizer(tmp_path)
