"""Fine-tuning for several tasks in tfzoo and PyTorch: training examples per second, and seconds to evaluate.

All tasks but the last start from MiniLM ($TFZOO_DATA/../checkpoints/all-MiniLM-L6-v2) and use bfloat16; sequence to
sequence is a Transformer of 3 + 3 layers and width 256 from scratch, in PyTorch torch.nn.Transformer. PyTorch is
measured twice: with batches of similar length (`grouped`, as transformers' group_by_length), and with random batches
padded to their longest row (`random`).
"""
import math

from absl import app, flags

from benchmarks.interleave import (FLAGS, add_flags, command_of, data_folder, measure, refuse_words, report, row_of,
                                   variants_of)

SYSTEMS = {"tfzoo": ("bucketed",), "pytorch": ("grouped", "random")}
MODULE = "benchmarks.tasks_worker"
TASKS = {"classification": ("sentiment_rt", "jsonl", "eval", 32, 128),
         "tagging": ("ner_wikigold", "conll", "eval", 16, 128),
         "question_answering": ("qa_squad1.1", "json", "eval", 16, 256),
         "seq2seq": ("translation_en_de", "tsv", "val", 64, 64)}  # folder, ending, evaluation split, batch, length
add_flags(rounds=5, steps=50)
flags.DEFINE_multi_enum("task", [], list(TASKS), "Measure only this task; repeatable.")


def recipe_of(task):
    """Return the workers' recipe for a task: dict."""
    folder, ending, held, batch, length = TASKS[task]
    files = {name: str(data_folder(f"{folder}/{split}.{ending}"))
             for name, split in (("train", "train"), ("eval", held))}
    return {"task": task, **files, "checkpoint": str(data_folder("../checkpoints/all-MiniLM-L6-v2")), "batch": batch,
            "length": length, "overlap": 64, "rate": 5e-5, "decay": 0.01, "clip": 1.0, "dropout": 0.1, "seed": 0,
            "layers": 3, "width": 256, "heads": 4, "ffn": 1024, "vocab": 8000}


def main(argv):
    refuse_words(argv)
    rows = []
    for task in FLAGS.task or TASKS:
        recipe = recipe_of(task)
        variants = [variant for variant in variants_of(SYSTEMS) if variant.endswith("bfloat16") or FLAGS.only]
        found = measure({variant: command_of(MODULE, recipe, variant) for variant in variants}, FLAGS.rounds,
                        FLAGS.steps, last="evaluate 1")
        rates = {}
        for variant, result in found.items():
            each = sorted(answer["examples"] / answer["seconds"] for answer in result.pop("answers"))
            rates[variant] = each[len(each) // 2]
            rows.append(row_of(task, variant, examples_per_second=rates[variant], slowest=each[0], fastest=each[-1],
                               evaluation_seconds=(result.pop("last") or {"seconds": math.nan})["seconds"], **result))
        ours = [rates[variant] for variant in rates if variant.startswith("tfzoo")]
        for variant, rate in rates.items():
            if ours and variant.startswith("pytorch"):
                print(f"{task}: tfzoo {ours[0] / rate:.2f} x {variant}")
    report(rows, {"workload": "{}", "system": "{}", "variant": "{}", "examples_per_second": "{:>.1f}",
                  "slowest": "{:>.1f}", "fastest": "{:>.1f}", "evaluation_seconds": "{:>.2f}",
                  "peak_bytes": "{:>,}"}, FLAGS.json)


if __name__ == "__main__":
    app.run(main)
