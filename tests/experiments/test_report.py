"""evaluate --report and --compare, and long texts in windows, with the scripts."""
import json

import pytest

import tfzoo
from tests.experiments.conftest import SMALL_MODEL
from tests.experiments.test_contract import TRAIN, last_json
from tests.experiments.test_report_numbers import check_page


@pytest.mark.slow
def test_long_texts_are_trained_evaluated_and_reported_in_windows(call, finetuned, reviews, tmp_path):
    words = [*TRAIN, "--max_length=16", f"--data={reviews}", f"--output_dir={tmp_path / 'windows'}", "--long=windows",
             "--overlap=3", "--long_pooling=max"]
    code, out, err = call("finetune", *words)
    assert code == 0 and "eval.jsonl: 12 of 12 texts were split into 24 windows of up to 16 tokens" in err, err
    results, report = last_json(out), tmp_path / "report"
    code, out, err = call("evaluate", f"--init={tmp_path / 'windows'}", f"--data={reviews}", f"--report={report}",
                          f"--compare={finetuned}")
    metrics = last_json(out)
    assert code == 0 and metrics.pop("report") == str(report / "report.html") and metrics.pop("examples") == 12, err
    for name, value in metrics.items():
        assert value == pytest.approx(results[name], abs=1e-6)
    numbers = json.loads((report / "report.json").read_text())
    assert numbers["metrics"] == metrics and numbers["examples"] == 12
    for name in ("accuracy", "f1", "precision", "recall"):
        assert numbers["intervals"][name]["value"] == pytest.approx(metrics[name])
    code, out, _ = call("evaluate", f"--init={finetuned}", f"--data={reviews}")
    other = last_json(out)
    assert {"examples": 12, **numbers["compare"]["metrics"]} == pytest.approx(other)
    check_page((report / "report.html").read_text())
    code, out, err = call("predict", f"--init={tmp_path / 'windows'}", f"--data={reviews}/eval.jsonl")
    answers, rows = ([json.loads(line) for line in lines]
                     for lines in (out.splitlines(), open(f"{reviews}/eval.jsonl")))
    for answer, again in zip(answers, tfzoo.load(tmp_path / "windows").predict([row["text"] for row in rows])):
        assert answer["label"] == again["label"]
        assert answer["probabilities"] == pytest.approx(again["probabilities"], abs=1e-6)
    answers, labels = ([row["label"] for row in each] for each in (answers, rows))
    assert code == 0 and "12 of 12 texts were split into 24 windows of up to 16 tokens" in err
    assert metrics["accuracy"] == sum(map(str.__eq__, answers, labels)) / 12 and last_json(err)["split"] == 12


def test_what_cannot_be_reported_is_refused_before_any_work(call, finetuned, reviews, tmp_path):
    code, _, err = call("evaluate", f"--init={finetuned}", f"--data={reviews}", f"--compare={finetuned}")
    assert code == 1 and err.splitlines() == [f"evaluate: --compare={finetuned} requires --report"]
    code, _, err = call("evaluate", f"--init={finetuned}", f"--data={reviews}", f"--report={finetuned}")
    assert code == 1 and "which tfzoo did not write: choose a new or empty folder" in err
    code, _, err = call("evaluate", f"--init={finetuned}", f"--data={reviews}", "--report=gs://bucket/report")
    assert code == 1 and "--report is gs://bucket/report, but must be on this machine" in err
    words = ["--model=bert_tiny", "--tokenizer=bytes", *SMALL_MODEL, f"--data={reviews}", "--steps=1",
             f"--output_dir={tmp_path / 'run'}"]
    for more, says in ((["--overlap=8"], "--overlap=8 requires --long=windows, got --long=cut"),
                       (["--long_pooling=max"], "--long_pooling=max requires --long=windows"),
                       (["--task=tagging", "--long=windows"], "--long=windows requires --task=classification")):
        code, _, err = call("finetune", *words, *more)
        assert code == 1 and says in err and len(err.splitlines()) == 1, err


@pytest.mark.slow
def test_models_of_different_tasks_are_not_compared(call, finetuned, reviews, tmp_path):
    words = ["--model=bert_tiny", "--tokenizer=bytes", *SMALL_MODEL, f"--data={reviews}", "--steps=1",
             "--max_length=16", f"--output_dir={tmp_path / 'lm'}"]
    assert call("pretrain", *words)[0] == 0
    report = f"--report={tmp_path / 'report'}"
    code, _, err = call("evaluate", f"--init={finetuned}", f"--data={reviews}", report, f"--compare={tmp_path / 'lm'}")
    assert code == 1 and "was trained for masked_lm, but --init=" in err
    code, _, err = call("evaluate", f"--init={tmp_path / 'lm'}", f"--data={reviews}", report)
    assert code == 1 and "--report is not available for masked_lm" in err and not (tmp_path / "report").exists()
