"""Step time of LoRA relative to full fine-tuning, interleaved in one process: the median of paired ratios.

Also reports the memory taken by gradients and optimizer slots. `minilm` uses the first batches from an epoch over
$TFZOO_DATA/sentiment_rt, with 32 rows each, and `bert_base` a batch of 8 x 128 random tokens. The weights are random,
since the step time does not depend on them.
"""
import statistics
import time

import numpy as np
from absl import app, flags

from benchmarks.interleave import DTYPES, add_flags, data_folder, refuse_words, report
from benchmarks.worker import POLICIES
from experiments.app import import_tensorflow

FLAGS = flags.FLAGS
add_flags(rounds=20, steps=4, peers=False)
flags.DEFINE_multi_enum("workload", ["minilm"], ["minilm", "bert_base"], "Workload to train; repeatable.")
flags.DEFINE_multi_enum("dtype", list(DTYPES), DTYPES, "Compute dtype; repeatable.")
flags.DEFINE_integer("rank", 8, "Rank of the adapters.", lower_bound=1)
flags.DEFINE_string("targets", None, "Regular expression that selects the projections to adapt [default: LoRA's own].")
flags.DEFINE_bool("xla", False, "Compile the forward and backward passes with XLA.")
flags.DEFINE_bool("remat", False, "Rematerialize the blocks.")

WORKLOADS = {"minilm": {"num_layers": 6, "hidden_dim": 384, "num_heads": 12, "ffn_dim": 1536, "batch": 32},
             "bert_base": {"num_layers": 12, "hidden_dim": 768, "num_heads": 12, "ffn_dim": 3072, "batch": 8}}
BATCHES = 12  # number of `minilm` batches; each batch length is traced during warm-up
LABELS = ["negative", "positive"]


def batches_of(name):
    """Return the batches of a workload: list of dict of arrays."""
    rows, rng = WORKLOADS[name]["batch"], np.random.default_rng(0)
    if name == "minilm":
        from tfzoo.data.source import open_source
        from tfzoo.tasks import task_of
        from tfzoo.text import load_tokenizer
        source = open_source(str(data_folder("sentiment_rt") / "train.jsonl"))
        tokenizer = load_tokenizer(data_folder("../vocab/bert_uncased"))
        data = task_of("classification", LABELS).features(source, tokenizer, batch_size=rows, max_length=128,
                                                          training=True)
        return list(map(data.batch, range(BATCHES)))
    tokens = rng.integers(1000, 30000, (rows, 128)).astype(np.int32)
    return [{"token_ids": tokens, "padding_mask": np.ones_like(tokens), "segment_ids": np.zeros_like(tokens),
             "labels": rng.integers(0, 2, rows).astype(np.int32), "weights": np.ones(rows, np.float32)}]


def make_trainer(name, dtype, method):
    """Return a Trainer for a workload and a Method."""
    import tfzoo
    from tfzoo.tasks import task_of
    from tfzoo.training.optimizer import make_optimizer
    from tfzoo.training.trainer import Trainer
    sizes = {key: value for key, value in WORKLOADS[name].items() if key != "batch"}
    model = tfzoo.build("bert_tiny", task="classification", labels=LABELS, dtype=POLICIES[dtype], **sizes)
    method.prepare(model)
    optimizer = make_optimizer("adamw", 1e-4, model.trainable_variables)
    return Trainer(model, task_of("classification", LABELS), optimizer, xla=FLAGS.xla, remat=FLAGS.remat, method=method)


def kept_bytes(trainer):
    """Return the total size of gradients and optimizer slots in bytes: int."""
    gradients = 4 * sum(np.prod(variable.shape) for variable in trainer.model.trainable_variables)
    return int(gradients + sum(4 * np.prod(variable.shape) for variable in trainer.optimizer.variables
                               if variable.shape))


def measure(trainers, batches, rounds, steps):
    """Time the methods in interleaved rounds: dict of method -> seconds per step in each round, list of float."""
    def run(trainer, count, first):
        begin = time.perf_counter()
        for number in range(first, first + count):
            norm = trainer.train_step(batches[number % len(batches)])[1]
        float(norm)
        return (time.perf_counter() - begin) / count

    for trainer in trainers.values():
        run(trainer, len(batches) + 1, 0)  # trace each length
    times = {name: [] for name in trainers}
    for number in range(rounds):
        for name in list(trainers)[::1 if number % 2 else -1]:
            times[name].append(run(trainers[name], steps, number * steps))
    return times


def main(argv):
    refuse_words(argv)
    import_tensorflow()
    from tfzoo.methods import method_of
    rows = []
    for workload in FLAGS.workload:
        for dtype in FLAGS.dtype:
            settings = {"rank": FLAGS.rank, **({"targets": FLAGS.targets} if FLAGS.targets else {})}
            trainers = {name: make_trainer(workload, dtype, method_of(name, **more))
                        for name, more in (("full", {}), ("lora", settings))}
            times = measure(trainers, batches_of(workload), FLAGS.rounds, FLAGS.steps)
            kept = {name: kept_bytes(trainer) for name, trainer in trainers.items()}
            print(trainers["lora"].method.report(trainers["lora"].model))
            for name, found in times.items():
                seconds = statistics.median(found)
                rows.append({"workload": workload, "system": "tfzoo", "variant": name, "dtype": dtype,
                             "ms": 1000 * seconds, "examples/s": WORKLOADS[workload]["batch"] / seconds,
                             "of full": statistics.median(a / b for a, b in zip(found, times["full"])),
                             "kept MB": kept[name] / 2 ** 20, "kept of full": kept[name] / kept["full"],
                             "rounds": found})
    report(rows, {"workload": "{}", "variant": "{}", "dtype": "{}", "ms": "{:>.1f}", "examples/s": "{:>.1f}",
                  "of full": "{:>.3f}", "kept MB": "{:>.1f}", "kept of full": "{:>.2%}"}, FLAGS.json)


if __name__ == "__main__":
    app.run(main)
