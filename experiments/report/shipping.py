"""What an export costs and saves: size, time, memory and answers of each precision, beside the live model."""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

CALLS = 30  # of which the median time is reported
# Ends a program that has measured the dict `found`: adds its peak memory, and prints it.
PEAK = """
import resource
try:
    with open("/proc/self/status") as file:
        found["peak_bytes"] = next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024
except OSError:
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(found))
"""
# Runs in a process of its own without TensorFlow, so that load time and memory are those of the file alone.
ASK = """
import json, sys, time
sys.modules["tensorflow"] = None
import numpy as np
begin = time.perf_counter()
from tfzoo.litert.runner import Runner
runner = Runner(sys.argv[1], int(sys.argv[3]) or None)
given, found = np.load(sys.argv[2]), {}
for size in ("1", "32"):
    inputs = {name.partition(":")[2]: given[name] for name in given.files if name.startswith(size + ":")}
    runner.encode(inputs)
    found.setdefault("load_seconds", time.perf_counter() - begin)
    times = []
    for _ in range(int(sys.argv[4])):
        start = time.perf_counter()
        runner.encode(inputs)
        times.append(time.perf_counter() - start)
    found[f"ms_{size}"] = 1000 * sorted(times)[len(times) // 2]
""" + PEAK
COLUMNS = {"precision": "{}", "bytes": "{:,}", "load_seconds": "{:.2f}", "ms_1": "{:.2f}", "ms_32": "{:.2f}",
           "peak_bytes": "{:,}", "largest_difference": "{:.2g}", "same_answers": "{:.4f}"}


def _timed(folder, inputs, threads=0):
    # Load time, milliseconds of 1 and 32 rows, and peak memory of a LiteRT file: dict.
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place) / "inputs.npz"
        np.savez(path, **{f"{size}:{name}": value[:size] for size in (1, 32) for name, value in inputs.items()})
        done = subprocess.run([sys.executable, "-c", ASK, str(folder), str(path), str(threads), str(CALLS)],
                              capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"measuring {folder} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _live_times(model, inputs):
    import tensorflow as tf
    run, found = tf.function(lambda inputs: model(inputs, training=False)["logits"], autograph=False), {}
    for size in (1, 32):
        given, times = {name: tf.constant(value[:size]) for name, value in inputs.items()}, []
        run(given)
        for _ in range(CALLS):
            begin = time.perf_counter()
            run(given).numpy()
            times.append(time.perf_counter() - begin)
        found[f"ms_{size}"] = 1000 * sorted(times)[len(times) // 2]
    return found


def _inputs(data, names):
    # The rows of the first batches until there are 32, padded to one length: dict of int32 [32, T].
    rows = []
    for step in range(data.batches_per_epoch):
        batch = data.batch(step)
        rows += [{name: batch[name].reshape(-1, batch[name].shape[-1])[number] for name in names}
                 for number in range(batch[names[0]].reshape(-1, batch[names[0]].shape[-1]).shape[0])]
        if len(rows) >= 32:
            break
    rows = (rows * 32)[:32]
    width = max(len(row[names[0]]) for row in rows)
    return {name: np.stack([np.pad(row[name], (0, width - len(row[name]))) for row in rows]) for name in names}


def _difference(live, file, data):
    # The largest difference of logits at real positions.
    largest = 0.0
    for step in range(data.batches_per_epoch):
        batch = {name: value for name, value in data.batch(step).items() if name in live.input_names}
        one, other = live(batch, training=False)["logits"].numpy(), file(batch)["logits"].numpy()
        mask = batch["padding_mask"]
        real = mask > 0 if one.ndim == mask.ndim + 1 else mask.any(-1)
        largest = max(largest, float(np.abs(one - other)[real].max(initial=0)))
    return largest


def shipping_rows(loaded, source, precisions, export_as):
    """Measure the LiteRT files of a model, and the live model in float32.

    Args:
        loaded: Loaded, with a task that makes predictions.
        source: Source, labelled data of the task.
        precisions: sequence of str.
        export_as: callable (folder, precision) that exports `loaded`.

    Returns:
        list of dict with the keys of COLUMNS and the task's metrics; the first is the live model's.
    """
    import tfzoo
    from tfzoo.training.evaluator import Evaluator
    rows, answers = [], None
    with tempfile.TemporaryDirectory() as folder:
        for precision in (None, *precisions):
            path, file = pathlib.Path(folder) / str(precision), loaded
            if precision:
                export_as(path, precision)
                file = tfzoo.load(path)
            data = file.task.features(source, file.tokenizer, batch_size=32, max_length=file.config["max_length"])
            evaluator = Evaluator(file.model, file.task, keep=True)
            metrics, inputs = evaluator.evaluate(data), _inputs(data, [*loaded.body.input_names])
            metrics = {name: value for name, value in metrics.items() if name in (*file.task.shown, "accuracy", "f1")}
            if precision is None:
                answers = evaluator.answers
                size = sum(np.prod(weight.shape) * 4 for weight in loaded.model.weights)
                rows.append({"precision": "live float32", "bytes": int(size), **_live_times(loaded.model, inputs),
                             "load_seconds": None, "peak_bytes": None, "largest_difference": 0.0, "same_answers": 1.0,
                             **metrics})
                continue
            same = np.mean([_said(one) == _said(other) for one, other in zip(answers, evaluator.answers, strict=True)])
            rows.append({"precision": precision, "bytes": (path / "model.tflite").stat().st_size,
                         **_timed(path, inputs), "largest_difference": _difference(loaded.model, file.model, data),
                         "same_answers": float(same), **metrics})
    return rows


def _said(answer):
    # What counts as the answer: not its probabilities.
    if "value" in answer:
        return round(answer["value"], 2)
    return {name: value for name, value in answer.items() if name in ("label", "labels", "tags", "answer")}


def table_of(rows):
    """Return the rows as lines of text: str."""
    more = {name: "{:,}" if isinstance(value, int) else "{:.4f}"
            for row in rows for name, value in row.items() if name not in COLUMNS}
    lines = [[*COLUMNS, *more]] + [["" if row.get(name) is None else form.format(row[name])
                                    for name, form in {**COLUMNS, **more}.items()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines)
