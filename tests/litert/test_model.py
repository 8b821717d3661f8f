"""Predictions without TensorFlow: those of tfzoo.load, also in a process where TensorFlow cannot be imported."""
import concurrent.futures
import json
import subprocess
import sys

import numpy as np
import pytest

import tfzoo.litert
from tests.export.test_litert import TEXTS, make, shipped
from tests.helpers import vocab_dir
from tests.models.test_models import SMALL
from tfzoo.errors import ConfigError, DataError
from tfzoo.export.litert import export_litert
from tfzoo.text import load_tokenizer

ASK = """
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_text"] = None  # as if they were not installed
import json
import tfzoo, tfzoo.litert
file = tfzoo.litert.load(sys.argv[1])
print(json.dumps(file.predict(json.load(sys.stdin))))
assert not {"keras", "absl", "tqdm", "tensorboard"} & set(sys.modules), set(sys.modules)
for name in tfzoo.__all__:
    try:
        getattr(tfzoo, name)
    except ImportError as error:
        assert str(error).startswith(f"tfzoo.{name} requires TensorFlow") and "\\n" not in str(error)
    else:
        raise AssertionError(name)
"""


def same(live, found):
    assert len(live) == len(found)
    for one, other in zip(live, found):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if key == "probabilities":
                one_by_one = [list(each.values()) if isinstance(each, dict) else each for each in (value, other[key])]
                np.testing.assert_allclose(*one_by_one, atol=1e-5)
            elif key == "value":
                assert abs(value - other[key]) < 1e-5
            else:
                assert value == other[key]


def test_a_process_without_tensorflow_gives_the_live_answers(tmp_path):
    loaded = make("bert_tiny", "classification", ["no", "yes"])
    shipped(loaded, tmp_path / "file", batches=[2])
    done = subprocess.run([sys.executable, "-c", ASK, str(tmp_path / "file")], input=json.dumps(TEXTS),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    same(loaded.predict(TEXTS), json.loads(done.stdout))
    file = tfzoo.litert.load(tmp_path / "file", threads=1)
    same(loaded.predict(TEXTS, TEXTS[::-1]), file.predict(TEXTS, TEXTS[::-1]))
    same(loaded.predict([b"\xff", "\ud800"]), file.predict([b"\xff", "\ud800"]))
    assert file.predict([]) == [] and file.cut == 2  # the two pairs with "x" * 100
    for run, says in ((lambda: file.predict("a"), "texts must be a list of strings, got 'a'"),
                      (lambda: file.predict([3]), r"texts\[0\] must be a str, got '3'"),
                      (lambda: file.predict(["a"], []), "got 0 pairs for 1 texts"),
                      (lambda: file.embed(["a"]), "this file returns logits")):
        with pytest.raises(ConfigError, match=says):
            run()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["regression", "multi_label", "multiple_choice", "windows", "contrastive"])
def test_the_other_tasks_give_the_live_answers(task, tmp_path):
    labels = {"multi_label": ["a", "b", "c"], "windows": ["no", "yes"]}.get(task)
    settings = {"long": "windows", "long_pooling": "max"} if task == "windows" else {}
    loaded = make("bert_tiny", "classification" if task == "windows" else task, labels, **settings)
    loaded.model.task = loaded.task
    shipped(loaded, tmp_path / "file")
    file = tfzoo.litert.load(tmp_path / "file")
    if task == "contrastive":
        np.testing.assert_allclose(file.embed(TEXTS), loaded.embed(TEXTS), rtol=1e-5, atol=1e-5)
    elif task == "multiple_choice":
        rows = [{"text": "a", "choices": ["b", "cd"]}, {"text": "b", "choices": ["c", "def", "g"]}]
        same(loaded.predict(rows), file.predict(rows))
        with pytest.raises(ConfigError, match=r"texts\[0\] must have text, a string, and choices"):
            file.predict([{"text": "a", "choices": ["b"]}])
    else:
        same(loaded.predict(TEXTS), file.predict(TEXTS))


SENTENCES = [*TEXTS, ["Ada", "", "Lovelace's", "\u4e2d\u6587", "x" * 50, "y"], [], ["\u200b", "a"],
             "Don't  \U0001f600! a\u0301", " ".join(f"word{number}" for number in range(30))]


@pytest.mark.parametrize("labels, settings", [
    (["O", "B-X", "I-X"], {"decoding": "viterbi", "overlap": 5}), (["O", "B-X", "I-X"], {}), (["ADJ", "NOUN"], {})])
def test_tags_are_those_of_the_live_model(labels, settings, tmp_path):
    loaded = make("bert_tiny", "tagging", labels, **settings)
    loaded.model.task = loaded.task
    shipped(loaded, tmp_path / "file", lengths=[24], batches=[4])
    file = tfzoo.litert.load(tmp_path / "file")
    found = file.predict(SENTENCES)
    same(loaded.predict(SENTENCES), found)
    assert len({tag for answer in found for tag in answer["tags"]}) > 1
    assert file.predict([]) == [] and file.predict([[]]) == [{"tokens": [], "tags": [], "entities": []}]
    with pytest.raises(ConfigError, match=r"texts\[1\]\[0\] must be a str, got '3'"):
        file.predict(["a", [3]])
    with pytest.raises(ConfigError, match="tagging does not accept pairs"):
        file.predict(["a"], ["b"])
    config = json.loads((tmp_path / "file" / "config.json").read_text())
    for ranges in (None, [], [[1, 0]], [[0, 9]], [[0, 0], [0, 1]], [[0, "0"]], [[0, 0], [1 << 21, 1]]):
        (tmp_path / "file" / "config.json").write_text(json.dumps(
            {**config, "litert": {**config["litert"], "word_kinds": ranges}}))
        with pytest.raises(DataError, match=r"config.json is damaged \(word_kinds\)"):
            tfzoo.litert.load(tmp_path / "file")
    del config["litert"]["word_kinds"]
    (tmp_path / "file" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="an earlier version exported this file"):
        tfzoo.litert.load(tmp_path / "file").predict(["a"])


@pytest.mark.slow
def test_tags_need_no_tensorflow(tmp_path):
    loaded = make("bert_tiny", "tagging", ["O", "B-X", "I-X"])
    shipped(loaded, tmp_path / "file", lengths=[24], batches=[1])
    done = subprocess.run([sys.executable, "-c", ASK, str(tmp_path / "file")], input=json.dumps(SENTENCES),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    same(loaded.predict(SENTENCES), json.loads(done.stdout))


@pytest.mark.slow
def test_long_signatures_have_few_rows_by_default(tmp_path):
    loaded = make("bert_tiny", None)
    loaded.model = tfzoo.build("bert_tiny", **{**SMALL, "vocab_size": 260, "max_length": 600})
    loaded.config["max_length"] = 600
    found = export_litert(loaded, tmp_path)
    assert found["max_length"] == 512 and found["signatures"][-2:] == ["encode_128_batch_32", "encode_512"]
    texts = ["x" * 400, "a", "y" * 700, "z" * 500]
    vectors, file = loaded.embed(texts), tfzoo.litert.load(tmp_path)
    np.testing.assert_allclose(file.embed(texts)[[0, 1, 3]], vectors[[0, 1, 3]], rtol=1e-5, atol=1e-5)
    assert file.cut == 1


def test_threads_get_their_own_answers(tmp_path):
    loaded = make("bert_tiny", "classification", ["no", "yes"])
    shipped(loaded, tmp_path, lengths=[24], batches=[1])
    file, texts = tfzoo.litert.load(tmp_path), [f"text {number}" * (number % 3 + 1) for number in range(40)]
    alone = [file.predict([text]) for text in texts]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: file.predict([text]), texts)) == alone
    assert len({str(answer) for answer in alone}) > 30
    with pytest.raises(ConfigError, match="threads must be a positive integer, got -1"):
        tfzoo.litert.load(tmp_path, threads=-1)


def test_a_text_without_tokens_has_no_direction(tmp_path):
    body = make("gpt2_tiny", None)
    body.tokenizer = load_tokenizer(vocab_dir() / "gpt2", bare=True)
    body.model = tfzoo.build("gpt2_tiny", **{**SMALL, "vocab_size": 50257, "max_length": 24})
    file = shipped(body, tmp_path, lengths=[24], batches=[2])
    texts = ["", "a film", " "]
    vectors = tfzoo.litert.load(tmp_path).embed(texts)
    assert not vectors[0].any() and vectors[1].any()
    for other in (body, file):
        np.testing.assert_allclose(vectors, other.embed(texts), rtol=1e-5, atol=1e-5)


def test_windows_and_pairs_as_live(tmp_path):
    loaded = make("bert_tiny", "classification", ["no", "yes"], long="windows", overlap=8)
    loaded.model.task = loaded.task
    with pytest.raises(ConfigError, match="--overlap=8 must be less than 6"):
        export_litert(loaded, tmp_path / "small", lengths=[8], batches=[1])
    file = shipped(loaded, tmp_path / "file", lengths=[16], batches=[2])
    assert file.config["max_length"] == 16
    same(file.predict(TEXTS), tfzoo.litert.load(tmp_path / "file").predict(TEXTS))
    with pytest.raises(ConfigError, match="pairs of texts cannot be split into windows"):
        tfzoo.litert.load(tmp_path / "file").predict(["a"], ["b"])


def test_damaged_settings_are_one_line(tmp_path):
    shipped(make("bert_tiny", "classification", ["no", "yes"]), tmp_path, lengths=[24], batches=[1])
    path = tmp_path / "config.json"
    whole = json.loads(path.read_text())
    given = whole["litert"]
    for change in ({"labels": None}, {"labels": ["no"]}, {"labels": "no"}, {"settings": None}, {"max_length": "24"},
                   {"max_length": 0}, {"max_length": 25}, {"litert": []}, {"embedding": {}}, {"model": 3},
                   *({"litert": {name: value for name, value in given.items() if name != missing}}
                     for missing in ("body", "inputs", "output", "output_shape", "sha256", "tokenizer")),
                   *({"litert": {**given, **other}} for other in (
                       {"output": "embedding"}, {"output_shape": [None, 3]}, {"batches": [0]}, {"cache_length": 9},
                       {"body": {"vocab_size": "9"}}))):
        path.write_text(json.dumps({**whole, **change}))
        for load in (tfzoo.load, tfzoo.litert.load):
            with pytest.raises(DataError, match="config.json is damaged") as raised:
                load(tmp_path)
            assert "\n" not in str(raised.value)
    path.write_text(json.dumps({**whole, "litert": {**given, "tokenizer": "0" * 64}}))
    with pytest.raises(DataError, match="belong to another export"):
        tfzoo.load(tmp_path)


def test_what_is_no_exported_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder written by experiments.export"):
        tfzoo.litert.load(tmp_path)
