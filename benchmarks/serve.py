"""Latency of a classifier from text to probabilities, and the time for embeddings, beside other runtimes.

The model is MiniLM ($TFZOO_DATA/../checkpoints/all-MiniLM-L6-v2). As a classifier it has a new head, and the texts are
the first 256 of sentiment_rt/eval.jsonl in order; with --model=bert_base, a BERT-base with random weights classifies 32
texts of 128 tokens, one per call. Each batch is padded to its longest text, in LiteRT to the next
exported length. The conversion is part of each worker; the time is the median over the batches of a round, then
over the rounds. The variants `embed` compute vectors of the first 1,000 texts, each in batches of its own choice.
"""
import json
import pathlib
import statistics
import sys
import tempfile

from absl import app, flags

from benchmarks.interleave import (FLAGS, Worker, add_flags, command_of, data_folder, refuse_words, report, row_of,
                                   variants_of)
from experiments.app import import_tensorflow

MODULE = "benchmarks.serve_worker"
SYSTEMS = {"tfzoo": ("saved_model", "frozen", "embed"), "tfzoo-litert": ("default", "embed"), "pytorch": ("eager",),
           "onnxruntime": ("default",), "openvino": ("latency",), "sentence-transformers": ("embed",)}
DTYPES = {"tfzoo-litert": ("float32", "int8"), "onnxruntime": ("float32", "int8")}
TEXTS, LONG, EMBEDDED = 256, 32, 1000
JOINED = 8  # reviews that have more than 128 tokens together
add_flags(rounds=5, steps=1)
flags.DEFINE_enum("model", "minilm", ["minilm", "bert_base"], "Model to measure.", allow_override=True)
flags.DEFINE_list("batches", ["1", "8", "32"], "Texts per call.", allow_override=True)
flags.DEFINE_integer("threads", 2, "Threads for each system.", lower_bound=1, allow_override=True)


def write_model(folder, name="minilm"):
    """Write MiniLM or a random BERT-base with a new head for two labels, in both formats: two str, their folders."""
    import tfzoo
    from tfzoo.checkpoints import Loaded
    from tfzoo.checkpoints.folder import with_head
    from tfzoo.layers import initial_weights
    from tfzoo.tasks import task_of
    body = tfzoo.load(data_folder("../checkpoints/all-MiniLM-L6-v2"))
    task = task_of("classification", labels=["negative", "positive"])
    with initial_weights(0):
        model = with_head(body, task)[0] if name == "minilm" else tfzoo.build(
            name, task=task.name, labels=task.labels, vocab_size=body.tokenizer.vocab_size)
    loaded = Loaded(model, body.tokenizer, {
        "model": body.config["model"] if name == "minilm" else name, "task": task.name, "labels": task.labels,
        "settings": task.settings, "max_length": 128})
    tfzoo.save(loaded, folder / "ours")
    tfzoo.save(loaded, folder / "theirs", format="huggingface")
    return str(folder / "ours"), str(folder / "theirs")


def agreement(one, other):
    """Return (the share of equal largest columns, the largest difference) of two lists of rows of numbers."""
    same = sum(max(range(len(row)), key=row.__getitem__) == max(range(len(row)), key=rows.__getitem__)
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


def works_of(name):
    """Return the workloads of a model: dict of name -> (list of str, the texts; list of int, texts per call)."""
    lines = (data_folder("sentiment_rt") / "eval.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    if name == "bert_base":
        return {name: ([" ".join(texts[JOINED * number:][:JOINED]) for number in range(LONG)], [1])}
    return {name: (texts[:TEXTS], list(map(int, FLAGS.batches))), "embed": (texts[:EMBEDDED], [EMBEDDED])}


def main(argv):
    refuse_words(argv)
    variants = variants_of(SYSTEMS, DTYPES)
    rows, found, checkpoint = [], {}, str(data_folder("../checkpoints/all-MiniLM-L6-v2"))
    with tempfile.TemporaryDirectory() as folder:
        import_tensorflow()
        ours, theirs = write_model(pathlib.Path(folder), FLAGS.model)
        for work, (texts, sizes) in works_of(FLAGS.model).items():
            recipe = {"model": ours, "theirs": theirs, "texts": texts, "threads": FLAGS.threads, "batches": sizes,
                      "folder": checkpoint}
            commands = {variant: command_of(MODULE, recipe, variant) for variant in variants
                        if (variant.split()[1] == "embed") == (work == "embed")}
            found.update({(work, *key): answers for key, answers in measure(commands, sizes, FLAGS.rounds).items()})
    for (work, batch, variant), answers in found.items():
        reference = found.get((work, batch, f"tfzoo {'embed' if work == 'embed' else 'saved_model'} float32"))
        same, far = agreement(reference[0]["rows"], answers[0]["rows"]) if reference else (None, None)
        each = [answer["milliseconds"] for answer in answers]
        rows.append(row_of(f"{work}_{batch}", variant, ms=statistics.median(each), slowest=max(each), fastest=min(each),
                           **{"same labels": same, "largest difference": far},
                           peak_bytes=max(answer["peak_bytes"] for answer in answers)))
    for row in rows:
        if row["system"].startswith("tfzoo"):
            others = [other for other in rows if other["workload"] == row["workload"]
                      and not other["system"].startswith("tfzoo")]
            print(f"{row['workload']}: {row['system']} {row['variant']} {row['dtype']} takes " + ", ".join(
                f"{row['ms'] / other['ms']:.2f} x {other['system']} {other['dtype']}" for other in others))
    report(rows, {"workload": "{}", "system": "{}", "variant": "{}", "dtype": "{}", "ms": "{:>.2f}",
                  "fastest": "{:>.2f}", "slowest": "{:>.2f}", "same labels": "{}", "largest difference": "{}",
                  "peak_bytes": "{:>,}"}, FLAGS.json)


if __name__ == "__main__":
    app.run(main)
