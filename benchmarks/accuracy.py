"""Accuracy after fine-tuning a real checkpoint: tfzoo's script compared with a PyTorch loop, averaged over seeds.

Both train for three epochs on batches of 32 texts, with linear warmup to 5e-5 over the first tenth of the steps, linear
decay to 0, AdamW with weight decay 0.01 (except on biases and norms), and gradients clipped to norm 1. They are
evaluated after each epoch, and the best accuracy is reported. tfzoo runs `experiments.finetune`, as users do; PyTorch
runs the loop in benchmarks.finetune_worker with the transformers model.
"""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from absl import app, flags

from benchmarks.finetune_worker import examples_of
from benchmarks.interleave import (FLAGS, ROOT, Worker, add_flags, command_of, data_folder, refuse_words, report,
                                   row_of, variants_of)

SETS = {"sentiment_rt": ("train.jsonl", "eval.jsonl"), "sentiment_sst2": ("train.tsv", "dev.tsv"),
        "topic_trec": ("train.jsonl", "test.jsonl")}
SYSTEMS = {"tfzoo": ("finetune",), "pytorch": ("eager",)}
EPOCHS = 3

add_flags()
flags.DEFINE_string("checkpoint", None, "Hugging Face folder to fine-tune [default: all-MiniLM-L6-v2 in "
                    "$TFZOO_DATA/../checkpoints].")
flags.DEFINE_multi_enum("data", list(SETS), list(SETS), "Data set in $TFZOO_DATA; repeatable.")
flags.DEFINE_integer("seeds", 3, "Number of runs per system, with seeds 0, 1, ...", lower_bound=1)


def script(recipe, dtype):
    """Fine-tune with tfzoo's script, and return the accuracy of the best epoch: float."""
    with tempfile.TemporaryDirectory() as folder:
        words = {"init": recipe["checkpoint"], "data": recipe["train"], "eval_data": recipe["eval"], "epochs": EPOCHS,
                 "batch_size": recipe["batch"], "learning_rate": recipe["rate"], "weight_decay": recipe["decay"],
                 "clip_norm": recipe["clip"], "precision": dtype, "seed": recipe["seed"], "output_dir": folder}
        command = [sys.executable, "-m", "experiments.finetune", *(f"--{name}={word}" for name, word in words.items())]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit((done.stderr.strip().splitlines() or ["the script gave no message"])[-1])
        return json.loads((pathlib.Path(folder) / "results.json").read_text())["accuracy"]


def loop(recipe, variant):
    """Fine-tune with another system's loop, and return the accuracy of the best epoch: float."""
    worker, found = Worker(command_of("benchmarks.finetune_worker", recipe, variant)), []
    for _ in range(EPOCHS):
        answer = worker.ask(recipe["steps"] // EPOCHS) and worker.ask("evaluate 1")
        if answer is None:
            raise SystemExit(f"{variant}: {worker.problem}")
        found.append(answer["accuracy"])
    worker.close()
    return max(found)


def recipe_of(name, seed):
    """Return the recipe (data and hyperparameters) for a data set: dict."""
    train, held = (str(data_folder(f"{name}/{file}")) for file in SETS[name])
    steps = -(-len(examples_of(train)[0]) // 32) * EPOCHS
    return {"checkpoint": FLAGS.checkpoint or str(data_folder("../checkpoints/all-MiniLM-L6-v2")), "train": train,
            "eval": held, "length": 128, "batch": 32, "dropout": 0.1, "rate": 5e-5, "decay": 0.01, "clip": 1.0,
            "seed": seed, "steps": steps, "warmup": steps // 10}


def main(argv):
    refuse_words(argv)
    rows = []
    for name in FLAGS.data:
        for variant in variants_of(SYSTEMS):
            found = []
            for seed in range(FLAGS.seeds):
                recipe, (system, _, dtype) = recipe_of(name, seed), variant.split()
                found.append(script(recipe, dtype) if system == "tfzoo" else loop(recipe, variant))
                print(f"{name}, {variant}, seed {seed}: {found[-1]:.4f}", file=sys.stderr)
            rows.append(row_of(name, variant, mean=statistics.mean(found), lowest=min(found), highest=max(found),
                               accuracies=found))
    report(rows, {"workload": "{}", "system": "{}", "dtype": "{}", "mean": "{:>.4f}", "lowest": "{:>.4f}",
                  "highest": "{:>.4f}"}, FLAGS.json)


if __name__ == "__main__":
    app.run(main)
