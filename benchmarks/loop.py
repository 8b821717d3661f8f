"""Overhead of the training loop compared with bare steps, and the time that training runs spend waiting for data.

First, the complete loop as the scripts run it (with batches made in the background, records, TensorBoard, and the
progress bar shown on a terminal) is compared with the bare compiled step on a batch that is already on the device; the
two alternate step by step. Then each training flagfile in experiments/flags is run for a few steps. The fraction of
time spent waiting for data is read from the run's metrics.jsonl, excluding the first record, whose time includes
compilation.
"""
import contextlib
import io
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from benchmarks.interleave import ROOT, data_folder, refuse_words, report

FLAGS = flags.FLAGS
flags.DEFINE_integer("rounds", 6, "Number of measurements of the loop, with 50 steps each.", lower_bound=1)
flags.DEFINE_integer("steps", 30, "Number of steps to run each flagfile for.", lower_bound=10)
flags.DEFINE_list("only", [], "Measure only workloads and flagfiles whose name contains one of these strings.")
flags.DEFINE_string("json", None, "Also write the rows to this JSON file.")

WORKLOADS = {"bert_tiny": (32, 64), "bert_l4_h256": (32, 128)}  # model -> rows and tokens per batch
VOCABULARY, RECORD = 8000, 50  # RECORD: steps between records, the default of --log_every
LONGEST_LOOP, LONGEST_WAIT = 0.03, 0.02  # targets
OURS = ("epochs", "steps", "log_every", "eval_every", "save_every", "warmup_steps")  # flags removed from flagfiles


def is_chosen(name):
    return not FLAGS.only or any(part in name for part in FLAGS.only)


class Terminal(io.StringIO):
    """Stream that claims to be a terminal, so that progress bars are drawn."""

    def isatty(self):
        return True


def make_parts(model, rows, length):
    """Return (trainer, data, schedule) for masked language modelling on packed random texts, as in `pretrain`."""
    import numpy as np

    import tfzoo
    from tfzoo.data.encode import EncodedTexts
    from tfzoo.data.packing import PackedBatches
    from tfzoo.tasks import task_of
    from tfzoo.tasks.masked_lm import masked
    from tfzoo.text import load_tokenizer
    from tfzoo.training.optimizer import WarmUp, make_optimizer
    from tfzoo.training.trainer import Trainer
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 2 * length, 20000)
    edges = np.cumsum([0, *lengths])
    texts = EncodedTexts(rng.integers(4, VOCABULARY, edges[-1]).astype(np.int32), edges[:-1], edges[1:])
    tokenizer = load_tokenizer("bytes")
    tokenizer.vocab_size = VOCABULARY  # so that masking costs as much as with a real vocabulary
    data = masked(PackedBatches(texts, tokenizer, rows, length, seed=0, shuffle=True), tokenizer, 0)
    built = tfzoo.build(model, task="masked_lm", vocab_size=VOCABULARY, dropout=0.1)
    schedule = WarmUp(1e-4, 1000, 100)
    optimizer = make_optimizer("adamw", schedule, built.trainable_variables)
    return Trainer(built, task_of("masked_lm"), optimizer), data, schedule


def alternate(trainer, data, schedule, rounds):
    """Run a loop with a bare step after each iteration.

    Returns:
        float [rounds, RECORD, 2], the time in seconds of each iteration and of the bare step after it. Each round
        includes one log record. The first iteration, which starts a thread, and the last, which saves, are dropped.
    """
    import numpy as np
    import tensorflow as tf

    from tfzoo.training.checkpointing import Checkpoints
    from tfzoo.training.loop import Loop, Pace
    from tfzoo.training.run_folder import RunFolder
    from tfzoo.training.strategy import local_value, place
    batch, times, train = data.batch(0), [], trainer.train
    placed, stop = place(trainer.strategy, batch), tf.constant(0.0)
    count = {name: tf.constant(number, tf.float32) for name, number in trainer.task.counts(batch).items()}

    def train_and_mark(*inputs):
        begin = time.perf_counter()
        for made in train(*inputs):
            yield made
            done = time.perf_counter()  # the loop has processed the step and asks for the next
            float(local_value(trainer.strategy, trainer._step(placed, count, stop))[1])
            end = time.perf_counter()
            times.append((done - begin, end - done))
            begin = time.perf_counter()

    trainer.train = train_and_mark
    with tempfile.TemporaryDirectory() as folder, RunFolder(folder) as run, contextlib.redirect_stderr(Terminal()):
        run.create("", {})
        pace = Pace(RECORD * rounds + 2, log_every=RECORD, eval_every=0, save_every=0)
        checkpoints = Checkpoints(pathlib.Path(folder) / "checkpoints")
        Loop(trainer, data, run, checkpoints, pace, schedule=schedule).run_to_end()
    del trainer.train
    return np.reshape(times[1:-1], (rounds, RECORD, 2))


def measure_loop(model, rows, length):
    """Return a row with the overhead of the loop, as a fraction of the bare step time: dict."""
    import numpy as np
    trainer, data, schedule = make_parts(model, rows, length)
    print(f"{model}: {FLAGS.rounds} rounds of {RECORD} steps", file=sys.stderr)
    rounds = alternate(trainer, data, schedule, FLAGS.rounds).mean(1)  # [rounds, 2]
    loop, bare = 1000 * np.median(rounds, 0)
    return {"workload": f"{model}_{rows}x{length}", "measure": "loop overhead",
            "value": float(np.median(rounds[:, 0] / rounds[:, 1])) - 1, "wanted": LONGEST_LOOP,
            "detail": f"{loop:.2f} ms per step, {bare:.2f} bare", "rounds_seconds": rounds.tolist()}


def command_in(text):
    """Parse the command in a flagfile's header, and return (script, its arguments except --flagfile)."""
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    command = re.search(r"python -m experiments\.(\w+)((?:.*\\\n)*.*)", "\n".join(lines))
    words = shlex.split(os.path.expandvars(command[2].replace("\\\n", " ")))
    return command[1], [word for word in words if not word.startswith("--flagfile")]


def value_of(words, flag):
    """Return the value of a flag in a list of arguments, or None."""
    return next((word.split("=", 1)[1] for word in words if word.startswith(f"--{flag}=")), None)


def measure_flagfiles():
    """Run each training flagfile, after the run that it uses as --init, if any, and return their rows: list of dict."""
    os.environ.setdefault("TFZOO_DATA", str(data_folder("")))
    commands = {path: command_in(path.read_text()) for path in sorted((ROOT / "experiments" / "flags").glob("*.flags"))}
    commands = {path: command for path, command in commands.items() if command[0] in ("pretrain", "finetune")}
    makers = {value_of(words, "output_dir"): path for path, (_, words) in commands.items()}
    rows = {}

    def run(path, folder):
        script, words = commands[path]
        before = makers.get(value_of(words, "init"))
        if before is not None:
            run(before, folder)
        if path not in rows:
            rows[path] = run_flagfile(path, script, words, folder)

    with tempfile.TemporaryDirectory() as folder:
        for path in commands:
            if is_chosen(path.name):
                run(path, folder)
    return list(rows.values())


def run_flagfile(path, script, words, folder):
    """Run a flagfile in `folder`, and return a row with the fraction of time spent waiting for data: dict."""
    own = [line for line in path.read_text().splitlines()
           if line.startswith("--") and line[2:].split("=")[0] not in OURS]
    command = [sys.executable, "-m", f"experiments.{script}", *own, *words, f"--steps={FLAGS.steps}",
               f"--log_every={max(1, FLAGS.steps // 5)}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{path.name}: {done.stderr.strip().splitlines()[-1]}")
    metrics = pathlib.Path(folder) / value_of(words, "output_dir") / "metrics.jsonl"
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    waits = [record["data_wait"] for record in records if record["split"] == "train"][1:]
    print(f"{path.name}: done", file=sys.stderr)
    return {"workload": path.name, "measure": "waiting for data", "value": statistics.fmean(waits),
            "wanted": LONGEST_WAIT, "detail": f"{min(waits):.2%} to {max(waits):.2%}", "waits": waits}


def main(argv):
    refuse_words(argv)
    rows = [measure_loop(model, *shape) for model, shape in WORKLOADS.items() if is_chosen(model)]
    rows += measure_flagfiles()
    report(rows, {"workload": "{}", "measure": "{}", "value": "{:>.2%}", "wanted": "{:>.0%}", "detail": "{}"},
           FLAGS.json)
    for row in rows:
        if row["value"] > row["wanted"]:
            print(f"{row['workload']}: {row['measure']} {row['value']:.2%}, above the target of {row['wanted']:.0%}",
                  file=sys.stderr)


if __name__ == "__main__":
    app.run(main)
