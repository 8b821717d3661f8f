"""Contrastive learning with the scripts: texts, pairs and scores, through training, evaluation, vectors and export."""
import json

import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.experiments.conftest import SMALL_MODEL, write_pairs

WORDS = ["--model=bert_tiny", *SMALL_MODEL, "--tokenizer=bytes", "--max_length=24", "--batch_size=8"]


def results_of(out):
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_texts_are_pretrained_and_scored_on_pairs(call, tmp_path):
    (tmp_path / "texts.txt").write_text("".join(f"text number {number}\n" for number in range(40)))
    scored = [{"text": f"text {number}", "text_pair": f"number {number % 5}", "label": number % 4}
              for number in range(12)]
    (tmp_path / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
    run = f"--output_dir={tmp_path / 'run'}"
    code, out, err = call("pretrain", "--task=contrastive", *WORDS, "--pooling=first", "--steps=2", run,
                          f"--data={tmp_path / 'texts.txt'}", f"--eval_data={tmp_path / 'scored.jsonl'}")
    assert code == 0, err
    results = results_of(out)
    assert {"loss", "pearson", "spearman"} <= results.keys() and "recall@1" not in results
    settings = tfzoo.load(tmp_path / "run").config["settings"]
    assert settings["projected"] and settings["group_size"] == 8
    code, out, err = call("evaluate", f"--init={tmp_path / 'run'}", f"--data={tmp_path / 'scored.jsonl'}")
    assert code == 0 and results_of(out)["spearman"] == pytest.approx(results["spearman"], abs=1e-6), err
    code, out, err = call("predict", f"--init={tmp_path / 'run'}", f"--data={tmp_path / 'scored.jsonl'}")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [len(answer["embedding"]) for answer in answers] == [16] * 12, err
    (tmp_path / "scored.txt").write_text("".join(f"{row['text']}\n" for row in scored))
    code, out, err = call("predict", f"--init={tmp_path / 'run'}", f"--data={tmp_path / 'scored.txt'}",
                          "--task=embedding")
    vectors = np.array([json.loads(line)["embedding"] for line in out.splitlines()])
    assert np.abs(vectors - [answer["embedding"] for answer in answers]).max() < 1e-5
    one, other = (np.array(answers[3][key]) for key in ("embedding", "pair_embedding"))
    assert answers[3]["similarity"] == pytest.approx(
        one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-5)
    assert err.count("examples_per_second") == 1


@pytest.mark.slow
def test_pairs_are_finetuned_exported_and_converted(call, tmp_path):
    data, run = write_pairs(tmp_path / "pairs.jsonl"), f"--output_dir={tmp_path / 'run'}"
    code, out, err = call("finetune", "--task=contrastive", *WORDS, f"--data={data}", "--eval_fraction=0.3",
                          "--steps=20", "--learning_rate=0.005", "--group_size=4", "--accumulate_steps=2", run)
    assert code == 0 and {"recall@1", "recall@5", "recall@10", "mrr", "loss", "accuracy"} <= results_of(out).keys(), err
    texts = ["which film is number 3", "film 3 of 3"]
    vectors = tfzoo.load(tmp_path / "run").embed(texts)
    code, _, err = call("export", f"--init={tmp_path / 'run'}", f"--output_dir={tmp_path / 'served'}")
    assert code == 0, err
    served = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    assert np.abs(served(text=tf.constant(texts))["embedding"] - vectors).max() < 1e-5


def test_settings_that_leave_no_groups_are_refused(call, tmp_path):
    data, run = write_pairs(tmp_path / "pairs.jsonl"), f"--output_dir={tmp_path / 'run'}"
    for words, says in ((["--group_size=3"], "--group_size=3: must divide the 8 rows of a microbatch"),
                        (["--accumulate_steps=2"], "--group_size=8: must divide the 4 rows of a microbatch"),
                        (["--group_size=1", "--data=" + str(tmp_path / "texts.txt")], "leaves no negatives"),
                        (["--task=classification", "--group_size=4"], "requires --task=contrastive")):
        (tmp_path / "texts.txt").write_text("a\nb\n")
        code, _, err = call("finetune", "--task=contrastive", *WORDS, f"--data={data}", run, *words)
        assert code == 1 and says in err and len(err.strip().splitlines()) <= 2, err
    assert not (tmp_path / "run" / "config.json").exists()
    code, _, err = call("pretrain", "--task=contrastive", *WORDS, f"--data={data}", run, "--document=line")
    assert code == 1 and "--document=line requires --task=" in err
