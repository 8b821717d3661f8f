"""Small data, and the scripts called in this process."""
import json
import sys

import pytest

from experiments import app, convert, evaluate, export, finetune, generate, models, predict, pretrain

SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate, "predict": predict, "generate": generate,
           "export": export, "convert": convert, "models": models}
SMALL_MODEL = ["--override=num_layers=1", "--override=hidden_dim=16", "--override=num_heads=2", "--override=ffn_dim=32"]


@pytest.fixture
def call(capsys):
    """Return a function: script and words to (exit code, stdout, stderr)."""
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


@pytest.fixture
def reviews(tmp_path):
    folder = tmp_path / "reviews"
    folder.mkdir()
    write_reviews(folder / "train.jsonl")
    write_reviews(folder / "eval.jsonl", 12)
    return str(folder)


@pytest.fixture
def finetuned(call, reviews, tmp_path):
    """A finished run's folder."""
    words = ["--model=bert_tiny", *SMALL_MODEL, f"--data={reviews}", "--tokenizer=bytes", "--steps=4", "--batch_size=8",
             "--max_length=32", f"--output_dir={tmp_path / 'run'}"]
    code, out, err = call("finetune", *words)
    assert code == 0, err
    return str(tmp_path / "run")
