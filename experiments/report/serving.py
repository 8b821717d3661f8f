"""What a SavedModel costs: size, time, memory and answers of each precision, beside the live model."""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from experiments.report.shipping import CALLS, PEAK

ROWS = 1000  # of the data, from its start
# Runs in a process with only TensorFlow and tensorflow_text, as the server does.
ASK = """
import json, sys, time
import numpy as np, tensorflow as tf, tensorflow_text
begin = time.perf_counter()
served = tf.saved_model.load(sys.argv[1]).signatures[sys.argv[5]]
with np.load(sys.argv[2], allow_pickle=True) as file:
    columns = {name: list(file[name]) for name in file.files}
def call(rows, columns=columns):
    return served(**{name: tf.constant(values[rows]) for name, values in columns.items()})
many = {name: (values * 32)[:32] for name, values in columns.items()}
parts, found = [], {}
for size in (1, 32):
    call(slice(size), many)
    found.setdefault("load_seconds", time.perf_counter() - begin)
    times = []
    for _ in range(int(sys.argv[4])):
        start = time.perf_counter()
        call(slice(size), many)
        times.append(time.perf_counter() - start)
    found[f"ms_{size}"] = 1000 * sorted(times)[len(times) // 2]
for first in range(0, len(next(iter(columns.values()))), 32):
    parts.append({name: value.numpy() for name, value in call(slice(first, first + 32)).items()})
np.savez(sys.argv[3], **{f"{name}:{number}": value for number, part in enumerate(parts)
                         for name, value in part.items()})
graph = served.graph.as_graph_def()
found["nodes"] = len(graph.node) + sum(len(function.node_def) for function in graph.library.function)
""" + PEAK


def columns_of(task, source):
    """Return what a SavedModel takes, of the first ROWS rows of the data.

    Args:
        task: Task, or None for a model without a head.
        source: Source.

    Returns:
        (dict of input name -> list; str, the signature).

    Raises:
        ConfigError, DataError: if the data have no rows, or no column with texts.
    """
    from tfzoo.errors import ConfigError, DataError
    from tfzoo.records.rows import as_text
    given = dict(source.columns)
    if "text" not in given and "tokens" in given:
        given["text"] = [" ".join(words) for words in given["tokens"]]
    one, other = ("text", None) if task is None or task.schema.streamed else task.text_columns
    other = other if other in given else None
    if one not in given:
        raise ConfigError(f"--report: {source.name} has no column {one}")
    if not given[one]:
        raise DataError(f"{source.name} has no rows")
    found = {"text" if other is None and one != "text" else one: list(map(as_text, given[one][:ROWS]))}
    if other is not None:
        texts = given[other][:ROWS]
        most = max((len(row) for row in texts if isinstance(row, list)), default=0)
        found[other] = [[*map(as_text, row), *[""] * (most - len(row))] if isinstance(row, list) else as_text(row)
                        for row in texts]
    return found, "pair" if other == "text_pair" and other not in task.schema.inputs else "serving_default"


def _asked(folder, columns, signature):
    # (time, memory and size: dict; the outputs of each 32 rows: dict of arrays).
    with tempfile.TemporaryDirectory() as place:
        given, answers = pathlib.Path(place) / "given.npz", pathlib.Path(place) / "answers.npz"
        np.savez(given, **{name: np.array(values, object) for name, values in columns.items()})
        done = subprocess.run([sys.executable, "-c", ASK, str(folder), str(given), str(answers), str(CALLS),
                               signature], capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"measuring {folder} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        with np.load(answers, allow_pickle=True) as file:  # strings are objects
            return json.loads(done.stdout.splitlines()[-1]), dict(file)


def _live(function, columns):
    import tensorflow as tf
    rows = len(next(iter(columns.values())))
    found = [function(**{name: tf.constant(values[first:first + 32]) for name, values in columns.items()})
             for first in range(0, rows, 32)]
    parts = [{name: value.numpy() for name, value in part.items()} for part in found]
    return {f"{name}:{number}": value for number, part in enumerate(parts) for name, value in part.items()}


def _compared(live, served):
    # The largest difference of numbers, and the share of rows whose texts and integers are the same (None if no output
    # has any).
    from tfzoo.errors import DataError
    largest, same = 0.0, {}
    for key, one in live.items():
        (name, number), other = key.split(":"), served[key]
        if not all(np.isfinite(each).all() for each in (one, other) if each.dtype.kind == "f"):
            raise DataError(f"the model's {name} are not finite: its training diverged or its weights are damaged")
        if one.dtype.kind == "f":
            largest = max(largest, float(np.abs(one - other).max(initial=0)))
        elif name != "cut":
            equal = (one == other).astype(bool).reshape(len(one), -1).all(1)
            same[number] = same.get(number, True) & equal
    return largest, float(np.mean(np.concatenate(list(same.values())))) if same else None


def serving_rows(columns, signature, live, labels, precisions, export_as):
    """Measure SavedModels beside the live model in float32.

    Args:
        columns, signature: see `columns_of`.
        live: callable of tensors, the function of the signature for the live model.
        labels: list of str, the true labels of the rows, or None.
        precisions: sequence of str.
        export_as: callable (folder, precision) -> the version's folder, that exports the model.

    Returns:
        list of dict, one for each precision: `precision`, `bytes`, `load_seconds` (to the first answer), `ms_1` and
        `ms_32` (from texts to answers), `peak_bytes`, `nodes` (of the graph and its functions), `largest_difference`
        (of the outputs that are numbers), `same_answers` and, with labels, `accuracy`.
    """
    rows, expected = [], _live(live, columns)
    with tempfile.TemporaryDirectory() as place:
        for precision in precisions:
            folder = export_as(pathlib.Path(place) / precision, precision)
            found, served = _asked(folder, columns, signature)
            largest, same = _compared(expected, served)
            size = sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())
            rows.append({"precision": precision, "bytes": size, **found, "largest_difference": largest,
                         "same_answers": same})
            if labels is not None and "label:0" in served:
                found = np.concatenate([served[f"label:{number}"] for number in range(-(-len(labels) // 32))])
                found = [one.decode() if isinstance(one, bytes) else str(one) for one in found]
                rows[-1]["accuracy"] = float(np.mean([one == str(label)
                                                      for one, label in zip(found, labels, strict=True)]))
    return rows
