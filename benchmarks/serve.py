"""Latency of a classifier from text to probabilities: tfzoo's SavedModel and LiteRT file beside other runtimes.

The model is MiniLM ($TFZOO_DATA/../checkpoints/all-MiniLM-L6-v2) with a new head, and the texts are the first 256 of
sentiment_rt/eval.jsonl in order. Each batch is padded to its longest text, in LiteRT to the next exported length. The
conversion is part of each worker; the time is the median over the batches of a round, and then over the rounds.
"""
import pathlib
import statistics
import sys
import tempfile

from absl import app, flags

from benchmarks.interleave import (FLAGS, Worker, add_flags, command_of, data_folder, refuse_words, report, row_of,
                                   variants_of)
from experiments.app import import_tensorflow

MODULE = "benchmarks.serve_worker"
SYSTEMS = {"tfzoo": ("saved_model",), "tfzoo-litert": ("default",), "pytorch": ("eager",), "onnxruntime": ("default",),
           "openvino": ("latency",)}
DTYPES = {"tfzoo-litert": ("float32", "int8"), "onnxruntime": ("float32", "int8")}
TEXTS = 256
REFERENCE = "tfzoo saved_model float32"
add_flags(rounds=5, steps=1)
flags.DEFINE_list("batches", ["1", "8", "32"], "Texts per call.", allow_override=True)
flags.DEFINE_integer("threads", 2, "Threads for each system.", lower_bound=1, allow_override=True)


def write_model(folder):
    """Write MiniLM with a new head for two labels, in both formats, and return their folders: two str."""
    import tfzoo
    from tfzoo.checkpoints import Loaded
    from tfzoo.checkpoints.folder import with_head
    from tfzoo.layers import initial_weights
    from tfzoo.tasks import task_of
    body = tfzoo.load(data_folder("../checkpoints/all-MiniLM-L6-v2"))
    task = task_of("classification", labels=["negative", "positive"])
    with initial_weights(0):
        model = with_head(body, task)[0]
    loaded = Loaded(model, body.tokenizer, {"model": body.config["model"], "task": task.name, "labels": task.labels,
                                            "settings": task.settings, "max_length": 128})
    tfzoo.save(loaded, folder / "ours")
    tfzoo.save(loaded, folder / "theirs", format="huggingface")
    return str(folder / "ours"), str(folder / "theirs")


def agreement(one, other):
    """Return (the share of equal labels, the largest difference of probabilities) of two lists of rows."""
    same = sum(max(range(2), key=row.__getitem__) == max(range(2), key=rows.__getitem__)
               for row, rows in zip(one, other, strict=True))
    return same / len(one), max(abs(a - b) for row, rows in zip(one, other) for a, b in zip(row, rows))


def measure(commands, batches, rounds):
    """Run all variants in interleaved rounds: dict of (batch, variant) -> list of answers."""
    workers = {variant: Worker(command) for variant, command in commands.items()}
    found = {}
    for batch in batches:
        for number in range(rounds + 1):  # the first round is a warm-up
            for variant, worker in list(workers.items()):
                answer = worker.ask(f"{batch} 1")
                if answer is None:
                    print(f"{variant}: skipped ({worker.problem})", file=sys.stderr)
                    del workers[variant]
                elif number:
                    found.setdefault((batch, variant), []).append(answer)
            print(f"batch {batch}: round {number} of {rounds}", file=sys.stderr)
    for worker in workers.values():
        worker.close()
    return found


def main(argv):
    import json
    refuse_words(argv)
    variants = variants_of(SYSTEMS, DTYPES)
    lines = pathlib.Path(data_folder("sentiment_rt") / "eval.jsonl").read_text(encoding="utf-8").splitlines()[:TEXTS]
    batches, rows = [int(batch) for batch in FLAGS.batches], []
    with tempfile.TemporaryDirectory() as folder:
        import_tensorflow()
        ours, theirs = write_model(pathlib.Path(folder))
        recipe = {"model": ours, "theirs": theirs, "texts": [json.loads(line)["text"] for line in lines],
                  "threads": FLAGS.threads, "batches": batches}
        found = measure({variant: command_of(MODULE, recipe, variant) for variant in variants}, batches, FLAGS.rounds)
    for (batch, variant), answers in found.items():
        reference = found.get((batch, REFERENCE))
        same, far = agreement(reference[0]["probabilities"], answers[0]["probabilities"]) if reference else (None, None)
        each = [answer["milliseconds"] for answer in answers]
        rows.append(row_of(f"minilm_{batch}", variant, ms=statistics.median(each), slowest=max(each), fastest=min(each),
                           **{"same labels": same, "largest difference": far},
                           peak_bytes=max(answer["peak_bytes"] for answer in answers)))
    for row in rows:
        if row["system"].startswith("tfzoo"):
            others = [other for other in rows if other["workload"] == row["workload"]
                      and not other["system"].startswith("tfzoo")]
            print(f"{row['workload']}: {row['system']} {row['dtype']} takes " + ", ".join(
                f"{row['ms'] / other['ms']:.2f} x {other['system']} {other['dtype']}" for other in others))
    report(rows, {"workload": "{}", "system": "{}", "variant": "{}", "dtype": "{}", "ms": "{:>.2f}",
                  "fastest": "{:>.2f}", "slowest": "{:>.2f}", "same labels": "{}", "largest difference": "{}",
                  "peak_bytes": "{:>,}"}, FLAGS.json)


if __name__ == "__main__":
    app.run(main)
