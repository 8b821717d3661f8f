"""Fine-tuning on sentences of realistic length in several libraries: examples per second, or time to accuracy.

The model has the dimensions of MiniLM (6 layers, width 384) and random weights; the data set is
$TFZOO_DATA/sentiment_rt. Each system pads as its users would: tfzoo to a few bucket lengths, keras-nlp's preprocessor
to 128, PyTorch to the longest text in each batch.
"""
import sys
import time

from absl import app, flags

from benchmarks.interleave import (FLAGS, Worker, add_flags, add_ratios, command_of, data_folder, measure_systems,
                                   refuse_words, report, row_of, variants_of)

add_flags(rounds=5, steps=25)
flags.DEFINE_float("to_accuracy", None, "Measure the time to reach this accuracy on the evaluation set instead, once "
                   "per system and in bfloat16 unless --only is given.", lower_bound=0.0, upper_bound=1.0)
flags.DEFINE_integer("max_steps", 1500, "With --to_accuracy: total number of steps in the schedule.", lower_bound=10)
flags.DEFINE_integer("eval_every", 100, "With --to_accuracy: steps between evaluations.", lower_bound=2)
flags.DEFINE_float("max_minutes", 30.0, "With --to_accuracy: time limit per system.", lower_bound=0.0)
flags.DEFINE_float("learning_rate", 3e-4, "With --to_accuracy: peak rate, after warmup over a tenth of the steps.",
                   lower_bound=0.0)

SYSTEMS = {"tfzoo": ("bucketed",), "keras-nlp": ("no_xla", "xla"), "pytorch": ("eager",)}
ACCURACY = ["tfzoo bucketed bfloat16", "keras-nlp no_xla bfloat16", "pytorch eager bfloat16"]
WORKLOAD = "minilm_sentiment_rt_32x128"
MODULE = "benchmarks.finetune_worker"


def recipe_of(**settings):
    """Return the workers' recipe (data, model and hyperparameters): dict."""
    files = {split: str(data_folder(f"sentiment_rt/{split}.jsonl")) for split in ("train", "eval")}
    return {**files, "vocabulary": str(data_folder("../vocab/bert_uncased/vocab.txt")),
            "layers": 6, "width": 384, "heads": 12, "ffn": 1536, "length": 128, "batch": 32, "dropout": 0.1,
            "decay": 0.01, "clip": 1.0, "seed": 0, **settings}


def speed():
    """Measure examples per second; all bucket lengths are compiled before the first round."""
    recipe = recipe_of(rate=5e-5, steps=0, warmup=0, compile_first=True)
    rows = []
    for variant, result in measure_systems(MODULE, recipe, SYSTEMS).items():
        rates = sorted(answer["examples"] / answer["seconds"] for answer in result.pop("answers"))
        rows.append(row_of(WORKLOAD, variant, examples_per_second=rates[len(rates) // 2], slowest=rates[0],
                           fastest=rates[-1], **result))
    add_ratios(rows, "examples_per_second")
    report(rows, {"system": "{}", "variant": "{}", "dtype": "{}", "examples_per_second": "{:>.1f}",
                  "slowest": "{:>.1f}", "fastest": "{:>.1f}", "peak_bytes": "{:>,}"}, FLAGS.json)


def reach(variant, recipe):
    """Train with one system until it reaches the accuracy or a limit; return its row, or None if it fails.

    The limits are the number of steps and the time. Time is counted from the start of the process and includes imports,
    data loading and model building (together `start_seconds`), compilation, training, and evaluation with its own
    compilation.
    """
    begin = time.perf_counter()
    worker, spent, history = Worker(command_of(MODULE, recipe, variant)), {"train": 0.0, "evaluation": 0.0}, []
    answer = worker.ask("ready 0")
    start, done = time.perf_counter() - begin, 0
    while answer is not None:
        count = min(FLAGS.eval_every, recipe["steps"] - done)
        answer = worker.ask(count)
        found = worker.ask("evaluate 1") if answer is not None else None
        if found is None:
            break
        done += count
        spent["train"] += answer["seconds"]
        spent["evaluation"] += found["seconds"]
        seconds, accuracy = time.perf_counter() - begin, found["accuracy"]
        history.append({"step": done, "seconds": seconds, "accuracy": accuracy})
        print(f"{variant}: step {done}, {seconds:.0f} s, accuracy {accuracy:.4f}", file=sys.stderr)
        if accuracy >= FLAGS.to_accuracy or done == recipe["steps"] or seconds > 60 * FLAGS.max_minutes:
            worker.close()
            compiling = answer["compile_seconds"]
            return row_of(WORKLOAD, variant, reached=accuracy >= FLAGS.to_accuracy, seconds=seconds, steps=done,
                          accuracy=accuracy, start_seconds=start, compile_seconds=compiling,
                          train_seconds=spent["train"] - compiling, evaluation_seconds=spent["evaluation"],
                          examples_per_second=done * recipe["batch"] / (spent["train"] - compiling),
                          peak_bytes=found["peak_bytes"], history=history)
    print(f"{variant}: skipped ({worker.problem})", file=sys.stderr)
    return None


def race():
    """Measure the time until the accuracy is reached, one system after another."""
    recipe = recipe_of(rate=FLAGS.learning_rate, steps=FLAGS.max_steps, warmup=FLAGS.max_steps // 10,
                       compile_first=False)
    variants = [variant for variant in variants_of(SYSTEMS) if FLAGS.only or variant in ACCURACY]
    rows = [row for row in (reach(variant, recipe) for variant in variants) if row is not None]
    for row in rows:
        if row["system"] == "tfzoo" and row["reached"]:
            for other in rows:
                if other["system"] != "tfzoo" and other["reached"]:
                    print(f"to {FLAGS.to_accuracy:g}: tfzoo {row['dtype']} takes {row['seconds']:.0f} s, "
                          f"{other['system']} {other['variant']} {other['dtype']} "
                          f"{other['seconds'] / row['seconds']:.2f} x as long")
    seconds = {f"{part}_seconds": "{:>.1f}" for part in ("start", "compile", "train", "evaluation")}
    report(rows, {"system": "{}", "variant": "{}", "dtype": "{}", "reached": "{}", "accuracy": "{:>.4f}",
                  "steps": "{:>}", "seconds": "{:>.1f}", **seconds, "examples_per_second": "{:>.1f}"}, FLAGS.json)


def main(argv):
    refuse_words(argv)
    if FLAGS.to_accuracy is None:
        speed()
    else:
        race()


if __name__ == "__main__":
    app.run(main)
