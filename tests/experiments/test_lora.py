"""Fine-tuning low-rank adapters with the scripts: contents of the run folder, bitwise resumption, errors."""
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.experiments.conftest import SMALL_MODEL
from tfzoo.checkpoints.adapter import read_adapter

LORA = ["--method=lora", "--rank=2", "--alpha=4", "--adapter_dropout=0.1", "--targets=attention/(query|key|value)$|up$",
        "--batch_size=8", "--log_every=2", "--save_every=3"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the folder of a pretrained model."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "corpus.txt").write_text("\n\n".join(f"a good film number {number}" for number in range(40)))
    sizes = [word.partition("=")[2] for word in SMALL_MODEL]
    tfzoo.train(folder / "run", task="masked_lm", model="bert_tiny", data=str(folder / "corpus.txt"), steps=2,
                tokenizer="bytes", max_length=32, batch_size=8, override=sizes)
    return folder / "run"


@pytest.mark.slow
def test_a_run_leaves_adapters_and_a_merged_model_and_goes_on_to_the_bit(call, base, reviews, tmp_path):
    words = [f"--init={base}", f"--data={reviews}", "--max_length=32", *LORA]
    code, out, err = call("finetune", *words, "--steps=8", f"--output_dir={tmp_path / 'whole'}")
    assert code == 0, err
    assert "lora: 4 adapters of rank 2 (1 key, 1 query, 1 up, 1 value)" in err and "are frozen" in err
    loaded, given = tfzoo.load(tmp_path / "whole"), tfzoo.load(base)
    texts = ["a good film", "bad"]
    unmerged, method = read_adapter(given, tmp_path / "whole" / "adapter")
    assert method.settings["rank"] == 2 and len(unmerged.body.adapters) == 4 and not loaded.body.adapters
    one, other = ([list(answer["probabilities"].values()) for answer in each.predict(texts)]
                  for each in (loaded, unmerged))
    assert np.abs(np.array(one) - other).max() < 1e-5
    names = {weight.path: weight.numpy() for weight in loaded.body.weights}
    there = {weight.path: weight.numpy() for weight in given.body.weights}
    changed = {path for path in there if path in names and not np.array_equal(names[path], there[path])}
    assert changed == {f"block_00/{part}/kernel" for part in ("attention/query", "attention/key", "attention/value",
                                                              "feed_forward/up")}
    flags = (tmp_path / "whole" / "flags.txt").read_text()
    assert "--method=lora" in flags and "--learning_rate=0.0005" in flags
    code, _, err = call("finetune", *words, "--steps=8", "--save_every=4", f"--output_dir={tmp_path / 'two'}")
    assert code == 0, err
    checkpoint = pathlib.Path(tmp_path / "whole" / "checkpoints")
    arrays = [sorted(each.glob("step_*"))[-1] for each in (checkpoint, tmp_path / "two" / "checkpoints")]
    one, other = ((each / "model.safetensors").read_bytes() for each in arrays)
    assert one == other and len(one) < 60_000


def test_what_does_not_go_together_is_refused(call, base, reviews, tmp_path):
    tail = [f"--data={reviews}", f"--output_dir={tmp_path / 'run'}", "--steps=1"]
    for words, says in (([f"--init={base}", "--rank=4"], "--rank=4 requires --method=lora"),
                        (["--model=bert_tiny", "--tokenizer=bytes", "--method=lora"], "give --init instead"),
                        ([f"--init={base}", "--method=lora", "--targets=nothing"], "matches no projection"),
                        ([f"--init={base}", "--method=lora", "--rank=999"], "rank must be an integer from 1 to")):
        code, _, err = call("finetune", *words, *tail)
        assert code == 1 and says in err.splitlines()[-1], err


@pytest.mark.slow
def test_another_base_is_refused(call, base, reviews, tmp_path):
    words = [f"--data={reviews}", "--max_length=32", *LORA, f"--output_dir={tmp_path / 'run'}"]
    code, _, err = call("finetune", f"--init={base}", *words, "--steps=3")
    assert code == 0, err
    other = tfzoo.load(base)
    kernel = other.body.blocks[0].attention.query.kernel
    kernel.assign_add(tf.fill(kernel.shape, 0.1))
    tfzoo.save(other, tmp_path / "other")
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({**record, "init": str(tmp_path / "other")}))
    code, _, err = call("finetune", f"--init={tmp_path / 'other'}", *words, "--steps=6")
    assert code != 0 and "trained with different frozen weights" in err.splitlines()[-1], err
