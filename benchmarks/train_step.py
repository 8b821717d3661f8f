"""Training steps beside the same in keras-nlp and PyTorch: AdamW, dropout 0.1, random tokens, no padding.

The floor of a step is the time of its matrix products at the rate that the machine reaches at large ones, plus the
bytes of the optimizer at the rate that it copies with; both are measured here.
"""
import statistics
import sys
import time

from absl import app, flags

from benchmarks.interleave import measure, report
from benchmarks.worker import WORKLOADS

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum("workload", ["bert_small"], sorted(WORKLOADS), "What is trained; may be given several times.")
flags.DEFINE_list("only", [], "Leave out the variants whose line contains none of these, as 'tfzoo no_xla,keras-nlp'.")
flags.DEFINE_integer("rounds", 5, "How often each variant is measured.", lower_bound=1)
flags.DEFINE_integer("steps", 6, "Steps of one measurement.", lower_bound=1)
flags.DEFINE_string("json", None, "Also write the rows into this file.")
flags.DEFINE_string("pytorch_python", None, "A Python with torch and transformers; without it PyTorch is left out.")

VARIANTS = [f"{system} {variant} {dtype}" for system, variants in (
    ("tfzoo", ("no_xla", "xla", "no_xla all")), ("keras-nlp", ("no_xla", "xla")), ("pytorch", ("eager", "compiled")))
    for variant in variants for dtype in ("bfloat16", "float32")]


def _best_seconds(function, repeats=15):
    function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def peaks():
    """Return the machine's rates: FLOP/s of large matrix products by dtype, and bytes/s of an update of one array."""
    import tensorflow as tf
    rates, size = {}, 2048
    for dtype in ("bfloat16", "float32"):
        left, right = (tf.cast(tf.random.normal((size, size)), dtype) for _ in range(2))
        product = tf.function(lambda left, right: tf.matmul(left, right), autograph=False)
        rates[dtype] = 2 * size ** 3 / _best_seconds(lambda: product(left, right).numpy().size)
    values = tf.Variable(tf.zeros(2 ** 25))
    update = tf.function(lambda: values.assign_add(tf.ones(2 ** 25)) is None, autograph=False)
    rates["bytes"] = 2 * 4 * 2 ** 25 / _best_seconds(update)
    return rates


def floor(work, dtype, rates):
    """Return (seconds that no step can be under, FLOP of the matrix products, bytes of the optimizer).

    Of each projection's product there are three, one forward and two backward; of the last block only what is computed:
    keys and values for all positions, the rest for those that are read.
    """
    rows, width, length = work["batch"] * work["length"], work["width"], work["length"]
    read = {"classification": 1, "masked_lm": work.get("masked"), "causal_lm": length}[work["task"]]
    block = 12 * width ** 2 + 2 * length * width  # of a position, multiplications
    last = 2 * width ** 2 * length + (10 * width ** 2 + 2 * length * width) * read
    head = width * work["vocab"] * read if work["task"] != "classification" else 0
    if work["task"] == "masked_lm":
        head += width ** 2 * read
    flops = 6 * (rows * block * (work["layers"] - 1) + work["batch"] * (last + head))
    parameters = work["layers"] * 12 * width ** 2 + (work["vocab"] + work["positions"]) * width
    moved = parameters * 4 * 7  # weight, two moments and gradient read, three written
    return flops / rates[dtype] + moved / rates["bytes"], flops, moved


def command_of(workload, variant):
    """Return the command of a variant's worker."""
    system, *variant, dtype = variant.split()
    python = FLAGS.pytorch_python if system == "pytorch" else sys.executable
    return [python, "-m", "benchmarks.worker", workload, system, " ".join(variant), dtype]


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"got {argv[1:]}: allowed are flags only")
    rates, rows = peaks(), []
    print(f"matrix products of 2048 x 2048 x 2048: bfloat16 {rates['bfloat16'] / 1e9:.0f}, float32 "
          f"{rates['float32'] / 1e9:.0f} GFLOP/s; an update of an array: {rates['bytes'] / 1e9:.1f} GB/s")
    for workload in FLAGS.workload:
        variants = [variant for variant in VARIANTS if not FLAGS.only or any(part in variant for part in FLAGS.only)]
        if not FLAGS.pytorch_python:
            variants = [variant for variant in variants if not variant.startswith("pytorch")]
        work = WORKLOADS[workload]
        results = measure({variant: command_of(workload, variant) for variant in variants}, FLAGS.rounds, FLAGS.steps)
        for variant, result in results.items():
            seconds, dtype = result["seconds"], variant.split()[-1]
            rows.append({"workload": workload, "variant": variant, "ms": 1000 * seconds,
                         "examples/s": work["batch"] / seconds,
                         "tokens/s": work["batch"] * work["length"] / seconds,
                         "floor": floor(work, dtype, rates)[0] / seconds, "peak MB": result["peak_bytes"] / 2 ** 20,
                         **result})
    report(rows, {"workload": "{}", "variant": "{}", "ms": "{:>.0f}", "examples/s": "{:>.1f}", "tokens/s": "{:>,.0f}",
                  "floor": "{:>.0%}", "peak MB": "{:>,.0f}"}, FLAGS.json)


if __name__ == "__main__":
    app.run(main)
