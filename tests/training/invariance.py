"""Train on the same global batches, split in all ways over devices, workers and microbatches, with and without XLA.

`python -m tests.training.invariance FOLDER` trains the 24 settings in separate processes and prints their largest
differences; the slow test calls the same functions. Each setting trains a small masked language model with unequal
counts of masked tokens, dropout, clipping and weight decay, past an incomplete last batch into a second epoch.
"""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from experiments.launch import free_ports
from tests.helpers import CHECKOUT

STEPS, ROWS = 6, 16
DEVICES = ("1", "2", "4", "2 workers")
MICROBATCHES, COMPILED = (1, 2, 4), (False, True)


def settings():
    """Return the 24 settings: list of (devices, microbatches, compiled)."""
    return [(devices, parts, xla) for devices in DEVICES for parts in MICROBATCHES for xla in COMPILED]


def run_settings(folder, devices, steps=STEPS, task="masked_lm"):
    """Train the six settings of one kind of device in one process (or two workers); write their arrays to `folder`.

    For other tasks than masked_lm, it is only the setting with as many microbatches as devices, and without XLA.
    """
    kind = "multi_worker" if devices == "2 workers" else "mirrored" if devices != "1" else "one_device"
    command = [sys.executable, "-m", "tests.training.invariance", str(folder), devices, kind, str(steps), task]
    environments = [{}]
    if kind == "multi_worker":
        ports = free_ports(2)
        environments = [{"TF_CONFIG": json.dumps({"cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
                                                  "task": {"type": "worker", "index": index}})} for index in range(2)]
    processes = [subprocess.Popen(command, cwd=CHECKOUT, env={**os.environ, **more}, stderr=subprocess.PIPE, text=True)
                 for more in environments]
    errors = [process.communicate(timeout=1200)[1] for process in processes]
    for process, error in zip(processes, errors):
        if process.returncode:
            raise RuntimeError(error[-3000:])


def path_of(folder, devices, parts, xla):
    """Return the path of the arrays of a setting: pathlib.Path."""
    return pathlib.Path(folder) / f"{devices.replace(' ', '_')}-{parts}-{'xla' if xla else 'plain'}.npz"


def differences(folder, setting, reference=("1", 1, False)):
    """Return the largest differences of a setting from the reference, relative to the largest value of each kind.

    Returns:
        dict of kind -> float: first_momentum (the first step's clipped gradient / 10), weights (variables and their
        averages, each relative to its own largest value), momentum and velocity (after the last step), losses (loss
        and gradient norm of each step), counts (masked tokens of each step), evaluation.
    """
    got, expected = np.load(path_of(folder, *setting)), np.load(path_of(folder, *reference))
    assert sorted(got.files) == sorted(expected.files)
    largest, worst = {}, {}
    for name in expected.files:
        kind = name.split(":")[0]
        # Some gradients are zero up to rounding (a key bias does not change the softmax), so they have no scale.
        scale = name if kind == "weights" else kind
        largest[scale] = max(largest.get(scale, 1e-12), float(np.abs(expected[name]).max()))
    for name in expected.files:
        kind = name.split(":")[0]
        off = np.abs(got[name] - expected[name]).max() / largest[name if kind == "weights" else kind]
        worst[kind] = max(worst.get(kind, 0.0), float(off))
    return worst


def make_data(task):
    """Return (Task, training data, evaluation data) for masked_lm, contrastive with hard negatives and dropout, or
    tagging with windows, context and predicates."""
    from tests.tasks.test_tasks import TOKENIZER
    from tfzoo.data.batches import TextBatches
    from tfzoo.data.encode import EncodedTexts
    from tfzoo.data.several import SeveralTexts
    from tfzoo.tasks import task_of
    from tfzoo.tasks.contrastive import ContrastiveBatches
    from tfzoo.tasks.masked_lm import masked
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 14, 77)
    edges = np.cumsum([0, *lengths])
    encoded = EncodedTexts(rng.integers(5, 53, lengths.sum()).astype(np.int32), edges[:-1], edges[1:])
    if task == "masked_lm":
        return task_of(task), *(masked(TextBatches((encoded,), TOKENIZER, ROWS, 16, 3, shuffle=training), TOKENIZER, 3)
                                for training in (True, False))
    if task == "tagging":
        return _make_sentences()
    made = task_of(task, group_size=4, pooling="first", projected=True, similarity_temperature=0.5)
    numbers = rng.integers(-20, 77, (77, 4))  # a fifth of the hard negatives are missing
    numbers[:, :2] = np.stack([np.arange(77), rng.permutation(77)], 1)
    return made, *(ContrastiveBatches(SeveralTexts(
        encoded, np.maximum(numbers, -1), TOKENIZER, 2, ROWS, 16, 3, shuffle=training), made)
        for training in (True, False))


def _make_sentences():
    from tfzoo.data.sentences import Sentences
    from tfzoo.tasks import task_of
    from tfzoo.text import load_tokenizer
    labels, rng = ["O", "B-X", "I-X", "B-Y", "I-Y"], np.random.default_rng(0)
    sizes = rng.integers(1, 9, 77)
    source = Sentences("sentences", {
        "tokens": [["abc"[:rng.integers(1, 4)] for _ in range(size)] for size in sizes],
        "tags": [[labels[number] for number in rng.choice([0, 1, 3], size)] for size in sizes],
        "document": (np.arange(77) // 5).tolist(), "predicate": [int(rng.integers(size)) for size in sizes]})
    made = task_of("tagging", labels, overlap=3, context=4, decoding="viterbi")
    return made, *(made.features(source, load_tokenizer("bytes"), batch_size=ROWS, max_length=16, seed=3,
                                 training=training) for training in (True, False))


def make_setting(strategy, parts, xla, task="masked_lm"):
    """Return (trainer, training data, evaluation data)."""
    import keras

    from tests.tasks.test_tasks import SMALL
    from tfzoo.tasks import build_for
    from tfzoo.training.optimizer import WarmUp, make_optimizer
    from tfzoo.training.trainer import Trainer
    task, *data = make_data(task)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = build_for("bert_tiny", task, **{**SMALL, "dropout": 0.2, "max_length": 16, "num_layers": 1,
                                                "vocab_size": 300 if task.name == "tagging" else 53})
        rng = np.random.default_rng(1)
        for variable in model.trainable_variables:
            variable.assign(variable + 0.1 * rng.standard_normal(variable.shape).astype(np.float32))
        optimizer = make_optimizer("adamw", WarmUp(1e-3, 20, 4), model.trainable_variables, 0.1, ema_decay=0.9)
        trainer = Trainer(model, task, optimizer, seed=5, clip_norm=0.5, microbatches=parts, xla=xla,
                          strategy=strategy)
    return trainer, *data


def train(folder, devices, strategy, steps, task):
    """Train all combinations of microbatches and XLA on a strategy; write the arrays of each to a file."""
    from tfzoo.training.strategy import is_chief
    for parts in MICROBATCHES if task == "masked_lm" else (int(devices),):
        for xla in COMPILED if task == "masked_lm" else (False,):
            trainer, data, eval_data = make_setting(strategy, parts, xla, task)
            left, losses, counts = {}, [], []
            for number, sums, norm, finite, *_ in trainer.train(data, steps):
                if number == 1:
                    optimizer = trainer.arrays()["optimizer"]
                    left.update({f"first_momentum:{path}": optimizer[path] for path in optimizer
                                 if path.endswith("momentum")})
                losses += [float(sums["loss"]), float(norm)]
                counts.append(float(sums["count"]))
            with trainer.averages():
                metrics = trainer.evaluator.evaluate(eval_data)
            arrays = trainer.arrays()
            left.update({f"weights:{path}": value for path, value in arrays["model"].items()})
            left.update({f"weights:{path}": value for path, value in arrays["optimizer"].items() if "average" in path})
            left.update({f"{path.rsplit('_', 1)[1]}:{path}": value for path, value in arrays["optimizer"].items()
                         if path.endswith(("momentum", "velocity"))})
            left.update({"losses:": np.array(losses), "counts:": np.array(counts),
                         "evaluation:": np.array([metrics["loss"], metrics["accuracy"]])})
            shapes = {batch["token_ids"].shape for batch in map(data.batch, range(steps))}
            assert trainer.traces <= len(shapes), f"{trainer.traces} traces of {len(shapes)} shapes"
            if is_chief(strategy):
                np.savez(path_of(folder, devices, parts, xla), **left)


def main():
    folder = pathlib.Path(sys.argv[1])
    if len(sys.argv) > 2:
        from tfzoo.training.strategy import make_strategy
        devices, kind, steps, task = sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
        train(folder, devices, make_strategy(kind, int(devices) if kind == "mirrored" else 0), steps, task)
        os._exit(0)
    folder.mkdir(parents=True, exist_ok=True)
    for devices in DEVICES:
        run_settings(folder, devices)
    for setting in settings():
        print(*setting, {name: f"{value:.1e}" for name, value in differences(folder, setting).items()})


if __name__ == "__main__":
    main()
