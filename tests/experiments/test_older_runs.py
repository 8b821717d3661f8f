"""A run folder of an earlier tfzoo can be resumed; one with a different format version is refused.

tests/golden/run_0.1.0.tar.gz is the folder that tfzoo at commit b44f4d6 wrote in 20 steps of
`finetune --model=bert_tiny --override=num_layers=1 --override=hidden_dim=8 --override=num_heads=2
--override=ffn_dim=16 --override=max_length=32 --data=reviews.jsonl --tokenizer=bytes --steps=20 --batch_size=8
--max_length=32 --eval_every=10 --save_every=5 --log_every=5 --eval_fraction=0.2 --keep=1 --output_dir=run`, without its
tensorboard/.
"""
import json
import tarfile

import pytest

from tests.experiments.conftest import write_reviews
from tests.helpers import CHECKOUT


@pytest.fixture
def older(tmp_path):
    """Return the folder and the arguments that resume it."""
    with tarfile.open(CHECKOUT / "tests" / "golden" / "run_0.1.0.tar.gz") as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # since 3.11.4
    data = write_reviews(tmp_path / "reviews.jsonl", 100)
    return tmp_path / "run", [f"--flagfile={tmp_path / 'run' / 'flags.txt'}", f"--data={data}",
                              f"--output_dir={tmp_path / 'run'}"]


def test_a_run_of_0_1_0_prints_its_results_and_goes_on(call, older):
    folder, words = older
    before = json.loads((folder / "results.json").read_text())
    code, out, err = call("finetune", *words)
    assert code == 0 and json.loads(out.splitlines()[-1]) == before, err
    records = (folder / "metrics.jsonl").read_text().splitlines()
    code, out, err = call("finetune", *words, "--steps=30")
    assert code == 0 and "resuming from step 20 of 30" in err and json.loads(out.splitlines()[-1])["steps"] == 30
    after = (folder / "metrics.jsonl").read_text().splitlines()
    assert after[:len(records)] == records
    assert [json.loads(line)["step"] for line in after[len(records):]] == [25, 30, 30]


def test_what_it_does_not_know_is_refused_where_it_is_not_the_default(call, older):
    _, words = older
    code, _, err = call("finetune", *words, "--steps=30", "--ema_decay=0.9")
    assert code == 1 and "ema_decay (got 0.9, recorded 0.0)" in err.splitlines()[-1]


def test_another_format_is_refused_by_its_version(call, older):
    folder, words = older
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format_version": 0}))
    code, _, err = call("finetune", *words, "--steps=30")
    assert code == 1 and "format version 0, but this tfzoo reads 1" in err.splitlines()[-1]
