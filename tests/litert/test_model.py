"""Predictions without TensorFlow: those of tfzoo.load, also in a process where TensorFlow cannot be imported."""
import json
import subprocess
import sys

import numpy as np
import pytest

import tfzoo.litert
from tests.export.test_litert import TEXTS, make, shipped
from tfzoo.errors import ConfigError

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
@pytest.mark.parametrize("task", ["regression", "multi_label", "multiple_choice", "windows", "contrastive", "tagging"])
def test_the_other_tasks_give_the_live_answers(task, tmp_path):
    labels = {"multi_label": ["a", "b", "c"], "windows": ["no", "yes"], "tagging": ["O", "B-X"]}.get(task)
    settings = {"long": "windows", "long_pooling": "max"} if task == "windows" else {}
    loaded = make("bert_tiny", "classification" if task == "windows" else task, labels, **settings)
    loaded.model.task = loaded.task
    shipped(loaded, tmp_path / "file")
    file = tfzoo.litert.load(tmp_path / "file")
    if task == "contrastive":
        np.testing.assert_allclose(file.embed(TEXTS), loaded.embed(TEXTS), rtol=1e-5, atol=1e-5)
    elif task == "tagging":
        with pytest.raises(ConfigError, match="use tfzoo.load, which requires TensorFlow"):
            file.predict(TEXTS)
    elif task == "multiple_choice":
        rows = [{"text": "a", "choices": ["b", "cd"]}, {"text": "b", "choices": ["c", "def", "g"]}]
        same(loaded.predict(rows), file.predict(rows))
        with pytest.raises(ConfigError, match=r"texts\[0\] must have text, a string, and choices"):
            file.predict([{"text": "a", "choices": ["b"]}])
    else:
        same(loaded.predict(TEXTS), file.predict(TEXTS))


def test_what_is_no_exported_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder written by experiments.export"):
        tfzoo.litert.load(tmp_path)
