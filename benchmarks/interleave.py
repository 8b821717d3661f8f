"""What the benchmarks share: a process for each variant, rounds over all of them in turn, medians, tables, JSON.

The rounds go over all variants in turn, so that the machine's moods fall on each alike, and the medians are compared.
"""
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def machine():
    """Return what the figures depend on: dict of machine, versions and commit."""
    try:
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True,
                                text=True).stdout.strip()
    except OSError:
        commit = "unknown"
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "keras-nlp")}
    processor = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                     platform.processor()) if os.path.exists("/proc/cpuinfo") else platform.processor()
    return {"machine": f"{processor}, {os.cpu_count()} cores", "python": platform.python_version(), **versions,
            "commit": commit}


class Worker:
    """A process that answers each line with a JSON line.

    Args:
        command: list of str.

    Attributes:
        problem: str, the last line of its error output where it did not begin; None where it did.
    """

    def __init__(self, command):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, env=environment, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.problem = None

    def ask(self, line):
        """Return the dict of its answer to a line, or None where it ended."""
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self.process.stdout.readline()
        while answer and not answer.startswith("{"):
            answer = self.process.stdout.readline()
        if answer:
            return json.loads(answer)
        self.problem = (self.process.stderr.read().strip().splitlines() or ["no message"])[-1]
        return None

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(commands, rounds, steps, warm_up=4):
    """Measure variants in turn.

    Args:
        commands: dict of variant -> command of its worker.
        rounds, steps: int, how often, and steps of one measurement.
        warm_up: int, steps before the first round; the first builds and compiles.

    Returns:
        dict of variant -> dict of seconds (median of a step), rounds (each one's seconds), first_seconds (of the first
        step) and peak_bytes. Variants that did not begin are left out with a line on stderr.
    """
    workers, first = {}, {}
    for variant, command in commands.items():
        worker = Worker(command)
        answer = worker.ask(1)
        if answer is None or worker.ask(warm_up - 1) is None:
            print(f"{variant}: left out ({worker.problem})", file=sys.stderr)
            continue
        workers[variant], first[variant] = worker, answer["seconds"]
        print(f"{variant}: ready", file=sys.stderr)
    answers = {variant: [] for variant in workers}
    for number in range(rounds):
        for variant, worker in workers.items():
            answers[variant].append(worker.ask(steps))
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    for worker in workers.values():
        worker.close()
    return {variant: {"seconds": statistics.median(answer["seconds"] for answer in given) / steps,
                      "rounds": [answer["seconds"] / steps for answer in given], "first_seconds": first[variant],
                      "peak_bytes": max(answer["peak_bytes"] for answer in given)}
            for variant, given in answers.items()}


def report(rows, columns, json_file=None):
    """Print rows as a table and as JSON after a row about the machine.

    Args:
        rows: list of dict.
        columns: dict of the key of a row -> format of its value, as "{:>10.1f}".
        json_file: str or None, also written there.
    """
    about = machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    widths = {key: max([len(key), *(len(form.format(row[key])) for row in rows)]) for key, form in columns.items()}
    for line in [{key: key for key in columns}, *({key: columns[key].format(row[key]) for key in columns}
                                                  for row in rows)]:
        print("  ".join(value.rjust(widths[key]) if columns[key].startswith("{:>") else value.ljust(widths[key])
                        for key, value in line.items()))
    rows = [about, *rows]
    if json_file:
        pathlib.Path(json_file).write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))
