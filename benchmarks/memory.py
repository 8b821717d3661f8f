"""Peak memory of training steps with and without --remat, --accumulate_steps and XLA.

Each variant runs in its own process; the result is its peak resident memory minus the resident
memory before the first step.
"""
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "bert_l12_h256", "Name of the model.")
flags.DEFINE_integer("batch_size", 32, "Rows per batch.", lower_bound=1)
flags.DEFINE_integer("length", 256, "Tokens per row.", lower_bound=8)
flags.DEFINE_string("json", None, "Also write the rows to this JSON file.")
flags.DEFINE_string("variant", None, "Internal: measure this variant in this process.")

ROOT = pathlib.Path(__file__).resolve().parent.parent
VARIANTS = [f"{xla} {remat} {parts}" for xla in ("no_xla", "xla")
            for remat, parts in (("keep", 1), ("remat", 1), ("keep", 4), ("remat", 4))]


def _resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(xla, remat, parts):
    """Return the peak memory added by the steps, examples per second and gradient norm: dict."""
    import keras
    import numpy as np

    import tfzoo
    from tfzoo.tasks import task_of
    from tfzoo.training.optimizer import make_optimizer
    from tfzoo.training.trainer import Trainer
    keras.utils.set_random_seed(0)  # all variants must show the same gradient norm
    labels = ["0", "1"]
    model = tfzoo.build(FLAGS.model, task="classification", labels=labels)
    optimizer = make_optimizer("adamw", 1e-4, model.trainable_variables)
    trainer = Trainer(model, task_of("classification", labels), optimizer, microbatches=int(parts), xla=xla == "xla",
                      remat=remat == "remat")
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 30000, (FLAGS.batch_size, FLAGS.length)).astype(np.int32)
    batch = {"token_ids": tokens, "padding_mask": np.ones_like(tokens), "segment_ids": np.zeros_like(tokens),
             "labels": rng.integers(0, 2, FLAGS.batch_size).astype(np.int32),
             "weights": np.ones(FLAGS.batch_size, np.float32)}
    before = _resident()
    float(trainer.train_step(batch)[1])
    begin = time.perf_counter()
    for _ in range(3):
        norm = float(trainer.train_step(batch)[1])
    seconds = (time.perf_counter() - begin) / 3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak_bytes": peak - before, "examples_per_second": round(FLAGS.batch_size / seconds, 2), "norm": norm}


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}: only flags are allowed")
    if FLAGS.variant:
        print(json.dumps(measure(*FLAGS.variant.split())))
        return
    rows = [{"machine": f"{os.cpu_count()} cores"}]
    for variant in VARIANTS:
        command = [sys.executable, "-m", "benchmarks.memory", f"--variant={variant}", f"--model={FLAGS.model}",
                   f"--batch_size={FLAGS.batch_size}", f"--length={FLAGS.length}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            print(f"{variant}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        row = {"workload": f"{FLAGS.model}_{FLAGS.batch_size}x{FLAGS.length}", "system": "tfzoo", "variant": variant,
               "dtype": "float32", **json.loads(done.stdout.splitlines()[-1])}
        rows.append(row)
        print(f"{variant:18}{row['peak_bytes'] / 2 ** 20:8.0f} MB {row['examples_per_second']:8.1f} examples/s "
              f"gradient norm {row['norm']:.6f}", file=sys.stderr)
    if FLAGS.json:
        pathlib.Path(FLAGS.json).write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    app.run(main)
