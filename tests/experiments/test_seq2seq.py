"""Sequence to sequence with the scripts, end to end: finetune, resume, evaluate, predict; export, refused files."""
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

import tfzoo
from tests.helpers import CHECKOUT
from tfzoo.checkpoints import Loaded
from tfzoo.text import load_tokenizer

SMALL_MODEL = ["--override=num_layers=1", "--override=hidden_dim=64", "--override=num_heads=4",
               "--override=ffn_dim=128", "--dropout=0"]
WORDS = dict(zip("one two three red blue green house tree car cat".split(),
                 "eins zwei drei rot blau grün Haus Baum Auto Katze".split()))


def write_pairs(path, count=16):
    rng = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8") as file:
        file.write("source\ttarget\n")
        for _ in range(count):
            chosen = rng.choice(list(WORDS), rng.integers(2, 5))
            file.write(" ".join(chosen) + "\t" + " ".join(WORDS[word] for word in chosen) + ".\n")
    return str(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "train.tsv")


@pytest.mark.slow
def test_a_small_model_learns_its_pairs_by_heart(call, pairs, tmp_path):
    words = ["--task=seq2seq", "--model=transformer_tiny", *SMALL_MODEL, f"--data={pairs}", f"--eval_data={pairs}",
             "--tokenizer=learn:bpe:300", "--steps=150", "--eval_every=150",
             "--batch_size=8", "--max_length=24", "--max_target_length=32", "--learning_rate=1e-2",
             "--source_prefix=translate ", "--label_smoothing=0.05", f"--output_dir={tmp_path / 'run'}"]
    code, out, err = call("finetune", *words)
    assert code == 0, err
    results = json.loads(out.splitlines()[-1])
    assert [results[name] for name in ("exact_match", "rougeL", "rouge1", "bleu", "chrf")] == pytest.approx([100] * 5)
    assert "BLEU is nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in err and "ROUGE counts words" in err

    code, out, err = call("evaluate", f"--init={tmp_path / 'run'}", f"--data={pairs}", "--batch_size=5")
    assert code == 0, err
    found = json.loads(out.splitlines()[-1])
    assert {name: found[name] for name in ("loss", "exact_match", "bleu")} == pytest.approx(
        {name: results[name] for name in ("loss", "exact_match", "bleu")}, rel=1e-4)

    rows = [line.split("\t") for line in open(pairs, encoding="utf-8").read().splitlines()[1:]]
    (tmp_path / "texts.txt").write_text("".join(f"{source}\n" for source, _ in rows))
    for data in (pairs, str(tmp_path / "texts.txt")):
        code, out, err = call("predict", f"--init={tmp_path / 'run'}", f"--data={data}", "--batch_size=7")
        assert code == 0 and [json.loads(line) for line in out.splitlines()] == [{"text": row[1]} for row in rows], err
    loaded = tfzoo.load(tmp_path / "run")
    assert loaded.task.source_prefix == "translate " and loaded.predict([rows[3][0], ""])[0] == {"text": rows[3][1]}

    code, _, err = call("export", f"--init={tmp_path / 'run'}", f"--output_dir={tmp_path / 'served'}")
    assert code == 0, err
    served = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    answers = served(text=tf.constant([source for source, _ in rows]))["text"]
    assert [text.decode() for text in answers.numpy()] == [target for _, target in rows]


def test_bad_data_is_one_line(call, tmp_path):
    words = ["--task=seq2seq", "--model=transformer_tiny", *SMALL_MODEL, "--tokenizer=bytes", "--steps=1",
             f"--output_dir={tmp_path / 'run'}"]
    (tmp_path / "rows.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": "a", "target": ""}\n')
    (tmp_path / "rows.txt").write_text("a\nb\n")
    (tmp_path / "rows.tsv").write_text("source\ttext\na\tb\n")
    for name, code, says in (("rows.jsonl", 65, "line 2: an empty target"), ("rows.txt", 1, "labelled texts must be"),
                             ("rows.tsv", 65, "target")):
        found, _, err = call("finetune", *words, f"--data={tmp_path / name}")
        assert found == code and says in err and name in err, err
    data = f"--data={tmp_path / 'rows.jsonl'}"
    for more, says in (("--target_language=german", "--target_language=german must be auto or a language code"),
                       ("--max_target_length=5000", "--max_target_length=5000 exceeds the model's 1024 positions"),
                       ("--task=classification", "transformer_tiny cannot learn classification")):
        found, _, err = call("finetune", *words, data, "--max_bad_rows=1", more)
        assert found == 1 and says in err, err
    found, _, err = call("finetune", "--model=bert_tiny", "--tokenizer=bytes", f"--output_dir={tmp_path / 'other'}",
                         data, "--source_prefix=x")
    assert found == 1 and "--source_prefix=x requires --task=seq2seq" in err


@pytest.mark.slow
def test_two_devices_and_microbatches_give_the_run_of_one(pairs, tmp_path):
    words = ["--task=seq2seq", "--model=transformer_tiny", *SMALL_MODEL[:-1], f"--data={pairs}", f"--eval_data={pairs}",
             "--tokenizer=bytes", "--steps=3", "--batch_size=8", "--max_length=24", "--max_target_length=16",
             "--learning_rate=1e-3", "--warmup_steps=0", "--label_smoothing=0.1", "--average_checkpoints=2",
             "--save_every=1"]
    found = []
    for name, more in (("one", ["--strategy=one_device"]),
                       ("two", ["--strategy=mirrored", "--virtual_devices=2", "--accumulate_steps=2"])):
        command = [sys.executable, "-m", "experiments.finetune", *words, *more, f"--output_dir={tmp_path / name}"]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append((json.loads(done.stdout.splitlines()[-1]), load_file(
            tmp_path / name / "checkpoints" / "step_00000003" / "model.safetensors")))
    (one, weights), (two, others) = found
    assert one["averaged_steps"] == two["averaged_steps"] == [2, 3]
    for key in ("loss", "accuracy", "bleu", "chrf", "rougeL", "exact_match"):
        assert one[key] == pytest.approx(two[key], rel=1e-5), key
    for path, value in weights.items():
        assert np.abs(value - others[path]).max() < 1e-5 * max(1, np.abs(value).max()), path


@pytest.mark.slow
def test_a_loaded_t5_is_fine_tuned_and_keeps_its_start_token(call, pairs, tmp_path):
    model = tfzoo.build("t5_tiny", task="seq2seq", vocab_size=260, num_layers=1, hidden_dim=16, num_heads=2, head_dim=8,
                        ffn_dim=32)
    tfzoo.save(Loaded(model, load_tokenizer("bytes"), {"model": "t5_tiny", "task": "seq2seq", "labels": None,
                                                       "settings": {}, "max_length": 24}), tmp_path / "t5")
    code, out, err = call("finetune", "--task=seq2seq", f"--init={tmp_path / 't5'}", f"--data={pairs}",
                          f"--eval_data={pairs}", "--steps=2", "--max_target_length=8",
                          f"--output_dir={tmp_path / 'run'}")
    assert code == 0 and "nothing newly initialized, nothing dropped" in err, err
    assert "16 of 16 targets were truncated to 8 tokens" in err and json.loads(out.splitlines()[-1])["bleu"] >= 0
    again = tfzoo.load(tmp_path / "run")
    assert len(again.predict(["one two"])[0]["text"].encode()) <= 3 * 8
    code, _, err = call("convert", f"--init={tmp_path / 'run'}", "--format=huggingface",
                        f"--output_dir={tmp_path / 'theirs'}")
    assert code == 0 and json.loads((tmp_path / "theirs" / "config.json").read_text())["decoder_start_token_id"] == 0
