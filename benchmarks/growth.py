"""How the time and memory of a training step grow with sequence length, width, depth and vocabulary size.

The base workload is masked language modelling on 8 x 128 tokens with a BERT of 4 layers and width 256, in bfloat16
without XLA; each sweep varies one dimension. --plot draws the measurements, or with --from the measurements from an
earlier run.
"""
import json
import pathlib
import sys

from absl import app, flags

from benchmarks.interleave import (FLAGS, add_flags, add_plot_flags, drawing, drawn_only, measure, refuse_words, report,
                                   tidy)

add_flags(rounds=5, steps=5, peers=False)
flags.DEFINE_multi_enum("sweep", ["length", "width", "layers", "vocab"], ["length", "width", "layers", "vocab"],
                        "Dimension to vary; repeatable.")
add_plot_flags()

BASE = {"family": "bert", "task": "masked_lm", "layers": 4, "width": 256, "heads": 4, "batch": 8, "length": 128,
        "masked": 19, "vocab": 30522, "positions": 512}
SWEEPS = {"length": (64, 128, 256, 512, 1024), "width": (128, 256, 512, 1024), "layers": (2, 4, 8, 12),
          "vocab": (4000, 8000, 16000, 32000, 64000)}
AXES = {"length": "length (tokens per row)", "width": "hidden width (values per token)", "layers": "depth (layers)",
        "vocab": "vocabulary (word pieces)"}


def workload(sweep, value):
    """Return the base workload with one value changed and the dependent values adjusted: dict."""
    work = {**BASE, sweep: value}
    return {**work, "heads": max(1, work["width"] // 64), "masked": max(1, round(0.15 * work["length"])),
            "positions": max(BASE["positions"], work["length"])}


def sweep_rows(sweep):
    """Measure a sweep and return its rows: list of dict."""
    commands = {f"{sweep} {value}": [sys.executable, "-m", "benchmarks.worker", json.dumps(workload(sweep, value)),
                                     "tfzoo", "no_xla", "bfloat16"] for value in SWEEPS[sweep]}
    rows = []
    for variant, result in measure(commands, FLAGS.rounds, FLAGS.steps).items():
        value = int(variant.split()[1])
        work, seconds = workload(sweep, value), result["seconds"]
        built = max(answer["built_bytes"] for answer in result.pop("answers"))
        rows.append({"workload": f"bert_{work['layers']}x{work['width']}_{work['batch']}x{work['length']}"
                                 f"_vocab{work['vocab']}", "system": "tfzoo", "variant": "no_xla", "dtype": "bfloat16",
                     "sweep": sweep, "value": value, "ms": 1000 * seconds, "built_bytes": built,
                     "tokens_per_second": work["batch"] * work["length"] / seconds, **result})
    return rows


def draw(rows, path):
    """Draw time plots above memory plots, one column per sweep."""
    figure = drawing()
    sweeps = [sweep for sweep in SWEEPS if any(row.get("sweep") == sweep for row in rows)]
    if not sweeps:
        raise SystemExit("nothing to draw: --from requires a file written by benchmarks.growth with --json")
    picture = figure(figsize=(3.4 * len(sweeps), 5.6), layout="constrained")
    axes = picture.subplots(2, len(sweeps), squeeze=False)
    for column, sweep in enumerate(sweeps):
        points = sorted((row["value"], row["ms"], row["peak_bytes"], row["built_bytes"]) for row in rows
                        if row.get("sweep") == sweep)
        values, times, peaks, built = zip(*points)
        time, memory = axes[:, column]
        time.plot(values, times, "o-")
        memory.plot(values, [peak / 1e6 for peak in peaks], "o-", label="peak")
        memory.plot(values, [size / 1e6 for size in built], "o--", label="before the first step")
        for axis in (time, memory):
            tidy(axis, AXES[sweep])
        time.set_ylabel("step time (ms)")
        memory.set_ylabel("resident memory (MB)")
    axes[1, 0].legend(loc="lower right")
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=120)


def main(argv):
    refuse_words(argv)
    if drawn_only(draw):
        return
    rows = [row for sweep in FLAGS.sweep for row in sweep_rows(sweep)]
    report(rows, {"sweep": "{}", "value": "{:>}", "ms": "{:>.0f}", "tokens_per_second": "{:>,.0f}",
                  "built_bytes": "{:>,}", "peak_bytes": "{:>,}"}, FLAGS.json)
    if FLAGS.plot:
        draw(rows, FLAGS.plot)


if __name__ == "__main__":
    app.run(main)
