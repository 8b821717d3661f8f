"""How long training waits while it saves a checkpoint of BERT-base (110 M parameters; 1.3 GB with AdamW's state).

Also reports how long it takes to copy the state, to write it, and to run a step while it is being written.
"""
import json
import os
import pathlib
import statistics
import tempfile
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "bert_base", "Name of the model.")
flags.DEFINE_integer("rounds", 3, "Number of checkpoints to write.", lower_bound=1)
flags.DEFINE_string("json", None, "Also write the rows to this JSON file.")


def _timed(work):
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}: only flags are allowed")
    import numpy as np

    import tfzoo
    from tfzoo.tasks import task_of
    from tfzoo.training.checkpointing import Checkpoints
    from tfzoo.training.optimizer import make_optimizer
    from tfzoo.training.saver import Saver
    from tfzoo.training.trainer import Trainer
    labels = ["0", "1"]
    model = tfzoo.build(FLAGS.model, task="classification", labels=labels)
    trainer = Trainer(model, task_of("classification", labels),
                      make_optimizer("adamw", 1e-4, model.trainable_variables))
    tokens = np.random.default_rng(0).integers(5, 30000, (4, 64)).astype(np.int32)
    batch = {"token_ids": tokens, "padding_mask": np.ones_like(tokens), "segment_ids": np.zeros_like(tokens),
             "labels": np.zeros(4, np.int32), "weights": np.ones(4, np.float32)}
    times = {name: [] for name in ("copy", "wait", "write", "step", "step_while_writing")}
    float(trainer.train_step(batch)[1])
    with tempfile.TemporaryDirectory() as folder:
        saver = Saver(Checkpoints(folder, 1), print)
        for number in range(FLAGS.rounds):
            times["step"].append(_timed(lambda: float(trainer.train_step(batch)[1]))[0])
            times["copy"].append(_timed(trainer.arrays)[0])
            begin = time.perf_counter()
            saver.save(number, trainer.arrays(), {})
            times["wait"].append(time.perf_counter() - begin)
            while saver.writing:
                times["step_while_writing"].append(_timed(lambda: float(trainer.train_step(batch)[1]))[0])
            saver.finish()
            times["write"].append(time.perf_counter() - begin)
    size = sum(array.nbytes for group in trainer.arrays().values() for array in group.values())
    row = {name: round(statistics.median(values), 3) for name, values in times.items() if values}
    print(f"{size / 1e9:.2f} GB: training waits {row['wait']:.2f} s (copying only: {row['copy']:.2f} s), and writing "
          f"takes {row['write']:.2f} s; a step takes {row['step']:.2f} s, or "
          f"{row.get('step_while_writing', float('nan')):.2f} s during writing")
    rows = [{"machine": f"{os.cpu_count()} cores"},
            {"workload": f"save_{FLAGS.model}", "system": "tfzoo", "bytes": size, **row}]
    if FLAGS.json:
        pathlib.Path(FLAGS.json).write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    app.run(main)
