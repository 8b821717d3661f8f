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


@pytest.mark.slow
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
    served = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    served = served(text=tf.constant(["Bob # saw Rome"]))
    assert served["tags"].numpy().tolist() == [[b"I-PER", b"O", b"O", b"I-LOC"]]
    assert served["length"].numpy().tolist() == [4] and served["starts"].numpy().tolist() == [[0, 4, 6, 10]]


@pytest.mark.slow
def test_context_spans_and_settings_reach_the_model(call, tmp_path):
    rows = []
    for number in range(40):
        name, place = NAMES[number % 3], PLACES[number % 2]
        rows.append({"text": f"{name} saw ({place}).", "document": number // 4, "entities": [
            {"start": 0, "end": 3, "type": "PER"}, {"start": 9, "end": 12, "type": "LOC"}]})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ["--task=tagging", "--model=bert_tiny", *SMALL_MODEL, "--tokenizer=bytes", "--max_length=24", "--steps=4"]
    code, out, err = call("finetune", *common, f"--data={tmp_path / 'a.jsonl'}", f"--eval_data={tmp_path / 'a.jsonl'}",
                          "--context=4", "--overlap=3", "--strict", f"--output_dir={tmp_path / 'run'}")
    assert code == 0 and "40 entities did not end at the edges of words" in err and "240 words" in err, err
    settings = {"overlap": 3, "context": 4, "decoding": "viterbi", "strict": True, "predicates": False}
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["settings"] == settings
    trained = json.loads(out.splitlines()[-1])
    code, out, err = call("evaluate", f"--init={tmp_path / 'run'}", f"--data={tmp_path / 'a.jsonl'}", "--batch_size=7")
    assert code == 0 and json.loads(out.splitlines()[-1])["f1"] == trained["f1"], err
    code, out, err = call("evaluate", f"--init={tmp_path / 'run'}", f"--data={tmp_path / 'a.jsonl'}",
                          "--decoding=argmax", "--nostrict")
    assert code == 0, err
    answers = []
    for size in (40, 3):  # documents stay together
        code, out, err = call("predict", f"--init={tmp_path / 'run'}", f"--data={tmp_path / 'a.jsonl'}",
                              f"--batch_size={size}")
        assert code == 0 and len(out.splitlines()) == 40, err
        answers.append([json.loads(line) for line in out.splitlines()])
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_roles_depend_on_the_predicate(call, tmp_path):
    common = ["--task=tagging", "--model=bert_tiny", *SMALL_MODEL, "--tokenizer=bytes", "--max_length=24"]
    roles = [{"tokens": [name, "saw", "and", "met", place], "predicate": 1 + 2 * (number % 2),
              "tags": ["B-A0", "BO"[number % 2] + "-V" * (1 - number % 2), "O", "OB"[number % 2] + "-V" * (number % 2),
                       "B-A1"]} for number, (name, place) in enumerate([(name, place) for name in NAMES
                                                                        for place in PLACES] * 8)]
    (tmp_path / "roles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in roles))
    code, out, err = call("finetune", *common, "--epochs=30", "--batch_size=8", "--learning_rate=1e-2",
                          f"--data={tmp_path / 'roles.jsonl'}", f"--eval_data={tmp_path / 'roles.jsonl'}",
                          f"--output_dir={tmp_path / 'roles'}")
    assert code == 0 and json.loads(out.splitlines()[-1])["f1"] == 1.0, err  # unsolvable without the predicate
    code, out, err = call("predict", f"--init={tmp_path / 'roles'}", f"--data={tmp_path / 'roles.jsonl'}")
    assert code == 0 and [json.loads(line)["tags"] for line in out.splitlines()] == [row["tags"] for row in roles], err
    (tmp_path / "bare.txt").write_text("Ann saw Rome\n")
    code, _, err = call("predict", f"--init={tmp_path / 'roles'}", f"--data={tmp_path / 'bare.txt'}")
    assert code == 65 and "no predicates, but the model was trained with one" in err.splitlines()[-1]
    code, _, err = call("export", f"--init={tmp_path / 'roles'}", f"--output_dir={tmp_path / 'served'}")
    assert code == 1 and "needs the predicate of each sentence" in err.splitlines()[-1]


def test_settings_of_tagging_are_refused_elsewhere(call, folder, finetuned, reviews, tmp_path):
    code, _, err = call("evaluate", f"--init={finetuned}", f"--data={reviews}", "--decoding=argmax")
    assert code == 1 and "--decoding=argmax does not apply to a model for classification" in err.splitlines()[-1]
    words = ["--model=bert_tiny", *SMALL_MODEL, "--tokenizer=bytes", "--steps=1", "--max_length=16",
             f"--output_dir={tmp_path / 'new'}"]
    for more, says in (([f"--data={reviews}", "--context=3"], "--context=3 requires --task=tagging"),
                       ([f"--data={folder}", "--task=tagging", "--context=3"], "does not mark documents"),
                       ([f"--data={folder}", "--task=tagging", "--strict"], "strict scoring requires labels"),
                       ([f"--data={folder}", "--task=tagging", "--overlap=16"], "--overlap=16 must be less than 14")):
        code, _, err = call("finetune", *words, *more)
        assert code == 1 and says in err.splitlines()[-1] and "Traceback" not in err, err


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
