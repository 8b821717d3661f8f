"""Scaling efficiency of two single-core workers compared with one, on the same global batch.

Efficiency is T1 / (2 x T2), where T1 and T2 are the step times of one and two workers. The two-worker step is broken
down by separate measurements: the forward and backward pass of half a batch on one core; clipping and update;
contention, which is how much a step on half a batch slows down if the other core runs one too (memory, cache and clock
are shared); and an all-reduce of tensors with the shapes of the gradients. The remainder is the time that the workers
wait for each other, minus any overlap.
"""
import json
import os
import statistics
import sys

from absl import app, flags

from benchmarks.interleave import FLAGS, Worker, add_flags, refuse_words, report
from benchmarks.worker import POLICIES, answer

add_flags(rounds=5, steps=5, peers=False)
flags.DEFINE_string("model", "bert_small", "Name of the model.")
flags.DEFINE_integer("batch_size", 32, "Rows in the global batch.", lower_bound=2)
flags.DEFINE_integer("length", 128, "Tokens per row.", lower_bound=8)
flags.DEFINE_enum("precision", "bfloat16", sorted(POLICIES), "Compute dtype.")
flags.DEFINE_string("worker", None, "Internal: run as a worker with these settings (JSON).")

LABELS = ["0", "1"]
PARTS = ("compute", "update", "contention", "all_reduce", "rest")


def make_batch(rows, length):
    """Return a batch of random tokens: dict of arrays."""
    import numpy as np
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 30000, (rows, length)).astype(np.int32)
    return {"token_ids": tokens, "padding_mask": np.ones_like(tokens), "segment_ids": np.zeros_like(tokens),
            "labels": rng.integers(0, len(LABELS), rows).astype(np.int32), "weights": np.ones(rows, np.float32)}


def work(settings):
    """Run one worker, which answers each line of stdin: "COUNT" or "WORD COUNT" (see `answer`).

    COUNT alone runs steps on the whole batch. The words are `half` (steps on half a batch), `gradients` (only their
    forward and backward passes), `all_reduce`, and `size` (reports the size of the gradients).
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {settings["core"]})
    import keras
    import tensorflow as tf

    import tfzoo
    from tfzoo.tasks import task_of
    from tfzoo.training.optimizer import make_optimizer
    from tfzoo.training.strategy import make_strategy
    from tfzoo.training.trainer import Trainer
    strategy = make_strategy(settings["strategy"])
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = tfzoo.build(settings["model"], task="classification", labels=LABELS, dtype=settings["policy"],
                            dropout=0.1)
        optimizer = make_optimizer("adamw", 1e-4, model.trainable_variables)
    trainer = Trainer(model, task_of("classification", LABELS), optimizer, strategy=strategy)
    whole = make_batch(settings["rows"], settings["length"])
    half = {key: value[:len(value) // 2] for key, value in whole.items()}
    inputs = ({key: tf.constant(value) for key, value in half.items()}, tf.constant(0, tf.int64),
              tf.constant(0, tf.int64), {"loss": tf.constant(float(len(half["weights"])))})
    sums = [tf.zeros(variable.shape) for variable in model.trainable_variables]

    def reduce(*tensors):
        return tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, [tf.identity(tensor) for tensor in tensors])  # on this replica's device

    reduced = tf.function(lambda *tensors: strategy.run(reduce, tensors), autograph=False)
    local = strategy.experimental_local_results

    def repeat(call, last):
        def run(count):
            for _ in range(count):
                result = call()
            last(result)
        return run

    answer(repeat(lambda: trainer.train_step(whole), lambda result: float(result[1])),
           half=repeat(lambda: trainer.train_step(half), lambda result: float(result[1])),
           gradients=repeat(lambda: trainer._gradients(*inputs), lambda result: result[0][0].numpy()),
           all_reduce=repeat(lambda: reduced(*sums), lambda result: local(result[0])[0].numpy()),
           size=lambda count: {"gradient_bytes": sum(4 * value.shape.num_elements() for value in sums)})


def start(cores):
    """Start workers on two cores and return (two independent workers, two workers that form a cluster), as lists."""
    from experiments.launch import free_ports
    base = {"model": FLAGS.model, "policy": POLICIES[FLAGS.precision], "rows": FLAGS.batch_size,
            "length": FLAGS.length}
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CONFIG": ""}
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}

    def worker(core, strategy, variables):
        settings = json.dumps({**base, "core": core, "strategy": strategy})
        return Worker([sys.executable, "-m", "benchmarks.scaling", f"--worker={settings}"], {**threads, **variables})

    alone = [worker(core, "one_device", {}) for core in cores]
    return alone, [worker(core, "multi_worker", {"TF_CONFIG": json.dumps(
        {"cluster": cluster, "task": {"type": "worker", "index": index}})}) for index, core in enumerate(cores)]


def together(workers, line):
    """Send a line to all workers at the same time and return the slowest worker's answer: dict."""
    for worker in workers:
        worker.send(line)
    answers = [worker.receive() for worker in workers]
    for worker, given in zip(workers, answers):
        if given is None:
            raise SystemExit(f"benchmarks.scaling: a worker ended ({worker.problem})")
    return max(answers, key=lambda given: given["seconds"])


def breakdown(seconds):
    """Compute the breakdown of a two-worker step, and the efficiency, from median step times: dict of float."""
    parts = {"compute": seconds["gradients"], "update": seconds["half"] - seconds["gradients"],
             "contention": seconds["half beside"] - seconds["half"], "all_reduce": seconds["all_reduce"]}
    parts["rest"] = seconds["two workers"] - sum(parts.values())
    return {**parts, "efficiency": seconds["one worker"] / (2 * seconds["two workers"])}


def measure_all(alone, pair):
    """Return (dict of measurement -> median seconds per step, peak bytes of a clustered worker, gradient bytes)."""
    measurements = {"one worker": (alone[:1], ""), "two workers": (pair, ""), "gradients": (alone[:1], "gradients "),
                    "half": (alone[:1], "half "), "half beside": (alone, "half "), "all_reduce": (pair, "all_reduce ")}
    for workers, word in measurements.values():
        together(workers, f"{word}2")  # build and compile
    print("ready", file=sys.stderr)
    times = {name: [] for name in measurements}
    for number in range(FLAGS.rounds):
        for name, (workers, word) in measurements.items():
            given = together(workers, f"{word}{FLAGS.steps}")
            times[name].append(given["seconds"] / FLAGS.steps)
        print(f"round {number + 1} of {FLAGS.rounds}", file=sys.stderr)
    size = together(pair, "size 0")
    return {name: statistics.median(each) for name, each in times.items()}, size["peak_bytes"], size["gradient_bytes"]


def main(argv):
    refuse_words(argv)
    if FLAGS.worker:
        work(json.loads(FLAGS.worker))
        sys.stdout.flush()
        os._exit(0)  # a cluster shuts down only when all of its workers do, but here they end one by one
    if FLAGS.batch_size % 2:
        raise SystemExit(f"--batch_size must be even, to be split between two workers, got {FLAGS.batch_size}")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        raise SystemExit(f"pinning workers requires Linux and two cores, got {len(cores)} core(s)")
    alone, pair = start(cores[:2])
    seconds, peak, size = measure_all(alone, pair)
    for worker in (*alone, *pair):
        worker.close()
    workload = f"{FLAGS.model}_{FLAGS.batch_size}x{FLAGS.length}"
    common = {"workload": workload, "system": "tfzoo", "dtype": FLAGS.precision}
    rows = [{**common, "variant": name, "ms": 1000 * value} for name, value in seconds.items()]
    found = breakdown(seconds)
    rows += [{**common, "variant": f"two workers: {part}", "ms": 1000 * found[part]} for part in PARTS]
    for row in rows[:2]:
        row["examples_per_second"] = 1000 * FLAGS.batch_size / row["ms"]
    rows[1].update(efficiency=found["efficiency"], gradient_bytes=size, peak_bytes=peak)
    print(f"efficiency {found['efficiency']:.1%}: one worker {1000 * seconds['one worker']:.0f} ms, two "
          f"{1000 * seconds['two workers']:.0f} ms per step of {workload}; gradients of {size / 1e6:.0f} MB")
    report(rows, {"variant": "{}", "dtype": "{}", "ms": "{:>.1f}"}, FLAGS.json)


if __name__ == "__main__":
    app.run(main)
