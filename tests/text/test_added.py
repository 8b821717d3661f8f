"""Added tokens and settings that change a tokenizer: the ids of transformers, or an error that states the reason."""
import json
import shutil

import pytest
import tensorflow as tf

from tests.checkpoints.test_hostile import change_config
from tests.golden import make_added_tokens as golden
from tests.helpers import checkpoint_dir, vocab_dir
from tfzoo.errors import UnknownKind
from tfzoo.text import load_tokenizer


def copied(folder, name, **files):
    for path in (vocab_dir() / name).iterdir():
        shutil.copyfile(path, folder / path.name)
    for file, content in files.items():
        (folder / f"{file}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", golden.CASES)
def test_ids_are_those_of_transformers(name, tmp_path):
    golden.make(name, tmp_path)
    expected = json.loads(golden.GOLDEN.read_text())[name]
    tokenizer = load_tokenizer(tmp_path, bare=True)
    for again in (False, True):
        assert tokenizer.encode(golden.TEXTS).to_list() == expected["ids"]
        if tokenizer.in_graph:
            assert tf.function(tokenizer.encode)(tf.constant(golden.TEXTS)).to_list() == expected["ids"]
        assert tokenizer.in_graph or name != "gpt2"
        one, two = golden.TEXTS[:2]
        assert tokenizer([one])["token_ids"].numpy().tolist() == [expected["one"]]
        assert tokenizer([one], [two])["token_ids"].numpy().tolist() == [expected["two"]]
        if not again:
            (tmp_path / "again").mkdir()
            tokenizer.save(tmp_path / "again")
            written, tokenizer = tokenizer.fingerprint, load_tokenizer(tmp_path / "again", bare=True)
            assert tokenizer.fingerprint == written


def test_a_text_that_spells_a_token_with_a_role_is_text(tmp_path):
    folder = copied(tmp_path, "bert_uncased", tokenizer_config={"do_lower_case": True}, special_tokens_map={
        "mask_token": "<hole>", "sep_token": "<end>", "additional_special_tokens": ["<ent>"]})
    tokenizer = load_tokenizer(folder)
    ids = tokenizer.encode(["<hole> <end> [SEP] <ent>"]).to_list()[0]
    assert (tokenizer.end_id, tokenizer.mask_id) == (30522, 30523) and ids[-1] == 30524
    assert not set(ids[:-1]) & set(tokenizer.special_ids)
    assert tokenizer.special_ids == (0, 100, 101, 30522, 30523, 30524)
    (folder / "tokenizer_config.json").write_text('{"split_special_tokens": true}')  # now <ent> is text too
    assert not set(load_tokenizer(folder).encode(["<ent> a"]).to_list()[0]) & set(tokenizer.special_ids)


def test_an_added_token_that_is_a_word_has_no_blank_before_it(tmp_path):
    tokenizer = load_tokenizer(copied(tmp_path, "gpt2", added_tokens={"[E1]": 50257}))
    assert tokenizer.encode_words([["fine", "[E1]", "film"]]).token_ids.tolist() == [3734, 50257, 2646]


@pytest.mark.parametrize("name, files, says", [
    ("bert_uncased", {"added_tokens": {"[E1]": 30530}}, "'.E1.' has the id 30,530 in its file, but 30,522"),
    ("bert_uncased", {"added_tokens": {"new": 30522}}, "'new' has the id 30,522 in its file, but 2,047"),
    ("bert_uncased", {"config": {"model_type": "roberta", "tokenizer_class": "BertweetTokenizer"}}, "'BertweetTok"),
    ("gpt2", {"config": {"model_type": "qwen2"}}, "'Qwen2Tokenizer': provide its tokenizer.json too"),
    ("gpt2", {"tokenizer_config": {"tokenizer_class": "CLIPTokenizer"}}, "'CLIPTokenizer': provide its"),
])
def test_what_cannot_be_done_as_in_transformers_is_refused(name, files, says, tmp_path):
    with pytest.raises(UnknownKind, match=says):
        load_tokenizer(copied(tmp_path, name, **files), bare=True)


def test_tokens_added_to_a_model_of_sentencepiece_need_tokenizer_json(tmp_path):
    folder = copied(tmp_path, "t5", added_tokens={"[E1]": 32100})
    assert load_tokenizer(folder).encode(["[E1]"]).to_list() == [[32100]]
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnknownKind, match=r"'\[E1\]' is added to the SentencePiece model"):
        load_tokenizer(folder)
    (folder / "added_tokens.json").write_text(json.dumps(  # as saved by transformers' slow tokenizer
        {f"<extra_id_{number}>": 32099 - number for number in range(100)}))
    assert load_tokenizer(folder).kind == "sentencepiece"
    (folder / "added_tokens.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 0}')  # as in mT5
    assert load_tokenizer(folder).vocab_size == 32000


def test_a_byte_without_a_token_is_skipped_as_in_transformers(tmp_path):
    folder, byte = copied(tmp_path, "gpt2"), "!"
    ids = json.loads((folder / "vocab.json").read_text())
    merges = (folder / "merges.txt").read_text().split("\n")
    gone = {token for token in ids if byte in token}
    kept = [token for token in ids if token not in gone]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(kept)}))
    (folder / "merges.txt").write_text("\n".join(line for line in merges if byte not in line))
    tokenizer = load_tokenizer(folder, bare=True)
    assert tokenizer.encode(["a film!\0"]).to_list() == [[
        kept.index(token) for token in ("a", "\u0120film", "!", "\u0100") if token != byte]]
    assert tokenizer.around == ([], [], []) and tokenizer.end_id == kept.index("<|endoftext|>")


def test_what_is_not_said_about_capitals_is_reported(tmp_path, capsys):
    folder = copied(tmp_path, "bert_cased")
    assert not load_tokenizer(folder, bare=True).lowercase
    assert "no do_lower_case: texts keep their case" in capsys.readouterr().err
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert load_tokenizer(folder, bare=True).lowercase and not capsys.readouterr().err


def test_what_stands_around_texts_is_that_of_tokenizer_json(tmp_path):
    from tokenizers import Tokenizer, processors
    load_tokenizer(vocab_dir() / "gpt2", bare=True)._backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path, bare=True).kind == "bpe"
    backend = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", pair="<|endoftext|> $A $B", special_tokens=[("<|endoftext|>", 50256)])
    backend.save(str(tmp_path / "tokenizer.json"))
    ids = load_tokenizer(tmp_path, bare=True)(["a"], ["a"])["token_ids"].numpy().tolist()
    assert ids == [backend.encode("a", "a").ids] == [[50256, 64, 64]]


def test_a_folder_of_an_earlier_release_encodes_as_it_did(tmp_path):
    from tokenizers import ByteLevelBPETokenizer
    source = vocab_dir() / "gpt2"
    backend = ByteLevelBPETokenizer.from_file(str(source / "vocab.json"), str(source / "merges.txt"),
                                              add_prefix_space=True)
    backend.add_special_tokens(["<|im_start|>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    earlier = load_tokenizer(tmp_path)
    assert earlier.encode(["a <|im_start|>"]).to_list() == [[257, 1279, 91, 320, 62, 9688, 91, 29]]
    (tmp_path / "again").mkdir()
    earlier.save(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.fingerprint == earlier.fingerprint
    assert again.encode(["a <|im_start|>"]).to_list() == earlier.encode(["a <|im_start|>"]).to_list()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 9}))  # as in transformers
    other = load_tokenizer(tmp_path)
    assert other.encode(["a <|im_start|>"]).to_list() == [[64, 220, 50257]] and other.fingerprint != earlier.fingerprint


def test_llama_s_settings_decide_what_stands_around_texts(tmp_path):
    from tokenizers import Tokenizer, models
    backend = Tokenizer(models.BPE({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}, [], unk_token="<unk>"))
    backend.save(str(tmp_path / "tokenizer.json"))
    for settings, expected in (({}, [1, 3, 1, 3]), ({"add_eos_token": True}, [1, 3, 2, 1, 3, 2]),
                               ({"add_bos_token": False}, [3, 3])):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", **settings}))
        assert load_tokenizer(tmp_path)(["a"], ["a"])["token_ids"].numpy().tolist() == [expected]


@pytest.mark.parametrize("change", [lambda text: text.split("\n", 1)[1], lambda text: text.rstrip("\n")])
def test_merges_that_readers_disagree_about_are_refused(change, tmp_path):
    folder = copied(tmp_path, "gpt2")
    (folder / "merges.txt").write_text(change((folder / "merges.txt").read_text()))
    with pytest.raises(UnknownKind, match="merges.txt does not begin with a #version line and end with a newline"):
        load_tokenizer(folder)


def test_a_real_checkpoint_with_markers_added_to_it(tmp_path):
    for path in (checkpoint_dir() / "all-MiniLM-L6-v2").iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, tmp_path / path.name)
    plain = load_tokenizer(tmp_path, bare=True)
    assert plain.kind == "wordpiece" and plain.in_graph
    (tmp_path / "added_tokens.json").write_text('{"[E1]": 30522}')
    marked, text = load_tokenizer(tmp_path, bare=True), "the film"
    assert marked.encode([f"[E1]{text}", text]).to_list() == [
        [30522, *plain.encode([text]).to_list()[0]], plain.encode([text]).to_list()[0]]
    change_config(tmp_path, tokenizer_class="FunnelTokenizer")  # tokenizer_config.json takes precedence
    assert load_tokenizer(tmp_path, bare=True).fingerprint == marked.fingerprint
