"""The scripts' interface: results as the last line, exit codes, one-line errors, and no partial output."""
import builtins
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from experiments import app
from tests.experiments.conftest import SCRIPTS, SMALL_MODEL, write_reviews
from tests.helpers import CHECKOUT

TRAIN = ["--model=bert_tiny", *SMALL_MODEL, "--tokenizer=bytes", "--steps=4", "--batch_size=8", "--max_length=32"]


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def test_a_run_is_trained_evaluated_asked_and_exported(call, finetuned, reviews, tmp_path, monkeypatch):
    names = set(os.listdir(finetuned))
    assert {"flags.txt", "config.json", "metrics.jsonl", "tensorboard", "checkpoints", "model", "results.json"} <= names
    assert set(os.listdir(f"{finetuned}/model")) == {"model.keras", "config.json", "tokenizer_config.json"}
    results = json.loads(open(f"{finetuned}/results.json").read())
    assert results["steps"] == 4 and 0 <= results["accuracy"] <= 1 and results["examples_per_second"] > 0
    code, out, _ = call("evaluate", f"--init={finetuned}", f"--data={reviews}")
    again = last_json(out)
    assert code == 0 and again["examples"] == 12
    for name in ("loss", "accuracy", "f1", "precision", "recall"):
        assert again[name] == pytest.approx(results[name], abs=1e-6)
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"good film\n\nbad \xff\n")))
    code, out, err = call("predict", f"--init={finetuned}")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == 3 and last_json(err)["examples"] == 3 and "U+FFFD" in err
    for row in rows:
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
        assert set(row["probabilities"]) == {"neg", "pos"}
    code, out, _ = call("predict", f"--init={finetuned}", f"--data={reviews}/eval.jsonl", f"--output={tmp_path / 'o'}")
    assert code == 0 and out == "" and len((tmp_path / "o").read_text().splitlines()) == 12
    code, out, _ = call("export", f"--init={finetuned}", f"--output_dir={tmp_path / 'served'}")
    assert code == 0 and last_json(out)["labels"] == ["neg", "pos"]
    assert (tmp_path / "served" / "1" / "saved_model.pb").exists()


def test_a_finished_run_prints_its_results_and_goes_on_with_more_steps(call, finetuned, reviews):
    words = [*TRAIN, f"--data={reviews}", f"--output_dir={finetuned}"]
    before = open(f"{finetuned}/metrics.jsonl").read()
    code, out, err = call("finetune", *words)
    assert code == 0 and last_json(out)["steps"] == 4 and "finished" in err
    assert open(f"{finetuned}/metrics.jsonl").read() == before
    code, out, err = call("finetune", *words, "--steps=6")
    assert code == 0 and last_json(out)["steps"] == 6 and "step 4 of 6" in err
    steps = [json.loads(line)["step"] for line in open(f"{finetuned}/metrics.jsonl") if '"train"' in line]
    assert steps == sorted(set(steps)) and steps[-1] == 6
    code, _, err = call("finetune", *words, "--steps=6", "--resume=never")
    assert code == 1 and "--resume=never" in err
    code, _, err = call("finetune", *words, "--steps=6", "--batch_size=4")
    assert code == 1 and "batch_size (got 4, recorded 8)" in err


@pytest.mark.parametrize("change, names", [
    ("--model=bert_mini", "model (got"), ("--schedule=cosine", "schedule (got"), ("--seed=1", "seed (got"),
    ("--learning_rate=0.1", "learning_rate (got"), ("--override=num_heads=4", "override"), ("--data", "data_sha256")])
def test_a_run_folder_of_other_settings_is_refused_by_the_field(call, finetuned, reviews, tmp_path, change, names):
    words = [*TRAIN, f"--data={reviews}", f"--output_dir={finetuned}", "--steps=6"]
    if change == "--data":
        (tmp_path / "other").mkdir()
        for part, count in (("train", 61), ("eval", 12)):
            write_reviews(tmp_path / "other" / f"{part}.jsonl", count)
        change = f"--data={tmp_path / 'other'}"
    code, out, err = call("finetune", *words, change)
    assert code == 1 and names in err.splitlines()[-1] and not out, err


def test_how_a_batch_is_divided_may_change_when_a_run_goes_on(call, finetuned, reviews):
    code, _, err = call("finetune", *TRAIN, f"--data={reviews}", f"--output_dir={finetuned}", "--steps=6",
                        "--accumulate_steps=2", "--xla=on", "--remat", "--strategy=one_device", "--max_bad_steps=3")
    assert code == 0 and "resuming from step 4 of 6" in err and "XLA on on CPU" in err, err


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--optimizer=adafactor", "--schedule=inverse_sqrt", "--warmup_steps=2"],
                                  pytest.param(["--optimizer=lamb", "--schedule=polynomial", "--schedule_power=1"],
                                               marks=pytest.mark.slow),
                                  pytest.param(["--ema_decay=0.9", "--layer_decay=0.8", "--no_decay=kernel",
                                                "--precision=bfloat16"], marks=pytest.mark.slow)])
def test_optimizers_schedules_and_averages_train_and_go_on(call, reviews, tmp_path, more):
    words = [*TRAIN, f"--data={reviews}", f"--output_dir={tmp_path / 'run'}", *more]
    code, _, err = call("finetune", *words)
    assert code == 0, err
    code, out, err = call("finetune", *words, "--steps=6")
    assert code == 0 and last_json(out)["steps"] == 6 and "resuming from step 4" in err, err
    code, again, _ = call("evaluate", f"--init={tmp_path / 'run'}", f"--data={reviews}")
    assert last_json(again)["loss"] == pytest.approx(last_json(out)["loss"], abs=1e-6)  # the averages were saved


def test_flags_txt_replays_the_run(call, finetuned):
    code, out, _ = call("finetune", f"--flagfile={finetuned}/flags.txt")
    assert code == 0 and last_json(out)["steps"] == 4


@pytest.mark.slow
def test_pretraining_then_fine_tuning_keeps_the_body(call, reviews, tmp_path):
    code, out, err = call("pretrain", *TRAIN, f"--data={reviews}/train.jsonl", f"--output_dir={tmp_path / 'lm'}",
                          "--eval_fraction=0.2")
    assert code == 0 and "perplexity" in last_json(out)
    code, out, err = call("finetune", f"--init={tmp_path / 'lm'}", f"--data={reviews}", "--steps=2", "--batch_size=8",
                          f"--output_dir={tmp_path / 'ft'}")
    assert code == 0 and "head, pooler newly initialized, head dropped" in err


@pytest.mark.slow
def test_gpt_learns_bytes_and_writes(call, tmp_path):
    (tmp_path / "a.txt").write_text("abc " * 200)
    text = tmp_path / "a.txt"
    code, out, err = call("pretrain", "--task=causal_lm", "--model=gpt2_tiny", *SMALL_MODEL, f"--data={text}",
                          f"--eval_data={text}", "--tokenizer=bytes", "--steps=30", "--batch_size=8",
                          "--max_length=32", "--learning_rate=0.02", f"--output_dir={tmp_path / 'run'}")
    results = last_json(out)
    assert code == 0 and results["bits_per_byte"] < 2
    assert results["bits_per_byte"] == pytest.approx(results["loss"] / 0.693147, rel=1e-4)
    assert "sample" in (tmp_path / "run" / "samples.jsonl").read_text()
    code, out, err = call("generate", f"--init={tmp_path / 'run'}", "--prompt=abc ab", "--max_new_tokens=20",
                          "--temperature=0")
    assert code == 0 and out.startswith("abc ab") and last_json(err)["tokens"] <= 20


def test_a_decoder_classifies_the_same_after_both_ways_of_saving(call, reviews, tmp_path):
    code, out, err = call("finetune", "--model=gpt2_tiny", "--tokenizer=learn:bpe:320", *SMALL_MODEL,
                          f"--data={reviews}", "--steps=4", "--batch_size=8", f"--output_dir={tmp_path / 'run'}")
    assert code == 0
    (tmp_path / "texts.txt").write_text("good film\n\nbad film number 7\n")
    answers = []
    for folder, words in (("run", None), ("theirs", "--format=huggingface"), ("ours", "--format=tfzoo")):
        if words:
            init = tmp_path / ("run" if folder == "theirs" else "theirs")
            assert call("convert", f"--init={init}", words, f"--output_dir={tmp_path / folder}")[0] == 0
        code, out, err = call("predict", f"--init={tmp_path / folder}", f"--data={tmp_path / 'texts.txt'}")
        assert code == 0
        answers.append([json.loads(line) for line in out.splitlines()])
    assert len(answers[0]) == 3 and answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("name, count, cache", [  # bytes of bfloat16, for keys and for values
    ("llama2_7b", 6_738_415_616, 2 * 2 * 32 * 4096 * 4096), ("bert_base", 109_482_240, 0),
    ("t5_1.1_small", 76_961_152, 2 * 2 * 8 * 6 * 64 * 2 * 512)])  # for the generated text and for the source
def test_models_are_listed_with_their_heads_and_caches(call, name, count, cache):
    code, out, err = call("models", f"--name={name}", "--json")
    row = json.loads(out.splitlines()[0])
    assert code == 0 and row["name"] == name and row["parameters"] == count and row["cache_bytes"] == cache
    assert row["weight_bytes"] == 4 * count and row["licence"]


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_help_reads_well_and_wrong_flags_are_refused(name, call):
    code, out, err = call(name, "--help")
    assert code == 0 and not err and max(map(len, out.splitlines())) <= 110
    assert ("--name" if name == "models" else "--init") in out
    for word, says in (("--no_such_flag=1", "no_such_flag"), ("leftover", "leftover"), ("--flagfile=/none", "none")):
        code, out, err = call(name, word)
        assert code == (66 if "flagfile" in word else 1) and says in err and len(err.splitlines()) == 1 and not out


def bad_cases(folder):
    good = write_reviews(folder / "good.jsonl")
    (folder / "columns.jsonl").write_text('{"words": "a", "label": "x"}\n')
    (folder / "broken.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "a", "label"\n')
    (folder / "empty.jsonl").write_text("")
    (folder / "labels.jsonl").write_text('{"text": "a", "label": "unheard"}\n')
    (folder / "pairs.jsonl").write_text('{"text": "a", "text_pair": "b", "label": "neg"}\n')
    (folder / "one.jsonl").write_text('{"text": "a", "label": "x"}\n')
    (folder / "vocab.txt").write_text("a\nb\n")
    out = f"--output_dir={folder / 'out'}"
    train = [*TRAIN, f"--data={good}", out]

    def other(**changes):
        return [word for word in train if word.split("=")[0].lstrip("-") not in changes] + [
            f"--{name}={value}" for name, value in changes.items() if value is not None]

    return [
        ("finetune", other(data=folder / "none.jsonl"), 66, "no data at"),
        ("finetune", other(data=folder / "columns.jsonl"), 65, "line 1: no value for text"),
        ("finetune", other(data=folder / "broken.jsonl"), 65, "line 2: bad JSON"),
        ("finetune", other(data=folder / "empty.jsonl"), 65, "no examples"),
        ("finetune", other(data=folder / "one.jsonl"), 65, "one.jsonl: classification requires at least two different "
         "labels, but the data have only 'x'"),
        ("finetune", other(data=folder), 65, "broken.jsonl line 2"),
        ("finetune", [*train, f"--eval_data={folder / 'labels.jsonl'}"], 65, "'unheard'"),
        ("finetune", [*train, "--test_data=builtin:python"], 65, "--test_data=builtin:python has no test split"),
        ("finetune", [*train, f"--test_data={folder / 'none'}"], 66, "no data at"),
        ("finetune", [*train, f"--test_data={folder / 'labels.jsonl'}"], 65, "'unheard'"),
        ("finetune", [*train, f"--test_data={folder / 'pairs.jsonl'}"], 65, "pairs.jsonl 2: text_pair must be in both"),
        ("finetune", other(model="bert_gigantic"), 1, "unknown model"),
        ("finetune", other(model=None), 1, "give exactly one"),
        ("finetune", [*train, "--init=x"], 1, "give exactly one"),
        ("finetune", [*train, "--epochs=1"], 1, "--epochs"),
        ("finetune", [*train, "--override=layers=2"], 1, "unknown argument 'layers'"),
        ("finetune", [*train, "--override=num_layers"], 1, "name=value"),
        ("finetune", [*train, "--override=vocab_size=100"], 1, "vocab_size=100"),
        ("finetune", other(max_length=4000), 1, "512 positions"),
        ("finetune", other(max_length=2), 1, "special tokens"),
        ("finetune", other(tokenizer="learn:wordpiece:x"), 1, "learn:wordpiece:SIZE"),
        ("finetune", other(tokenizer=folder / "nothing.txt"), 66, "no vocabulary"),
        ("finetune", other(tokenizer=folder / "vocab.txt"), 65, "[PAD]"),
        ("finetune", other(tokenizer=None), 1, "--tokenizer"),
        ("finetune", other(batch_size="many"), 1, "batch_size"),
        ("finetune", [*train, "--accumulate_steps=3"], 1, "divide"),
        ("finetune", [*train, "--warmup_steps=9"], 1, "warmup_steps"),
        ("finetune", [*train, "--precision=float64"], 1, "precision"),
        ("finetune", other(output_dir=f"{good}/sub"), 74, "is under one: choose a folder"),
        ("finetune", [*train, "--resume=must"], 66, "contains no run"),
        ("finetune", [*train, "--learning_rate=1e30", "--schedule=constant", "--clip_norm=0",
                      "--max_bad_steps=2"], 70, "2 consecutive updates"),
        ("finetune", [*train, "--strategy=parameter_server"], 1, "parameter servers update asynchronously"),
        ("finetune", [*train, "--strategy=many"], 1, "--strategy must be one of auto, one_device"),
        ("finetune", [*train, "--strategy=mirrored"], 1, "--virtual_devices=2"),
        ("finetune", [*train, "--strategy=multi_worker"], 1, "TF_CONFIG"),
        ("finetune", [*train, "--virtual_devices=64"], 1, "has already started with 1"),
        ("finetune", [*train, "--no_decay=("], 1, "regular expression"),
        ("finetune", [*train, "--schedule_power=3"], 1, "--schedule=polynomial"),
        ("pretrain", [*train, "--task=causal_lm"], 1, "cannot learn causal_lm"),
        ("pretrain", [*train, "--next_sentence"], 1, "two sentences"),
        ("evaluate", ["--init=/none", f"--data={good}"], 66, "no model folder"),
        ("predict", [f"--init={folder}", "--data=-"], 66, "model.keras"),
        ("generate", ["--init=/none"], 66, "no model folder"),
        ("predict", ["--init=/none", f"--output={folder}/no/answers"], 74, "is not a folder"),
        ("finetune", other(output_dir="/proc/tfzoo"), 74, "cannot write to --output_dir"),
        ("finetune", other(data="builtin:perl"), 1, "builtin:python"),
        ("finetune", other(data="tfds:none"), 66, "--allow_download"),
        ("export", ["--init=/none", out], 66, "no model folder")]


@pytest.mark.parametrize("number", range(48))
def test_each_mistake_is_one_line_with_its_exit_code(number, call, tmp_path):
    cases = bad_cases(tmp_path)
    assert len(cases) == 48
    name, words, wanted, says = cases[number]
    code, out, err = call(name, *words)
    assert (code, out) == (wanted, ""), err
    last = err.strip().splitlines()[-1]
    assert says in last and "Traceback" not in err, err
    assert not (tmp_path / "out" / "model").exists() and not (tmp_path / "out" / "results.json").exists()


def test_a_damaged_checkpoint_is_stepped_around_or_refused(call, finetuned, reviews):
    words = [*TRAIN, f"--data={reviews}", f"--output_dir={finetuned}", "--steps=6"]
    checkpoint = f"{finetuned}/checkpoints/step_00000004/model.safetensors"
    data = bytearray(open(checkpoint, "rb").read())
    data[-1] ^= 1
    open(checkpoint, "wb").write(data)
    code, _, err = call("finetune", *words)
    assert code == 65 and "damaged" in err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.alone
def test_a_batch_beyond_the_memory_is_one_line_with_what_takes_it_and_the_flags_that_lower_it(call, tmp_path):
    with open(tmp_path / "long.jsonl", "w") as file:
        for number in range(8):
            file.write(json.dumps({"text": "x" * 600, "label": "ab"[number % 2]}) + "\n")
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    rows = 2 * total // (512 * 512 * 4)  # the inputs of the blocks would take twice the machine's memory
    code, out, err = call("finetune", "--model=bert_tiny", "--override=num_layers=2", "--override=hidden_dim=512",
                          "--tokenizer=bytes", "--steps=2", "--max_length=512",
                          f"--batch_size={rows}", f"--data={tmp_path / 'long.jsonl'}",
                          f"--output_dir={tmp_path / 'run'}")
    assert code == 70 and not out and "Traceback" not in err, err
    last = err.strip().splitlines()[-1]
    assert f"a batch of {rows} x 512 tokens" in last and "bytes of parameters" in last and "--accumulate_steps" in last


def test_an_error_of_our_own_exits_70(capsys):
    script = app.Flags("x", "Do.")
    script.group("g")
    assert app.execute(script, lambda values: 1 / 0, []) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("number", app.STOPPING)
def test_a_signal_amid_the_imports_waits_for_their_end_and_is_one_line(number, capsys, monkeypatch):
    done = []

    def import_slowly(name, *rest):
        if name == "tensorflow":
            signal.pthread_kill(threading.main_thread().ident, number)  # initially a script has only this thread
            try:
                time.sleep(0.01)
            except KeyboardInterrupt as error:  # as C extensions report it
                raise ImportError("initialization failed") from error
            done.append(name)
        return real(name, *rest)

    real, handler = builtins.__import__, signal.signal(number, signal.default_int_handler)
    monkeypatch.setattr(builtins, "__import__", import_slowly)
    try:
        assert app.execute(app.Flags("x", "Do."), dict, []) == 75
    finally:
        signal.signal(number, handler)
    assert done == ["tensorflow"]
    assert capsys.readouterr().err.startswith("x: interrupted: run the same command again")


def test_an_interrupt_after_which_tfzoo_cannot_be_imported_is_one_line(capsys, monkeypatch):
    def run(values):
        monkeypatch.setitem(sys.modules, "tfzoo", None)
        raise KeyboardInterrupt

    assert app.execute(app.Flags("x", "Do."), run, []) == 75
    assert capsys.readouterr().err.startswith("x: interrupted: run the same command again")


def test_a_real_process_is_quiet_and_exits_with_the_code(tmp_path):
    done = subprocess.run([sys.executable, "-m", "experiments.evaluate", "--init=/none", "--data=x"], cwd=CHECKOUT,
                          capture_output=True, text=True, env={k: v for k, v in os.environ.items() if "TF_" not in k})
    assert done.returncode == 66 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("script, words", [
    ("finetune", ["--model=bert_tiny", "--tokenizer=bytes", "--data=AT", "--output_dir=out"]),
    ("finetune", ["--model=bert_tiny", "--tokenizer=bytes", "--data=in", "--output_dir=AT"]),
    ("finetune", ["--model=bert_tiny", "--tokenizer=AT", "--data=in", "--output_dir=out"]),
    ("pretrain", ["--init=AT", "--data=in", "--eval_data=in", "--output_dir=out"]),
    ("pretrain", ["--init=in", "--data=in", "--eval_data=AT", "--output_dir=out"]),
    ("evaluate", ["--init=AT", "--data=in"]), ("evaluate", ["--init=in", "--data=AT"]),
    ("predict", ["--init=AT"]), ("predict", ["--init=in", "--data=AT"]), ("predict", ["--init=in", "--output=AT"]),
    ("generate", ["--init=AT"]), ("generate", ["--init=in", "--output=AT"]),
    ("convert", ["--init=AT", "--output_dir=out"]), ("convert", ["--init=in", "--output_dir=AT"]),
    ("export", ["--init=AT", "--output_dir=out"]), ("export", ["--init=in", "--output_dir=AT"])])
def test_an_address_is_refused_by_its_flag_before_any_work(call, tmp_path, monkeypatch, script, words):
    monkeypatch.chdir(tmp_path)
    flag = next(word for word in words if word.endswith("=AT"))[:-3]
    code, _, err = call(script, *(word.replace("=AT", "=gs://bucket/x") for word in words))
    assert code == 1 and f"{flag} is gs://bucket/x, but must be on this machine" in err and len(err.splitlines()) == 1
    assert os.listdir(tmp_path) == []
