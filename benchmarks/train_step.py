"""Time of a training step in tfzoo, keras-nlp and PyTorch: AdamW, dropout 0.1, random tokens, no padding.

The floor is a lower bound on the step time: the time for the step's matrix products at the machine's peak rate for
large products, plus the time to read and write the optimizer's arrays at the peak rate for updating an array. Both
rates are measured first.
"""
from absl import app, flags

from benchmarks.interleave import add_flags, add_ratios, measure_systems, refuse_words, report, row_of
from benchmarks.peaks import peaks
from benchmarks.worker import LABELS, WORKLOADS
from experiments.app import import_tensorflow

FLAGS = flags.FLAGS
add_flags(rounds=5, steps=6)
flags.DEFINE_multi_enum("workload", ["bert_small"], sorted(WORKLOADS), "Workload to train; repeatable.",
                        allow_override=True)

SYSTEMS = {"tfzoo": ("no_xla", "xla", "no_xla all"), "keras-nlp": ("no_xla", "xla"), "pytorch": ("eager", "compiled")}


def floor(work, dtype, rates):
    """Return (lower bound on the step time in seconds, FLOPs in matrix products, bytes that the optimizer moves).

    Each projection takes three products, one forward and two backward. In the last block, only the positions that the
    head reads are computed; if it reads a single position, not even the keys and values of the others are.
    """
    rows, width, length = work["batch"] * work["length"], work["width"], work["length"]
    block = 12 * width ** 2 + 2 * length * width  # multiplications per position
    if work["task"] == "classification":  # and the pooler
        last, head = 12 * width ** 2 + 2 * work["heads"] * length * width, width ** 2 + LABELS * width
    else:
        read = work["masked"] if work["task"] == "masked_lm" else length
        last = 2 * width ** 2 * length + (10 * width ** 2 + 2 * length * width) * read
        head = (work["vocab"] + (width if work["task"] == "masked_lm" else 0)) * width * read
    flops = 6 * (rows * block * (work["layers"] - 1) + work["batch"] * (last + head))
    parameters = work["layers"] * 12 * width ** 2 + (work["vocab"] + work["positions"]) * width
    moved = parameters * 4 * 7  # weight, two moments and gradient read, three written
    return flops / rates[dtype] + moved / rates["bytes"], flops, moved


def main(argv):
    refuse_words(argv)
    import_tensorflow()
    rates, rows = peaks(), []
    print(f"matrix products: bfloat16 {rates['bfloat16'] / 1e9:.0f}, float32 "
          f"{rates['float32'] / 1e9:.0f} GFLOP/s; updating an array: {rates['bytes'] / 1e9:.1f} GB/s")
    for workload in FLAGS.workload:
        work, found = WORKLOADS[workload], []
        for variant, result in measure_systems("benchmarks.worker", work, SYSTEMS).items():
            seconds = result["seconds"]
            least = floor(work, variant.split()[-1], rates)[0]
            found.append(row_of(workload, variant, **{
                "ms": 1000 * seconds, "examples/s": work["batch"] / seconds,
                "tokens/s": work["batch"] * work["length"] / seconds, "of the floor": least / seconds,
                "peak MB": result["peak_bytes"] / 2 ** 20, **result}))
        add_ratios(found, "examples/s")
        rows += found
    report(rows, {"workload": "{}", "system": "{}", "variant": "{}", "dtype": "{}", "ms": "{:>.0f}",
                  "examples/s": "{:>.1f}", "tokens/s": "{:>,.0f}", "of the floor": "{:>.0%}", "peak MB": "{:>,.0f}"},
           FLAGS.json)


if __name__ == "__main__":
    app.run(main)
