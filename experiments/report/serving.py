"""What a SavedModel costs: size, time, memory and answers of each precision, beside the live model."""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from experiments.report.shipping import CALLS

ROWS = 1000  # of the data, from its start
# Runs in a process with only TensorFlow and tensorflow_text, as the server does.
ASK = """
import json, sys, time
import numpy as np, tensorflow as tf, tensorflow_text
begin = time.perf_counter()
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
with np.load(sys.argv[2], allow_pickle=True) as file:
    columns = {name: list(file[name]) for name in file.files}
def call(rows):
    return served(**{name: tf.constant(values[rows]) for name, values in columns.items()})
parts, found = [], {}
for size in (1, 32):
    call(slice(size))
    found.setdefault("load_seconds", time.perf_counter() - begin)
    times = []
    for _ in range(int(sys.argv[4])):
        start = time.perf_counter()
        call(slice(size))
        times.append(time.perf_counter() - start)
    found[f"ms_{size}"] = 1000 * sorted(times)[len(times) // 2]
for first in range(0, len(next(iter(columns.values()))), 32):
    parts.append({name: value.numpy() for name, value in call(slice(first, first + 32)).items()})
np.savez(sys.argv[3], **{f"{name}:{number}": np.char.decode(value.astype(bytes), "utf-8") if value.dtype == object
                         else value for number, part in enumerate(parts) for name, value in part.items()})
graph = served.graph.as_graph_def()
found["nodes"] = len(graph.node) + sum(len(function.node_def) for function in graph.library.function)
with open("/proc/self/status") as file:
    found["peak_bytes"] = next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024
print(json.dumps(found))
"""


def columns_of(task, source):
    """Return what a SavedModel takes, of the first ROWS rows of the data: dict of input name -> list.

    Raises:
        ConfigError: if the data have no column with texts.
    """
    from tfzoo.errors import ConfigError
    given = dict(source.columns)
    if "text" not in given and "tokens" in given:
        given["text"] = [" ".join(words) for words in given["tokens"]]
    one, other = task.text_columns if task is not None else ("text", None)
    if one not in given:
        raise ConfigError(f"--report: {source.name} has no column {one}")
    found = {"text" if other is None and one != "text" else one: list(map(str, given[one][:ROWS]))}
    if other in task.schema.inputs if task is not None else ():
        texts = given[other][:ROWS]
        most = max((len(row) for row in texts if isinstance(row, list)), default=0)
        found[other] = [row + [""] * (most - len(row)) if isinstance(row, list) else str(row) for row in texts]
    return found


def _asked(folder, columns, calls):
    # (time, memory and size: dict; the outputs of each 32 rows: dict of arrays).
    with tempfile.TemporaryDirectory() as place:
        given, answers = pathlib.Path(place) / "given.npz", pathlib.Path(place) / "answers.npz"
        np.savez(given, **{name: np.array(values, object) for name, values in columns.items()})
        done = subprocess.run([sys.executable, "-c", ASK, str(folder), str(given), str(answers), str(calls)],
                              capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"measuring {folder} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        with np.load(answers) as file:
            return json.loads(done.stdout.splitlines()[-1]), dict(file)


def _live(function, columns):
    import tensorflow as tf
    rows = len(next(iter(columns.values())))
    found = [function(**{name: tf.constant(values[first:first + 32]) for name, values in columns.items()})
             for first in range(0, rows, 32)]
    parts = [{name: value.numpy() for name, value in part.items()} for part in found]
    return {f"{name}:{number}": np.char.decode(value.astype(bytes), "utf-8") if value.dtype == object else value
            for number, part in enumerate(parts) for name, value in part.items()}


def _compared(live, served):
    # The largest difference of numbers, and the share of rows whose texts and integers are the same (None if no output
    # has any).
    largest, same = 0.0, {}
    for key, one in live.items():
        (name, number), other = key.split(":"), served[key]
        if one.dtype.kind == "f":
            largest = max(largest, float(np.abs(one - other).max(initial=0)))
        elif name != "cut":
            equal = (one == other).reshape(len(one), -1).all(1)
            same[number] = same.get(number, True) & equal
    return largest, float(np.mean(np.concatenate(list(same.values())))) if same else None


def serving_rows(columns, live, labels, precisions, export_as):
    """Measure SavedModels beside the live model in float32.

    Args:
        columns: dict, see `columns_of`.
        live: callable of tensors, the function of the signature `serving_default` of the live model.
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
            found, served = _asked(folder, columns, CALLS)
            largest, same = _compared(expected, served)
            size = sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())
            rows.append({"precision": precision, "bytes": size, **found, "largest_difference": largest,
                         "same_answers": same})
            if labels is not None and "label:0" in served:
                parts = [served[f"label:{number}"] for number in range(-(-len(labels) // 32))]
                rows[-1]["accuracy"] = float(np.mean(np.concatenate(parts) == np.array(labels)))
    return rows
