"""Fixtures: small data, and the scripts called in this process."""
import json
import shutil
import sys

import pytest

from experiments import app, convert, evaluate, export, finetune, generate, models, predict, pretrain

SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate, "predict": predict, "generate": generate,
           "export": export, "convert": convert, "models": models}
SMALL_MODEL = ["--override=num_layers=1", "--override=hidden_dim=16", "--override=num_heads=2", "--override=ffn_dim=32"]


@pytest.fixture
def call(capsys):
    """Return a function from script and words to (exit code, stdout, stderr)."""
    def run(name, *words):
        script = SCRIPTS[name].make_flags()
        code = app.execute(script, SCRIPTS[name].run, list(words),
                           sys.stderr if name in ("predict", "generate", "models") else None)
        captured = capsys.readouterr()
        return code, captured.out, captured.err
    return run


def write_reviews(path, count=60):
    with open(path, "w") as file:
        for number in range(count):
            good = number % 3 == 0
            file.write(json.dumps({"text": f"{'good' if good else 'bad'} film number {number}",
                                   "label": "pos" if good else "neg"}) + "\n")
    return str(path)


def write_pairs(path, count=60):
    with open(path, "w") as file:
        for number in range(count):
            row = {"text": f"which film is number {number}", "text_pair": f"film {number} of {number % 7}"}
            file.write(json.dumps({**row, "negatives": [f"no film {number}"]} if number % 3 == 0 else row) + "\n")
    return str(path)


def write_parts(folder):
    folder.mkdir()
    write_reviews(folder / "train.jsonl")
    write_reviews(folder / "eval.jsonl", 12)
    return str(folder)


@pytest.fixture
def reviews(tmp_path):
    return write_parts(tmp_path / "reviews")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned")
    words = ["--model=bert_tiny", *SMALL_MODEL, f"--data={write_parts(folder / 'reviews')}", "--tokenizer=bytes",
             "--steps=4", "--batch_size=8", "--max_length=32", f"--output_dir={folder / 'run'}"]
    assert app.execute(finetune.make_flags(), finetune.run, words) == 0
    return folder / "run"


@pytest.fixture
def finetuned(trained, tmp_path):
    """Return a copy of the folder of a finished run, for one test."""
    shutil.copytree(trained, tmp_path / "run")
    return str(tmp_path / "run")
