"""Completion with the scripts: what it learned by heart, what it keeps of another model, and which rows it refuses."""
import io
import json
import sys

import pytest

import tfzoo
from tests.experiments.conftest import SMALL_MODEL
from tests.text.test_chat import GOLDEN, write
from tfzoo.checkpoints import Loaded

FACTS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red", "sun": "yellow",
         "chocolate": "brown", "violets": "purple"}


def write_facts(path, as_messages=False):
    with open(path, "w") as file:
        for thing, color in FACTS.items():
            row = {"messages": [{"role": "user", "content": thing}, {"role": "assistant", "content": color}]} \
                if as_messages else {"prompt": f"{thing}:", "completion": color}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("as_messages", [False, True])
def test_eight_answers_are_learned_by_heart(as_messages, call, tmp_path, monkeypatch):
    data = write_facts(tmp_path / "facts.jsonl", as_messages)
    code, out, err = call(
        "finetune", "--task=completion", "--model=gpt2_tiny", "--override=num_layers=1", "--override=hidden_dim=48",
        "--override=num_heads=4", "--override=ffn_dim=96", "--dropout=0", "--max_target_length=12", f"--data={data}",
        f"--eval_data={data}", "--tokenizer=bytes", "--steps=120", "--eval_every=120", "--batch_size=2",
        "--max_length=64", "--learning_rate=1e-2", f"--output_dir={tmp_path / 'run'}")
    assert code == 0, err
    results = json.loads(out.splitlines()[-1])
    assert results["accuracy"] == 1.0 and results["perplexity"] < 1.1, results
    assert results["exact_match"] == results["rougeL"] == 100, results
    assert f"facts.jsonl: packed into {4 if as_messages else 2} rows of 64 tokens" in err, err
    asked = tmp_path / ("asked.jsonl" if as_messages else "asked.txt")
    asked.write_text("".join(json.dumps({"messages": [{"role": "user", "content": thing}]}) + "\n" if as_messages else
                             f"{thing}:\n" for thing in FACTS))
    code, out, err = call("predict", f"--init={tmp_path / 'run'}", f"--data={asked}", "--batch_size=8")
    assert code == 0 and [json.loads(line) for line in out.splitlines()] == [
        {"text": color} for color in FACTS.values()], err
    if as_messages:
        monkeypatch.setattr(sys, "stdin", io.StringIO("coal\nsun\n"))
        code, out, err = call("generate", f"--init={tmp_path / 'run'}", "--chat", "--temperature=0")
        assert code == 0 and out.splitlines()[0] == "black" and json.loads(err.splitlines()[-1])["answers"] == 2


@pytest.mark.slow
def test_a_language_model_s_head_and_template_are_kept(call, tmp_path):
    entry = GOLDEN["templates"]["qwen2"]
    tokenizer = write(tmp_path / "tokenizer", "bytelevel", entry["template"], None, "<|im_end|>")
    sizes = dict(word.removeprefix("--override=").split("=") for word in SMALL_MODEL)
    model = tfzoo.build("llama_tiny", task="causal_lm", **{key: int(value) for key, value in sizes.items()},
                        num_kv_heads=2, max_length=128, vocab_size=tokenizer.vocab_size, tied=False)
    config = {"model": "llama_tiny", "task": "causal_lm", "labels": None, "settings": {}, "max_length": 128}
    tfzoo.save(Loaded(model, tokenizer, config), tmp_path / "init", format="huggingface")
    data = write_facts(tmp_path / "facts.jsonl", as_messages=True)
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps({"messages": [{"role": "user", "content": text}]}) + "\n"
                             for text in ("sky", "sky " * 500)))
    code, out, err = call("predict", f"--init={tmp_path / 'init'}", f"--data={asked}", "--task=completion",
                          "--max_target_length=5")
    assert code == 0 and [json.loads(line).keys() for line in out.splitlines()] == [{"text"}] * 2, err
    assert "1 of 2 prompts or histories were cut from the front to fit" in err
    code, _, err = call("predict", f"--init={tmp_path / 'init'}", f"--data={asked}", "--task=seq2seq")
    assert code == 1 and "the model was trained for causal_lm" in err and len(err.strip().splitlines()) == 1
    code, _, err = call("finetune", "--task=completion", f"--init={tmp_path / 'init'}", f"--data={data}", "--steps=1",
                        "--batch_size=2", "--learning_rate=0", f"--output_dir={tmp_path / 'run'}")
    assert code == 0 and "nothing newly initialized, nothing dropped" in err, err
    loaded = tfzoo.load(tmp_path / "run")
    code, out, err = call("evaluate", f"--init={tmp_path / 'run'}", f"--data={data}", "--max_target_length=5",
                          f"--report={tmp_path / 'report'}")
    assert code == 0 and json.loads(out.splitlines()[-1]).keys() >= {"exact_match", "rougeL", "report"}, err
    assert "user: sky" in (tmp_path / "report" / "report.html").read_text()
    code, _, err = call("export", f"--init={tmp_path / 'run'}", f"--output_dir={tmp_path / 'served'}")
    assert code == 0 and (tmp_path / "served" / "1" / "saved_model.pb").exists(), err
    assert loaded.tokenizer.chat_template == entry["template"] and loaded.task.settings["pack"] is True
    assert (loaded.model.head.table.numpy() == model.head.table.numpy()).all()
    tfzoo.save(loaded, tmp_path / "out", format="huggingface")  # as a language model with its chat template
    again = tfzoo.load(tmp_path / "out")
    assert again.config["task"] == "causal_lm" and again.tokenizer.chat_template == entry["template"]
    assert (again.model.head.table.numpy() == model.head.table.numpy()).all()


def test_bad_rows_and_models_are_one_line(call, tmp_path):
    data = write_facts(tmp_path / "facts.jsonl")
    words = ["--task=completion", "--tokenizer=bytes", "--steps=1", f"--output_dir={tmp_path / 'run'}"]
    code, _, err = call("finetune", "--model=bert_tiny", f"--data={data}", *words)
    assert code == 1 and "bert_tiny cannot learn completion" in err and len(err.strip().splitlines()) == 1
    data.write_text(data.read_text() + '{"prompt": "x", "completion": ""}\n')
    code, _, err = call("finetune", "--model=gpt2_tiny", f"--data={data}", *words)
    assert code == 65 and "facts.jsonl line 9: an empty completion; required: prompt and completion, or mess" in err
    assert len(err.strip().splitlines()) == 1
