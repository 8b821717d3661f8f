"""Pretraining from files: packed rows, streamed fractions and sentences, older runs, exact restarts."""
import gzip
import json

import pytest

from tests.experiments.conftest import SMALL_MODEL

WORDS = ["--model=bert_tiny", *SMALL_MODEL, "--tokenizer=bytes", "--steps=4", "--batch_size=4", "--max_length=32"]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("TFZOO_CACHE", str(tmp_path / "cache"))
    texts = [" ".join(f"Word{number} {row}." for number in range(row % 9 + 1)) for row in range(60)]
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\n\n".join(texts).encode()))
    return tmp_path / "a.txt.gz"


def records_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "second" not in key and key != "data_wait"} for line in lines]


@pytest.mark.slow
def test_packed_pretraining_goes_on_as_if_it_had_not_stopped(call, corpus, tmp_path):
    words = [*WORDS, f"--data={corpus}", "--eval_fraction=0.1", "--log_every=1", "--schedule=constant",
             "--warmup_steps=0", "--deterministic"]
    code, out, err = call("pretrain", *words, "--steps=9", f"--output_dir={tmp_path / 'whole'}")
    assert code == 0 and "packed into" in err and "% padding" in err, err
    assert "--pack=on\n" in (tmp_path / "whole" / "flags.txt").read_text()
    assert json.loads((tmp_path / "whole" / "model" / "config.json").read_text())["settings"]["pack"] is True
    code, _, err = call("pretrain", *words, f"--output_dir={tmp_path / 'cut'}")
    assert code == 0, err
    code, again, err = call("pretrain", *words, "--steps=9", f"--output_dir={tmp_path / 'cut'}")
    assert code == 0 and "resuming from step 4 of 9" in err, err
    train = [[record for record in records_of(tmp_path / name) if record["split"] == "train"]
             for name in ("whole", "cut")]
    assert train[0] == train[1] and len(train[0]) == 9
    assert json.loads(again.splitlines()[-1])["loss"] == json.loads(out.splitlines()[-1])["loss"]
    code, asked, err = call("evaluate", f"--init={tmp_path / 'whole'}", f"--data={corpus}")
    assert code == 0 and json.loads(asked.splitlines()[-1])["examples"] == 60, err


@pytest.mark.slow
def test_a_run_from_before_packing_goes_on_without_it(call, corpus, tmp_path):
    words = [*WORDS, f"--data={corpus}", f"--output_dir={tmp_path / 'run'}"]
    code, _, err = call("pretrain", *words, "--pack=off")
    assert code == 0 and "packed" not in err, err
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("pack") == "off"
    path.write_text(json.dumps(config))
    code, _, err = call("pretrain", *words, "--steps=6")
    assert code == 1 and 'pack (got "on", recorded "off")' in err.splitlines()[-1]
    code, _, err = call("pretrain", *words, "--steps=6", "--pack=off")
    assert code == 0 and "resuming from step 4 of 6" in err, err


@pytest.mark.slow
def test_sentences_of_a_share_are_streamed(call, corpus, tmp_path):
    words = [*WORDS, f"--data={corpus}", "--eval_fraction=0.2", "--next_sentence", f"--output_dir={tmp_path / 'run'}"]
    code, out, err = call("pretrain", *words)
    assert code == 0 and "pair_accuracy" in json.loads(out.splitlines()[-1]) and "packed" not in err, err


@pytest.mark.parametrize("more, says", [(["--next_sentence"], "--pack=on and --next_sentence: give only one of them"),
                                        (["--task=causal_lm"], "--pack=on requires --task=masked_lm or comp")])
def test_what_cannot_be_packed_is_refused(call, corpus, tmp_path, more, says):
    words = [*WORDS, f"--data={corpus}", f"--output_dir={tmp_path / 'run'}", "--pack=on", *more]
    code, out, err = call("pretrain", *words)
    assert (code, out) == (1, "") and says in err
    assert not (tmp_path / "run").exists()
