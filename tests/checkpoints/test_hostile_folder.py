"""Untrusted folders: damaged vocabularies, settings and model.keras files are refused with a one-line message."""
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest
from tokenizers import Tokenizer

import tfzoo
from experiments import evaluate, generate
from tests.checkpoints import parity
from tests.checkpoints.test_hostile import DEEP, LINES, change_config
from tests.helpers import refused, vocab_dir
from tests.models.test_models import SMALL
from tfzoo.checkpoints import Loaded
from tfzoo.errors import ConfigError, DataError
from tfzoo.text import load_tokenizer
from tfzoo.text.wordpiece import SPECIALS, WordPieceTokenizer
from tfzoo.training.model import open_init
from tfzoo.training.settings import Settings

WORDS = [*SPECIALS, *"abcdefghij", *(f"##{letter}" for letter in "abcdefghij")]


def write_case(case, folder):
    parity.write_folder(parity.read_case(parity.GOLDEN / "families" / f"{case}.npz")[0], folder)


@pytest.fixture
def bert(tmp_path):
    write_case("bert-BertModel", tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(WORDS))
    return tmp_path / "bert"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model = tfzoo.build("bert_tiny", task="classification", labels=["x", "y"], **SMALL)
    tfzoo.save(Loaded(model, WordPieceTokenizer(WORDS, True), {
        "model": "bert_tiny", "task": "classification", "labels": ["x", "y"], "settings": {}, "max_length": 12}),
        folder)
    return folder


@pytest.fixture
def ours(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "ours")


@pytest.mark.parametrize("words, says", [
    (WORDS[1:], r"vocab.txt: the vocabulary has no \[PAD\]"), ([""], "vocab.txt: the vocabulary has no")])
def test_a_damaged_list_of_words_is_refused(bert, words, says):
    assert tfzoo.load(bert).tokenizer.vocab_size == len(WORDS)  # fewer than the 61 rows of the table
    (bert / "vocab.txt").write_text("\n".join(words))
    refused(bert, says)


@pytest.mark.parametrize("more", [["a"], ["a", "b", "a"], ["", ""], [LINES.replace("\n", ""), LINES.replace("\n", "")]])
def test_the_last_of_equal_lines_of_others_words_counts(bert, more):
    (bert / "vocab.txt").write_text("\n".join([*WORDS, *more]) + "\n")
    tokenizer = tfzoo.load(bert).tokenizer
    ids = {word: number for number, word in enumerate([*WORDS, *more])}
    assert tokenizer(["a b a"])["token_ids"].numpy().tolist() == [
        [ids[word] for word in ("[CLS]", "a", "b", "a", "[SEP]")]]
    with pytest.raises(DataError, match="twice"):  # vocabularies for training are checked strictly
        load_tokenizer(bert)


def test_the_words_of_a_finished_run_are_there_once(ours):
    (ours / "vocab.txt").write_text("\n".join([*WORDS, "a"]))
    refused(ours, "vocab.txt: the vocabulary contains 'a' twice")
    (ours / "vocab.txt").write_text("\n".join([*WORDS, *(f"w{number}" for number in range(61))]))
    refused(ours, "the tokenizer has 86 ids, but the model's embedding table has only .* rows")


PADDING = {"strategy": {"Fixed": 10 ** 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
           "pad_type_id": 0, "pad_token": "[PAD]"}


def wordpiece(vocabulary, **model):
    """Return the content of a tokenizer.json similar to BERT's: dict."""
    return {"version": "1.0", "added_tokens": [], "normalizer": {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
        "lowercase": True}, "pre_tokenizer": {"type": "BertPreTokenizer"}, "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary, **model}}


@pytest.mark.parametrize("name, content, says", [
    ("tokenizer.json", b"{", "tokenizer.json: not JSON"), ("tokenizer.json", b"{}", "tokenizer.json.* cannot be read"),
    ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}}}', "duplicate key 'a'"),
    ("tokenizer.json", json.dumps(wordpiece({"[UNK]": 0, "a": 1})).encode(), "tokenizer.json.*no .PAD."),
    ("tokenizer.json", json.dumps(wordpiece(7)).encode(), "tokenizer.json cannot be read"),
    ("tokenizer.json", json.dumps(wordpiece({"a": 0}, unk_token="b")).encode(), "Missing .UNK. token"),
    ("tokenizer.json", b'{"model": {"type": "Unigram", "vocab": [["a", 0.0], ["</s>", 0.0]]}}', "`unk_id` is missing"),
    ("tokenizer.json", json.dumps({**wordpiece({"[UNK]": 0}), "padding": PADDING}).encode(), "no .PAD."),
    ("tokenizer.json", json.dumps(wordpiece({"[UNK]": 0, "a": 10 ** 9})).encode(), "has the id 1,000,000,000"),
    ("tokenizer.json", b'{"a":' * 10 ** 5, "tokenizer.json: not JSON"),
    ("tokenizer_config.json", b"[]", "tokenizer_config.json: not JSON"),
    ("vocab.json", b'{"a": 0}', "vocab.json: the vocabulary has no"), ("vocab.json", b'{"a\\n": "b"}', "map tokens to"),
    ("vocab.json", b'{"a": 0, "a": 1}', "duplicate key 'a'"), ("vocab.json", b"\xff", "vocab.json: not JSON"),
    ("spiece.model", b"none", "spiece.model: not a SentencePiece model")])
def test_a_damaged_vocabulary_is_refused(bert, name, content, says):
    if name != "tokenizer_config.json":
        (bert / "vocab.txt").unlink()
    (bert / "merges.txt").write_text("#version: 0.2\n")
    (bert / name).write_bytes(content)
    refused(bert, says)


def test_an_enormous_vocabulary_is_not_read(bert):
    with open(bert / "vocab.txt", "ab") as file:
        file.truncate(10 ** 9)
    refused(bert, "vocab.txt has 1,000,000,000 bytes, but may have at most")


@pytest.mark.parametrize("files, says", [
    ({"tokenizer.json": {"model": {"type": "Sorcery"}}}, "tokenizer.json: .*cannot be read"),
    ({"tokenizer.json": {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}},
     "the tokenizer has no end token: set eos_token"),
    ({"tokenizer.json": {"model": {"type": "BPE", "vocab": {}, "merges": []}, "normalizer": {
        "type": "Sequence", "normalizers": [{"type": "Sorcery"}]}}}, "cannot be read"),
    ({"tokenizer_config.json": {"tokenizer_class": "SorceryTokenizer"}, "vocab.txt": ""}, "not BERT: provide its"),
    ({"tokenizer_config.json": {"tokenizer_class": ["a\nb"]}, "vocab.txt": ""}, "not BERT: provide its"),
    ({"tokenizer_config.json": {"tokenizer_class": "a\nb"}, "tokenizer.model": ""}, r"belongs to 'a\\nb'"),
    ({"vocab.json": {}}, "no merges"),
    ({"vocab.txt": "\n".join([*WORDS, *(f"w{number}" for number in range(61))])},
     "the tokenizer has 86 ids, but the model's embedding table has only 61 rows"),
    ({"vocab.txt": "<s> 0\n", "bpe.codes": "a b 9\n", "config.json": "BertweetTokenizer"},
     "Bertweet.*not BERT: provide its"),
    ({"vocab.txt": "\n".join(WORDS), "added_tokens.json": {"[E1]": 40}}, r"'\[E1\]' has the id 40"),
    ({"vocab.txt": "\n".join(WORDS), "added_tokens.json": {f"w{number}": 25 + number for number in range(61)}},
     "the tokenizer has 86 ids, but the model's embedding table has only 61 rows")])
def test_a_tokenizer_of_a_kind_that_is_not_known_leaves_the_model(bert, files, says):
    (bert / "vocab.txt").unlink()
    files = dict(files)
    if "config.json" in files:  # as in BERTweet's folder
        change_config(bert, tokenizer_class=files.pop("config.json"))
    for name, content in files.items():
        (bert / name).write_text(content if isinstance(content, str) else json.dumps(content))
    loaded = tfzoo.load(bert)
    assert loaded.tokenizer is None and loaded.tokenizer_problem.isprintable()
    with pytest.raises(ConfigError, match=says):
        loaded.embed(["a"])


def test_whatever_needs_the_tokenizer_says_why_there_is_none(ours, bert, tmp_path):
    (bert / "added_tokens.json").write_text('{"[E1]": 40}')
    reason = r"this model has no tokenizer \(.*'\[E1\]' has the id 40 in its file, but 25"
    with pytest.raises(ConfigError, match=reason):
        tfzoo.load(bert).embed(["a"])
    settings = Settings(output_dir="x", data="x", task="masked_lm", init=str(bert))
    with pytest.raises(ConfigError, match=reason):
        open_init(settings)
    (ours / "vocab.txt").unlink()
    for dtype in (None, "mixed_bfloat16"):
        loaded = tfzoo.load(ours, dtype)
        for ask in (loaded.predict, loaded.embed):
            with pytest.raises(ConfigError, match=r"has no tokenizer \(no vocabulary at .*ours"):
                ask(["a"])
    with pytest.raises(ConfigError, match=r"has no tokenizer \(no vocabulary at .*ours"):
        evaluate.run(evaluate.make_flags().parse([f"--init={ours}", "--data=x"]))
    write_case("gpt2-GPT2LMHeadModel", tmp_path / "gpt2")
    with pytest.raises(ConfigError, match=r"has no tokenizer \(no vocabulary at .*gpt2"):
        generate.run(generate.make_flags().parse([f"--init={tmp_path / 'gpt2'}"]))


def test_a_sentencepiece_vocabulary_larger_than_the_table_is_not_used(tmp_path):
    write_case("t5-T5Model", tmp_path)
    shutil.copyfile(vocab_dir() / "t5" / "spiece.model", tmp_path / "spiece.model")
    loaded = tfzoo.load(tmp_path)
    assert loaded.tokenizer is None
    with pytest.raises(ConfigError, match="the tokenizer has 32,100 ids, but the model's embedding table has only 61 "):
        loaded.check_tokenizer()


@pytest.mark.parametrize("change, says", [
    ({"format_version": LINES}, "format version 'a"),
    ({"labels": None}, "damaged .labels must be a list of at least two different names for classification, got None"),
    ({"labels": ["x"]}, "damaged .labels must be a list of at least two different names .* got .'x'.."),
    ({"labels": ["x", 2]}, "labels is"),
    ({"labels": LINES}, "labels is 'a"),
    ({"labels": ["x", "y", LINES]}, "do not match model.keras"), ({"labels": DEEP}, "labels is"),
    ({"max_length": 0}, "max_length is 0, but must be from 1 to the model's 20"),
    ({"max_length": 21}, "max_length is 21"),
    ({"max_length": True}, "max_length is True"), ({"max_length": LINES}, "max_length is 'a"),
    ({"model": LINES}, "unknown model 'a"), ({"model": DEEP}, "model is"),
    ({"model": "gpt2_124m"}, "but model.keras contains a"),
    ({"task": None}, "task is None"), ({"task": "tagging"}, "do not match model.keras"),
    ({"task": LINES}, "unknown task 'a"), ({"task": DEEP}, "damaged"), ({"task": "seq2seq"}, "cannot learn"),
    ({"settings": LINES}, "settings is 'a"), ({"task": "masked_lm", "settings": {LINES: 1}}, "damaged")])
def test_settings_that_are_not_the_model_s_are_refused(ours, change, says):
    change_config(ours, **change)
    refused(ours, says)


def test_settings_that_are_missing_are_named(ours):
    (ours / "config.json").write_text('{"format_version": 1, "model": "bert_tiny"}')
    refused(ours, "damaged .no task")


def change_archive(folder, change, compression=zipfile.ZIP_STORED):
    """Apply `change` to the config.json in model.keras; it changes its argument in place, or returns a new config."""
    path = folder / "model.keras"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    parts["config.json"] = json.dumps(change(config) or config)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def body_of(config):
    return config["config"]["body"]["config"]


LAMBDA = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: x + 1))
DENSE = keras.saving.serialize_keras_object(keras.layers.Dense(10 ** 9))


@pytest.mark.parametrize("change, says", [
    (lambda config: config["config"].update(head=LAMBDA), "contains a 'keras.*>Lambda', which is unsafe"),
    (lambda config: config["config"].update(head=DENSE), "contains a 'keras.*>Dense', which is unsafe"),
    (lambda config: {**DENSE, "class_name": LINES}, "is a 'a"), (lambda config: {"class_name": DEEP[0][0]}, "is a "),
    (lambda config: {"class_name": "TaskModel", "registered_name": LINES}, "contains a 'a"),
    (lambda config: body_of(config).update(name={"module": "os", "class_name": "system"}), "contains a 'os>system'"),
    (lambda config: body_of(config).update(vocab_size=10 ** 12), "'vocab_size' is 1000000000000, but must be at most"),
    (lambda config: body_of(config).update(num_layers=10 ** 9), "'num_layers' is 1000000000, but must be at most"),
    (lambda config: body_of(config).update(num_layers=1000), "'num_layers' is 1000, but must be at most 1"),
    (lambda config: body_of(config).update(num_layers=50), "bytes, but its model's weights need"),
    (lambda config: body_of(config).update(vocab_size=2 ** 24, hidden_dim=2 ** 22),
     "bytes, but its model's weights need"),
    (lambda config: body_of(config).update(ffn_dim=2 ** 24), "bytes, but its model's weights need"),
    (lambda config: body_of(config).update(positions="sinusoidal", max_length=2 ** 24),
     "sinusoidal table of 16777216 x 24 exceeds"),
    (lambda config: config["config"].update(body=LINES), "has no body of a known type .Encoder"),
    (lambda config: config["config"].update(body=config["config"]["head"]), "has no body of a known type .Encoder"),
    (lambda config: config["config"].update(head=LINES), "cannot be loaded"),
    (lambda config: config["config"].update(head=config["config"]["body"]), "do not match model.keras|cannot be"),
    (lambda config: body_of(config).update(num_heads=0), "cannot be loaded"),
    (lambda config: body_of(config).update(num_heads=LINES), "cannot be loaded"),
    (lambda config: body_of(config).update({LINES: 1}), "cannot be loaded"),
    (lambda config: body_of(config).update(pooler=False), "contains 41 arrays, but its model has 39"),
    (lambda config: {LINES: [[[DEEP]]]}, "nested too deeply")])
def test_an_archive_of_other_than_our_models_is_refused(ours, change, says):
    change_archive(ours, change)
    refused(ours, says)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_says_what_it_said_is_loaded(ours, compression):
    before = tfzoo.load(ours).model.get_weights()
    change_archive(ours, lambda config: None, compression)
    assert all(np.array_equal(one, other) for one, other in zip(before, tfzoo.load(ours).model.get_weights()))


def test_a_model_of_keras_with_code_is_refused(ours):
    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x + 1)]).save(ours / "model.keras")
    refused(ours, "is a 'Sequential', but must be one of TaskModel")


def test_the_bound_of_memory_notices_what_is_taken(bert, monkeypatch):
    def read(path):
        raise DataError("x" * np.ones(size, np.uint8)[0])

    monkeypatch.setattr("tfzoo.checkpoints.folder.read_json", read)
    size = 10
    refused(bert, "x")
    size = 300_000_000
    with pytest.raises(AssertionError, match="bytes were taken"):
        refused(bert, "x")


@pytest.mark.parametrize("change, text", [
    ({"max_input_chars_per_word": 3}, "abcd"), ({"continuing_subword_prefix": "b"}, "abc"),
    ({"unk_token": "a"}, "xyz")])
def test_a_wordpiece_that_is_not_bert_s_gives_the_package_s_ids(bert, change, text):
    (bert / "vocab.txt").unlink()
    content = wordpiece({word: number for number, word in enumerate(WORDS)}, **change)
    (bert / "tokenizer.json").write_text(json.dumps(content))
    (bert / "tokenizer_config.json").write_text('{"eos_token": "[SEP]"}')
    package = Tokenizer.from_file(str(bert / "tokenizer.json"))
    assert tfzoo.load(bert).tokenizer.encode([text]).to_list() == [package.encode(text).ids]
    (bert / "tokenizer.json").write_text(json.dumps(wordpiece(content["model"]["vocab"])))
    assert tfzoo.load(bert).tokenizer.encode([text]).to_list() != [package.encode(text).ids]
