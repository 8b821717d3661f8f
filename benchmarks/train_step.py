"""Training steps of BERT-small (4 layers, 512 wide) on 32 x 128 tokens with AdamW and dropout 0.1, beside its peers.

Every variant lives in a process of its own; the rounds go over all of them in turn, so that the machine's moods fall on
each alike, and the medians are compared. Peers that are not installed are left out with a line.
"""
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("rounds", 7, "How often each variant is measured.", lower_bound=1)
flags.DEFINE_integer("steps", 4, "Steps of one measurement.", lower_bound=1)
flags.DEFINE_string("json", None, "Also write the rows into this file.")
flags.DEFINE_string("pytorch_python", None, "A Python with torch and transformers; without it PyTorch is left out.")

WORKLOAD, BATCH = "bert_small_32x128", 32
ROOT = pathlib.Path(__file__).resolve().parent.parent
VARIANTS = [(system, variant, dtype) for system in ("tfzoo", "keras-nlp") for variant in ("no_xla", "xla")
            for dtype in ("float32", "bfloat16")] + [("pytorch", "eager", "float32"), ("pytorch", "eager", "bfloat16")]


def _start(system, variant, dtype):
    python = FLAGS.pytorch_python if system == "pytorch" else sys.executable
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen([python, "-m", "benchmarks.worker", system, variant, dtype], cwd=ROOT, text=True,
                            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _ask(worker, steps):
    worker.stdin.write(f"{steps}\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    return json.loads(answer) if answer.startswith("{") else None


def _machine():
    try:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True,
                                text=True).stdout.strip()
    except OSError:
        commit = "unknown"
    import importlib.metadata
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "keras-nlp")}
    processor = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                     platform.processor()) if os.path.exists("/proc/cpuinfo") else platform.processor()
    return {"machine": f"{processor}, {os.cpu_count()} cores", "python": platform.python_version(), **versions,
            "commit": commit}


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"got {argv[1:]}: allowed are flags only")
    workers, rows = {}, []
    for variant in VARIANTS:
        if variant[0] == "pytorch" and not FLAGS.pytorch_python:
            continue
        worker = _start(*variant)
        if _ask(worker, 2) is None:  # builds and compiles
            last = (worker.stderr.read().strip().splitlines() or ["no message"])[-1]
            print(f"{' '.join(variant)}: left out ({last})", file=sys.stderr)
            continue
        workers[variant] = worker
        print(f"{' '.join(variant)}: ready", file=sys.stderr)
    answers = {variant: [] for variant in workers}
    for number in range(FLAGS.rounds):
        for variant, worker in workers.items():
            answers[variant].append(_ask(worker, FLAGS.steps))
        print(f"round {number + 1} of {FLAGS.rounds}", file=sys.stderr)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    for (system, variant, dtype), times in answers.items():
        median = statistics.median(answer["seconds"] for answer in times)
        rows.append({"workload": WORKLOAD, "system": system, "variant": variant, "dtype": dtype,
                     "examples_per_second": FLAGS.steps * BATCH / median,
                     "peak_bytes": max(answer["peak_bytes"] for answer in times)})
    rows = [_machine(), *rows]
    print(f"{'system':12}{'variant':10}{'dtype':10}{'examples/s':>12}{'peak MB':>10}")
    for row in rows[1:]:
        print(f"{row['system']:12}{row['variant']:10}{row['dtype']:10}{row['examples_per_second']:12.1f}"
              f"{row['peak_bytes'] / 2 ** 20:10.0f}")
    if FLAGS.json:
        pathlib.Path(FLAGS.json).write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    app.run(main)
