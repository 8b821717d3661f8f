"""Time from the start of a Python process to the end of its first training step, compared with keras-nlp.

The default workload is classification with BERT-base and AdamW on batches of 8 x 128 tokens. Each start is a new
process; variants are interleaved. tfzoo imports the modules that experiments.finetune imports. It is compared with the
faster variant of keras-nlp, whose models compile with XLA by default. CPU time (`cpu`) is also shown, since it varies
less when the machine is busy.
"""
import json
import os
import statistics
import subprocess
import sys
import time

from absl import app, flags

from benchmarks.interleave import ROOT, refuse_words, report
from benchmarks.worker import SYSTEMS, WORKLOADS

FLAGS = flags.FLAGS
flags.DEFINE_enum("workload", "bert_base", sorted(WORKLOADS), "The workload to train.")
flags.DEFINE_list("only", [], "Measure only variants that contain one of these strings, e.g. 'tfzoo,keras-nlp no_xla'.")
flags.DEFINE_integer("rounds", 3, "Number of starts per variant.", lower_bound=1)
flags.DEFINE_string("json", None, "Also write the rows to this JSON file.")
flags.DEFINE_string("variant", None, "Internal: start this variant in this process.")

VARIANTS = [f"{system} {how} {dtype}" for dtype in ("bfloat16", "float32")
            for system, how in (("tfzoo", "no_xla"), ("keras-nlp", "no_xla"), ("keras-nlp", "xla"))]
PARTS = ("python", "import", "build", "first step")  # build: model, optimizer, trainer; first step: trace and compile


def import_system(system):
    """Import the modules that the system's training scripts import."""
    if system == "keras-nlp":
        import keras_nlp  # noqa: F401
        return
    from experiments import app as script
    script.import_tensorflow()
    import tfzoo.training.run  # noqa: F401


def start(variant):
    """Print a JSON list: CPU seconds, then Unix times before the imports and after imports, build and first step."""
    times = [time.time()]
    system, how, dtype = variant.split()
    import_system(system)
    times.append(time.time())
    steps = SYSTEMS[system](WORKLOADS[FLAGS.workload], how, dtype)
    times.append(time.time())
    steps(1)
    times.append(time.time())
    print(json.dumps([time.process_time(), *times]), flush=True)
    os._exit(0)  # at a normal exit, TensorFlow's threads may hang the interpreter


def seconds_of(variant):
    """Start a variant in a new process and return (CPU seconds, list of seconds per part)."""
    command = [sys.executable, "-m", "benchmarks.start", f"--variant={variant}", f"--workload={FLAGS.workload}"]
    begin = time.time()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{variant}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    cpu, *times = json.loads(done.stdout.splitlines()[-1])
    return cpu, [after - before for before, after in zip([begin, *times], times)]


def main(argv):
    refuse_words(argv)
    if FLAGS.variant:
        return start(FLAGS.variant)
    variants = [variant for variant in VARIANTS if not FLAGS.only or any(part in variant for part in FLAGS.only)]
    taken = {variant: [] for variant in variants}
    for number in range(FLAGS.rounds):
        for variant in variants:
            taken[variant].append(seconds_of(variant))
            print(f"round {number + 1} of {FLAGS.rounds}, {variant}: {sum(taken[variant][-1][1]):.1f} s",
                  file=sys.stderr)
    rows = []
    for variant, starts in taken.items():
        system, how, dtype = variant.split()
        cpus, parts = zip(*starts)
        rows.append({"workload": FLAGS.workload, "system": system, "variant": how, "dtype": dtype,
                     **{part: statistics.median(values) for part, values in zip(PARTS, zip(*parts))},
                     "seconds": statistics.median(map(sum, parts)), "cpu": statistics.median(cpus), "starts": starts})
    report(rows, {"workload": "{}", "system": "{}", "variant": "{}", "dtype": "{}",
                  **{part: "{:>.1f}" for part in (*PARTS, "seconds", "cpu")}}, FLAGS.json)
    for row in rows:
        peers = [other["seconds"] for other in rows
                 if other["system"] == "keras-nlp" and other["dtype"] == row["dtype"]]
        if row["system"] == "tfzoo" and peers:
            print(f"{row['dtype']}: tfzoo takes {row['seconds'] / min(peers):.2f} x as long to start as keras-nlp "
                  "(target: at most 1)")


if __name__ == "__main__":
    app.run(main)
