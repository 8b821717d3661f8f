"""Question answering with the scripts, end to end on a small file: finetune, evaluate, predict, export."""
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.experiments.conftest import SMALL_MODEL

NAMES, PLACES = ("Ann", "Bob", "Eve"), ("Rome", "Oslo")


def write_squad(path, count, seed, unanswerable):
    # Where the place is not named, there is no answer.
    rng, paragraphs = np.random.default_rng(seed), []
    for number in range(count):
        place, where = PLACES[rng.integers(2)], int(rng.integers(6))
        known = not unanswerable or number % 2 == 0
        words = ["yes"] * where + [NAMES[rng.integers(3)], "lives", "in", place if known else "no", "\U0001f600"]
        context = " ".join(words + ["yes"] * (8 - where))
        answers = [{"text": place, "answer_start": context.index(place)}] if known else []
        paragraphs.append({"context": context, "qas": [{"id": f"n{number}", "question": "where ?", "answers": answers,
                                                        "is_impossible": not known}]})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "", "paragraphs": paragraphs}]}))


@pytest.mark.slow
@pytest.mark.parametrize("unanswerable", [False, True])
def test_finetune_evaluate_predict_export(call, tmp_path, unanswerable):
    write_squad(tmp_path / "train.json", 60, 0, unanswerable)
    write_squad(tmp_path / "dev.json", 12, 1, unanswerable)
    write_squad(tmp_path / "test.json", 8, 2, unanswerable)
    run = tmp_path / "run"
    code, out, err = call(
        "finetune", "--task=question_answering", "--model=bert_tiny", *SMALL_MODEL, f"--data={tmp_path}",
        "--tokenizer=learn:wordpiece:100", "--steps=60", "--batch_size=16", "--max_length=12", "--dropout=0",
        "--learning_rate=1e-2", "--eval_every=30", "--overlap=2", f"--output_dir={run}", f"--test_data={tmp_path}")
    assert code == 0, err
    results = json.loads(out.splitlines()[-1])
    assert results["exact_match"] == results["f1"] == 100 and "windows of up to 12 tokens" in err
    settings = json.loads((run / "model" / "config.json").read_text())["settings"]
    assert settings["scoring"] == "squad" and settings["null_threshold"] == results.get("best_f1_threshold")
    assert ("NoAns_f1" in results) == (settings["null_threshold"] is not None) == unanswerable
    code, out, err = call("evaluate", f"--init={run}", f"--data={tmp_path / 'dev.json'}")
    found = json.loads(out.splitlines()[-1])
    assert code == 0 and found["f1"] == 100 and found["examples"] == 12, err
    assert not unanswerable or found["f1_at_threshold"] == 100
    code, out, err = call("evaluate", f"--init={run}", f"--data={tmp_path / 'test.json'}")
    found = json.loads(out.splitlines()[-1])
    assert found.pop("examples") == 8 and {name: results[f"test_{name}"] for name in found} == pytest.approx(found)
    assert ("test_f1_at_threshold" in results) == unanswerable

    rows = [{"question": "where ?", "context": context} for context in (
        "yes Eve lives in Oslo \U0001f600 yes", "Eve lives in no yes yes",
        "\U0001f600 yes " * 9 + "Bob lives in Rome")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = call("predict", f"--init={run}", f"--data={tmp_path / 'rows.jsonl'}")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [answer["answer"] for answer in answers[::2]] == ["Oslo", "Rome"], err
    assert (answers[2]["start"], answers[2]["end"]) == (67, 71) and "1 of 3 texts were split into 4 windows" in err
    assert not unanswerable or answers[1]["answer"] == ""
    code, out, err = call("predict", f"--init={run}", f"--data={tmp_path / 'dev.json'}", "--null_threshold=-1e9")
    assert code == 0 and {answer["answer"] for answer in map(json.loads, out.splitlines())} == {""}, err

    code, out, err = call("export", f"--init={run}", f"--output_dir={tmp_path / 'served'}")
    assert code == 0, err
    serve = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    served = serve(question=tf.constant(["where ?"]), context=tf.constant([rows[0]["context"]]))
    assert {key: value.numpy()[0] for key, value in served.items() if key != "score"} == {
        "answer": answers[0]["answer"].encode(), "start": answers[0]["start"], "end": answers[0]["end"], "cut": 0}


def test_bad_questions_and_settings_are_refused_in_one_line(call, tmp_path, reviews):
    write_squad(tmp_path / "train.json", 4, 0, False)
    words = ["--task=question_answering", "--model=bert_tiny", "--tokenizer=bytes", f"--output_dir={tmp_path / 'run'}"]
    data = f"--data={tmp_path / 'train.json'}"
    for more, code, says in (([f"--data={reviews}"], 65, "line 1: no value for question, context, answers"),
                             ([data, "--overlap=200", "--max_length=64"], 1, "--overlap=200 must be less than 31"),
                             ([data, "--max_length=1"], 1, "max_length must be at least")):
        found, _, err = call("finetune", *words, *more)
        assert found == code and says in err.splitlines()[-1] and "Traceback" not in err, err
    found, _, err = call("finetune", "--model=bert_tiny", "--tokenizer=bytes", f"--data={reviews}", "--max_answer=9",
                         f"--output_dir={tmp_path / 'run'}")
    assert found == 1 and "--max_answer=9 requires --task=question_answering" in err
