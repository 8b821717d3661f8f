"""Time and memory needed to turn a multi-gigabyte text file into batches and training steps.

The file repeats a smaller text. The measurement runs in its own process, with an empty cache. Its anonymous memory
(RssAnon, which excludes pages of memory-mapped files) is sampled every 10 ms.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("megabytes", 2000, "Size of the file, in 10^6 bytes.", lower_bound=1)
flags.DEFINE_string("text", None, "Text file to repeat [default: the docstrings of the installed Python].")
flags.DEFINE_enum("task", "causal_lm", ["causal_lm", "masked_lm"], "Task to train; masked_lm packs texts into rows.")
flags.DEFINE_enum("document", "file", ["paragraph", "line", "file"], "What counts as one document.")
flags.DEFINE_string("tokenizer", "bytes", "bytes, a vocabulary file, learn:wordpiece:SIZE or learn:bpe:SIZE.")
flags.DEFINE_float("eval_fraction", 0.0, "Fraction split off for evaluation.", lower_bound=0.0, upper_bound=0.9)
flags.DEFINE_integer("max_length", 256, "Tokens per row.", lower_bound=8)
flags.DEFINE_integer("batch_size", 16, "Rows per batch.", lower_bound=1)
flags.DEFINE_integer("batches", 200, "Number of batches to make.", lower_bound=1)
flags.DEFINE_integer("steps", 5, "Number of training steps with a tiny model.", lower_bound=0)
flags.DEFINE_string("folder", None, "Where to create the temporary file and its tokens [default: the system's "
                    "temporary folder].")
flags.DEFINE_string("json", None, "Also write the rows to this JSON file.")
flags.DEFINE_string("measured", None, "Internal: measure this file in this process.")

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEGABYTE = 10 ** 6


def _anonymous():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


class _Peak:
    # Samples the anonymous memory in a thread.

    def __init__(self):
        self.bytes, self._end = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while not self._end.wait(0.01):
            self.bytes = max(self.bytes, _anonymous())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._end.set()
        self._thread.join()


def _write_repeated(path, size):
    # Repeats the text, with an empty line between copies, up to exactly `size` bytes.
    if FLAGS.text:
        text = pathlib.Path(FLAGS.text).read_bytes()
    else:
        from tfzoo.data.readers import TEXTS
        from tfzoo.data.source import open_source
        text = "\n\n".join(open_source("builtin:python", TEXTS).texts[0]).encode("utf-8", "replace")
    text += b"\n\n"
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(text[:size - file.tell()])


def _open(task):
    # Returns (source, tokenizer, batches, [seconds to read, to learn a vocabulary, to encode]).
    from tfzoo.data.readers import TEXTS
    from tfzoo.data.source import open_source
    from tfzoo.text import learn_tokenizer, load_tokenizer
    times = [time.perf_counter()]
    source = open_source(FLAGS.measured, TEXTS, document=FLAGS.document)
    if FLAGS.eval_fraction:
        source, _ = source.split(FLAGS.eval_fraction, 0)
    source.fingerprint
    times.append(time.perf_counter())
    learned = FLAGS.tokenizer.startswith("learn:")
    tokenizer = learn_tokenizer(FLAGS.tokenizer, source.passages()) if learned else load_tokenizer(FLAGS.tokenizer)
    times.append(time.perf_counter())
    data = task.features(source, tokenizer, batch_size=FLAGS.batch_size, max_length=FLAGS.max_length, training=True)
    times.append(time.perf_counter())
    return source, tokenizer, data, [after - before for before, after in zip(times, times[1:])]


def measure():
    """Measure reading, encoding, batching and training, and return a row with times and memory: dict."""
    import keras
    import numpy as np

    from tfzoo.tasks import build, task_of
    from tfzoo.training.optimizer import make_optimizer
    from tfzoo.training.trainer import Trainer
    keras.utils.set_random_seed(0)
    task = task_of(FLAGS.task, **({"pack": True} if FLAGS.task == "masked_lm" else {}))
    before = _anonymous()
    with _Peak() as peak:
        source, tokenizer, data, (read, learn, encode) = _open(task)
        built = peak.bytes
        begin = time.perf_counter()
        data.batch(0)
        first = time.perf_counter() - begin
        for step in np.random.default_rng(0).integers(0, data.batches_per_epoch, FLAGS.batches):
            data.batch(int(step))
        each = (time.perf_counter() - begin - first) / FLAGS.batches
        batched = peak.bytes
        if FLAGS.steps:
            model = build("gpt2_tiny" if FLAGS.task == "causal_lm" else "bert_tiny", task=FLAGS.task,
                          vocab_size=tokenizer.vocab_size)
            trainer = Trainer(model, task, make_optimizer("adamw", 1e-4, model.trainable_variables))
            for _ in trainer.train(data, FLAGS.steps):
                continue
    packed = data.base if FLAGS.task == "masked_lm" else data
    row = {"text_bytes": os.path.getsize(FLAGS.measured), "documents": len(source),
           "tokens": int(packed.tokens.size), "dtype": packed.tokens.dtype.name,
           "read_seconds": read, "learn_seconds": learn, "encode_seconds": encode,
           "tokens_per_second": packed.tokens.size / encode, "first_batch_seconds": first, "batch_seconds": each,
           "anonymous_before_bytes": before, "anonymous_built_bytes": built, "anonymous_batches_bytes": batched,
           "anonymous_peak_bytes": peak.bytes, "peak_bytes": peak.bytes - before}
    if FLAGS.task == "masked_lm":
        row["padding"] = packed.padding
    if not FLAGS.tokenizer.startswith("learn:"):
        row["open_again_seconds"] = sum(_open(task)[3])
    return row


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}: only flags are allowed")
    if FLAGS.measured:
        print(json.dumps(measure()))
        return
    with tempfile.TemporaryDirectory(dir=FLAGS.folder) as folder:
        path = pathlib.Path(folder) / "repeated.txt"
        _write_repeated(path, FLAGS.megabytes * MEGABYTE)
        same = ("task", "document", "tokenizer", "eval_fraction", "max_length", "batch_size", "batches", "steps")
        command = [sys.executable, "-m", "benchmarks.corpus", f"--measured={path}",
                   *(f"--{name}={FLAGS[name].value}" for name in same)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "TFZOO_CACHE": f"{folder}/cache"})
    if done.returncode:
        raise SystemExit(f"benchmarks.corpus: the measured process exited with code {done.returncode}")
    row = {"workload": f"corpus_{FLAGS.megabytes}mb_{FLAGS.task}_{FLAGS.document}", "system": "tfzoo",
           "variant": FLAGS.tokenizer, **json.loads(done.stdout.splitlines()[-1])}
    rows = [{"machine": f"{os.cpu_count()} cores"}, row]
    for name, value in row.items():
        shown = f"{value / MEGABYTE:,.1f} MB" if name.endswith("bytes") else \
            f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        print(f"{name:26}{shown}", file=sys.stderr)
    if FLAGS.json:
        pathlib.Path(FLAGS.json).write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    app.run(main)
