"""Tagging with the scripts, end to end on a small .conll file: finetune, evaluate, predict, export."""
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.experiments.conftest import SMALL_MODEL

NAMES, PLACES = ("Ann", "Bob", "Eve"), ("Rome", "Oslo")


def write_conll(path, count, seed):
    rng = np.random.default_rng(seed)
    with open(path, "w") as file:
        for _ in range(count):
            name, place = NAMES[rng.integers(3)], PLACES[rng.integers(2)]
            file.write(f"{name} I-PER\n# O\nsaw O\n{place} I-LOC\n\t\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    write_conll(folder / "train.conll", 60, 0)
    write_conll(folder / "eval.conll", 12, 1)
    return folder


def test_finetune_evaluate_predict_export(call, folder, tmp_path):
    words = ["--task=tagging", "--model=bert_tiny", *SMALL_MODEL, f"--data={folder}", "--tokenizer=learn:wordpiece:100",
             "--epochs=25", "--batch_size=8", "--max_length=12", "--learning_rate=5e-3", "--log_every=20",
             f"--output_dir={tmp_path / 'run'}"]
    code, out, err = call("finetune", *words)
    assert code == 0, err
    results = json.loads(out.splitlines()[-1])
    assert results["f1"] == 1.0 and results["accuracy"] == 1.0 and results["f1/PER"] == 1.0
    code, out, err = call("evaluate", f"--init={tmp_path / 'run'}", f"--data={folder}")
    assert code == 0 and json.loads(out.splitlines()[-1])["f1"] == 1.0, err
    (tmp_path / "texts.txt").write_text("Eve # saw  Oslo\n\nBob\n")
    code, out, err = call("predict", f"--init={tmp_path / 'run'}", f"--data={tmp_path / 'texts.txt'}")
    assert code == 0, err
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers[0]["entities"] == [{"type": "PER", "start": 0, "end": 3, "text": "Eve"},
                                      {"type": "LOC", "start": 11, "end": 15, "text": "Oslo"}]
    assert answers[1] == {"tokens": [], "tags": [], "entities": []} and len(answers) == 3
    code, out, err = call("predict", f"--init={tmp_path / 'run'}", f"--data={folder / 'eval.conll'}")
    assert code == 0 and len(out.splitlines()) == 12, err
    assert json.loads(out.splitlines()[0])["tags"][:2] == ["I-PER", "O"]
    code, out, err = call("export", f"--init={tmp_path / 'run'}", f"--output_dir={tmp_path / 'served'}")
    assert code == 0, err
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    served = served(text=tf.constant(["Bob # saw Rome"]))
    assert served["tags"].numpy().tolist() == [[b"I-PER", b"O", b"O", b"I-LOC"]]
    assert served["length"].numpy().tolist() == [4] and served["starts"].numpy().tolist() == [[0, 4, 6, 10]]


def test_data_and_task_must_fit(call, folder, reviews, tmp_path):
    words = ["--model=bert_tiny", "--tokenizer=bytes", f"--output_dir={tmp_path / 'run'}"]
    code, _, err = call("finetune", "--task=tagging", "--override=pooler=True", "--steps=1", "--max_length=16",
                        f"--data={folder}", *words)
    assert code == 1 and "no gradient reaches pooler/kernel, pooler/bias: the loss of tagging" in err, err
    assert "Traceback" not in err and len(err.strip().splitlines()[-1]) < 250
    code, _, err = call("finetune", "--task=tagging", f"--data={reviews}", *words)
    assert code == 65 and "tokens" in err and len(err.strip().splitlines()) == 1
    code, _, err = call("finetune", "--task=classification", f"--data={folder}", *words)
    assert code == 65 and len(err.strip().splitlines()) == 1
