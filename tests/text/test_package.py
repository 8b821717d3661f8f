"""RoBERTa's byte-level BPE, GPT's vocabulary (2018) and any other tokenizer.json: files and round trips."""
import json

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tests.helpers import real_lines, vocab_dir
from tests.text import kinds
from tfzoo.errors import ConfigError, DataError
from tfzoo.tasks import task_of
from tfzoo.text import load_tokenizer


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    return kinds.roberta(tmp_path_factory.mktemp("roberta"))[0]


@pytest.fixture(scope="module")
def llama3(tmp_path_factory):
    return kinds.llama3(tmp_path_factory.mktemp("llama3"))[0]


def test_roberta_s_tokenizer_is_written_and_comes_back(roberta, tmp_path):
    roberta.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == roberta.fingerprint
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["mask_token"] == "<mask>"
    assert roberta.decode(roberta(["a fine film"])["token_ids"]) == ["a fine film"]
    assert roberta.mask_id == roberta.ids["<mask>"] and roberta.pad_id == roberta.ids["<pad>"]


def test_llama_3_s_tokenizer_is_written_and_comes_back(llama3, tmp_path):
    assert llama3.end_id == llama3._backend.token_to_id("<|end_of_text|>") and llama3.lossless
    assert llama3.decode(llama3(["one  two\n"])["token_ids"]) == ["one  two\n"]
    llama3.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == llama3.fingerprint and again.end_id == llama3.end_id


def test_gpt_s_words_end_in_their_tokens(tmp_path):
    tokenizer = kinds.gpt(tmp_path, whole=False)[0]
    texts = ["The film, is GOOD.", "\u2603"]
    assert tokenizer.decode(tokenizer(texts)["token_ids"])[0] == "the film , is good ."
    assert tokenizer.encode(texts).to_list()[1] == [tokenizer.unk_id] and tokenizer.opening == []
    assert tokenizer.pad_id == tokenizer.unk_id and tokenizer.vocab_size == 1500
    (tmp_path / "again").mkdir()
    tokenizer.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint == tokenizer.fingerprint
    (tmp_path / "vocab.json").write_text('{"<unk>": 0, "a": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "OpenAIGPTTokenizer"}')
    with pytest.raises(DataError, match="not GPT's vocabulary: it must contain <unk>"):
        load_tokenizer(tmp_path)


def test_generation_begins_as_the_model_was_trained(llama3, roberta, tmp_path):
    assert llama3.opening == [llama3._backend.token_to_id("<|begin_of_text|>")]
    assert roberta.opening == [roberta.start_id]
    gpt2 = load_tokenizer(vocab_dir() / "gpt2")
    assert gpt2.opening == [50256] and gpt2(["a"])["token_ids"].numpy().tolist() == [[50256, 64, 50256]]
    assert gpt2.separator == gpt2.beginning() == [50256] and gpt2.beginning([64]) == [50256, 64]
    assert llama3.separator == [llama3.end_id, *llama3.opening] and llama3.beginning([64]) == [*llama3.opening, 64]
    assert roberta.separator == [roberta.end_id, roberta.start_id] and roberta.beginning() == [roberta.start_id]
    bare = load_tokenizer(vocab_dir() / "gpt2", bare=True)  # as models not trained by tfzoo expect
    assert bare.separator == bare.beginning() == [50256] and bare.beginning([64]) == [64]
    (qwen2, _), text = kinds.qwen2(tmp_path), "<|im_end|>"
    assert qwen2.separator == qwen2.beginning() == [qwen2._backend.token_to_id(text)] and qwen2.beginning([64]) == [64]
    ids = bare(["a", "a b"], max_length=2)["token_ids"].numpy().tolist()
    assert bare.opening == [] and ids == [[64, 50256], [64, 275]]


def test_tokenizer_json_says_more_than_the_files_beside_it(tmp_path):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False)])
    kinds.learn_bpe(backend, ["<|endoftext|>"])
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
    assert load_tokenizer(tmp_path).encode(["a"]).to_list() == [backend.encode("a", add_special_tokens=False).ids]


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
    ids = llama3.encode(["<|end_of_text|>"]).to_list()[0]
    assert len(ids) > 1 and llama3.end_id not in ids


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


def test_words_of_a_wordpiece_and_of_whole_words_begin_as_their_model_says(tmp_path):
    wordpiece = Tokenizer(models.WordPiece({"[UNK]": 0, "</s>": 1, "a": 2, "##b": 3}, unk_token="[UNK]"))
    whole = Tokenizer(models.WordLevel({"[UNK]": 0, "</s>": 1, "a": 2, "b": 3}, unk_token="[UNK]"))
    for backend, starts in ((wordpiece, [0, 0, 1, 0]), (whole, [0, 0, 1, 1])):
        backend.add_special_tokens(["[UNK]", "</s>"])
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        assert kinds.saved(backend, tmp_path)[0].starts_word.tolist() == starts


def test_masking_whole_words_needs_to_know_where_they_begin(tmp_path):
    backend = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))  # as in HerBERT
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    kinds.learn_bpe(backend, ["<unk>", "</s>", "<mask>"], end_of_word_suffix="</w>", limit_alphabet=400)
    tokenizer = kinds.saved(backend, tmp_path, mask_token="<mask>")[0]
    with pytest.raises(ConfigError, match="--whole_word: this tokenizer's tokens do not mark where words start; omit"):
        task_of("masked_lm", whole_word=True).features(None, tokenizer, batch_size=2, max_length=16)
