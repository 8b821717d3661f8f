"""Peak memory and time of attention (forward and backward) by sequence length, plain and blockwise over query rows.

Each variant runs in its own process. Memory is the peak minus the resident memory before the first step, so it includes
memory used by the compiler.
"""
import itertools
import json
import statistics
import subprocess
import sys
import time

from absl import app, flags

from benchmarks.interleave import ROOT, report

FLAGS = flags.FLAGS
flags.DEFINE_multi_integer("length", [1024, 2048, 4096, 8192], "Tokens per row; repeatable.")
flags.DEFINE_integer("num_heads", 12, "Number of heads, each of width 64.", lower_bound=1)
flags.DEFINE_float("dropout", 0.1, "Dropout rate of the attention probabilities.", lower_bound=0, upper_bound=0.9)
flags.DEFINE_float("gigabytes", 6, "Skip plain attention if five times the size of its scores exceeds this many GiB.")
flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "Compute dtype.")
flags.DEFINE_integer("rounds", 3, "Number of measured steps, after one warm-up step.", lower_bound=1)
flags.DEFINE_string("json", None, "Also write the rows to this JSON file.")
flags.DEFINE_string("variant", None, "Internal: measure this variant in this process.")


def _memory(key):
    # From /proc/self/status, in bytes; unlike the peak from getrusage, it is not inherited from the parent process.
    line = next(line for line in open("/proc/self/status") if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def measure(system, xla, length):
    """Return the peak memory added by the steps, and the median step time: dict."""
    import numpy as np
    import tensorflow as tf

    from tfzoo.layers import Attention, blockwise, training_step
    blockwise.LARGE = 0 if system == "blocks" else float("inf")
    width = 64 * FLAGS.num_heads
    layer = Attention(FLAGS.num_heads, width, FLAGS.dropout, name="attention",
                      dtype="mixed_bfloat16" if FLAGS.precision == "bfloat16" else "float32")
    layer.build()
    inputs = tf.constant(np.random.default_rng(0).standard_normal((1, length, width)), layer.compute_dtype)
    visible = tf.reshape(tf.range(length) < length - 5, (1, 1, 1, length))

    @tf.function(jit_compile=xla == "xla", autograph=False)
    def step(inputs, visible):
        with training_step(0, 1), tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(tf.square(tf.cast(layer(inputs, visible=visible, training=True), tf.float32)))
        return tape.gradient(loss, [inputs, *(variable.value for variable in layer.trainable_variables)])

    before, seconds = _memory("VmRSS"), []
    for _ in range(FLAGS.rounds + 1):
        begin = time.perf_counter()
        step(inputs, visible)[0].numpy()
        seconds.append(time.perf_counter() - begin)
    return {"peak_bytes": _memory("VmHWM") - before, "seconds": statistics.median(seconds[1:])}


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}: only flags are allowed")
    if FLAGS.variant:
        system, xla, length = FLAGS.variant.split()
        print(json.dumps(measure(system, xla, int(length))))
        return
    rows = []
    for system, xla, length in itertools.product(("blocks", "plain"), ("no_xla", "xla"), FLAGS.length):
        if system == "plain" and 5 * 4 * FLAGS.num_heads * length ** 2 > FLAGS.gigabytes * 2 ** 30:
            continue
        command = [sys.executable, "-m", "benchmarks.attention", f"--variant={system} {xla} {length}",
                   *(f"--{name}={FLAGS[name].value}" for name in ("num_heads", "dropout", "precision", "rounds"))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            print(f"{system} {xla} {length}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        row = {"workload": f"attention_1x{FLAGS.num_heads}x{length}", "system": "tfzoo", "variant": f"{system} {xla}",
               "dtype": FLAGS.precision, **json.loads(done.stdout.splitlines()[-1])}
        rows.append({**row, "megabytes": row["peak_bytes"] / 2 ** 20, "tokens_per_second": length / row["seconds"]})
    report(rows, {"workload": "{}", "variant": "{}", "dtype": "{}", "megabytes": "{:>10.0f}", "seconds": "{:>8.3f}",
                  "tokens_per_second": "{:>18.0f}"}, FLAGS.json)


if __name__ == "__main__":
    app.run(main)
