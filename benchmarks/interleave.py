"""Code shared by the benchmarks: one process per variant, interleaved rounds, medians, tables, JSON.

Each round measures all variants in turn, so that changes in the machine's speed affect them equally; the result is the
median over rounds. A variant is a string of three parts (system, execution mode and dtype), such as
"keras-nlp no_xla bfloat16".
"""
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys

from absl import app, flags

FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).resolve().parent.parent
DTYPES = ("bfloat16", "float32")
PEERS = {"keras-nlp": ("keras_nlp",), "pytorch": ("torch", "transformers"),
         "ctranslate2": ("ctranslate2", "torch", "transformers"),
         "onnxruntime": ("onnxruntime", "onnx", "torch", "transformers"),
         "openvino": ("openvino", "torch", "transformers"),
         "sentence-transformers": ("sentence_transformers",)}  # the modules that each requires


def add_flags(rounds=None, steps=None, peers=True):
    """Define the flags for a benchmark.

    Args:
        rounds, steps: int, the defaults for --rounds and --steps; None to define neither, for benchmarks that do not
            use `measure`.
        peers: bool, whether to define --only and --peers_python, which select variants.
    """
    again = {"allow_override": True}  # tests import several benchmarks in one process
    if rounds is not None:
        flags.DEFINE_integer("rounds", rounds, "Number of measurements per variant.", lower_bound=1, **again)
        flags.DEFINE_integer("steps", steps, "Number of steps per measurement.", lower_bound=1, **again)
    flags.DEFINE_string("json", None, "Also write the rows to this JSON file.", **again)
    if not peers:
        return
    flags.DEFINE_list("only", [], "Measure only variants that contain one of these strings, e.g. "
                      "'tfzoo,keras-nlp xla'.", **again)
    flags.DEFINE_list("peers_python", [], "Python executables of environments that contain peers. Each peer runs in "
                      "the first that imports it, or else in this one; those that none imports are skipped.", **again)


def add_plot_flags():
    """Define --plot and --from for a benchmark that draws."""
    again = {"allow_override": True}
    flags.DEFINE_string("plot", None, "Draw the figure to this file (.png or .svg); requires matplotlib.", **again)
    flags.DEFINE_string("from", None, "JSON file from an earlier run, to draw without measuring.", **again)


def refuse_words(argv):
    """Raise app.UsageError if there are arguments other than flags."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}: only flags are allowed")


def data_folder(name):
    """Return the path of a data set in $TFZOO_DATA: pathlib.Path; exit with a one-line error if it does not exist."""
    folder = pathlib.Path(os.environ.get("TFZOO_DATA", ROOT.parent / "shared" / "data")).resolve() / name
    if not folder.exists():
        raise SystemExit(f"no data at {folder}: set TFZOO_DATA to the folder that contains {name}")
    return folder


@functools.lru_cache(maxsize=None)
def _imports(python, modules):
    return subprocess.run([python, "-c", f"import {', '.join(modules)}"], capture_output=True).returncode == 0


def python_of(system):
    """Return the Python executable of the first environment that imports a system, or None: str."""
    if system not in PEERS:
        return sys.executable
    environments = [*(FLAGS.peers_python if "peers_python" in FLAGS else []), sys.executable]
    return next((python for python in environments if _imports(python, PEERS[system])), None)


def variants_of(systems, dtypes=None):
    """Return the variants chosen by --only whose systems can be imported, and report the other systems on stderr.

    Args:
        systems: dict of system -> modes.
        dtypes: dict of system -> dtypes, or None; systems that it does not contain have those in DTYPES.

    Returns:
        list of str.
    """
    for python in FLAGS.peers_python:
        if not shutil.which(python):
            raise SystemExit(f"--peers_python={python}: no such program; give Python executables of environments that "
                             "contain peers")
    variants = [f"{system} {how} {dtype}" for system, hows in systems.items() for how in hows
                for dtype in (dtypes or {}).get(system, DTYPES)]
    chosen = [variant for variant in variants if not FLAGS.only or any(part in variant for part in FLAGS.only)]
    if not chosen:
        raise SystemExit(f"--only={','.join(FLAGS.only)} matches no variant: use parts of {'; '.join(variants)}")
    missing = {system for system in {variant.split()[0] for variant in chosen} if python_of(system) is None}
    for system in sorted(missing):
        print(f"{system}: skipped; neither this environment nor one of --peers_python imports "
              f"{' and '.join(PEERS[system])}", file=sys.stderr)
    chosen = [variant for variant in chosen if variant.split()[0] not in missing]
    if not chosen:
        raise SystemExit("none of the chosen systems is installed: name an environment that contains one in "
                         "--peers_python")
    return chosen


def command_of(module, recipe, variant):
    """Return the command that starts a variant's worker, with the recipe as JSON: list of str."""
    system, *how, dtype = variant.split()
    return [python_of(system), "-m", module, json.dumps(recipe), system, " ".join(how), dtype]


def measure_systems(module, recipe, systems):
    """Measure the variants in a dict of system -> modes, and return the results of `measure`.

    Variants are interleaved only with variants of the same dtype: running all at once would take too much memory.
    """
    results, variants = {}, variants_of(systems)
    for dtype in DTYPES:
        commands = {variant: command_of(module, recipe, variant) for variant in variants if variant.endswith(dtype)}
        if commands:
            results.update(measure(commands, FLAGS.rounds, FLAGS.steps))
    return results


def row_of(workload, variant, **values):
    """Return a table row that contains the parts of the variant, followed by `values`: dict."""
    system, *how, dtype = variant.split()
    return {"workload": workload, "system": system, "variant": " ".join(how), "dtype": dtype, **values}


def add_ratios(rows, rate):
    """Compare tfzoo's rows with the best row of each peer: add the ratios to the rows and print them.

    Args:
        rows: list of dict (see `row_of`). Each of tfzoo's rows gets `ratios`, to the peers' best rows of the same
            dtype; its fastest row also gets `ratios_in_all`, to their best rows of any dtype.
        rate: str, the key of the value to compare; higher is better.
    """
    ours = [row for row in rows if row["system"].startswith("tfzoo")]
    for row in ours:
        row["ratios"] = _ratios(row, [other for other in rows if other["dtype"] == row["dtype"]], rate, row["dtype"])
    if ours and len({row["dtype"] for row in rows}) > 1:
        fastest = max(ours, key=lambda row: row[rate])
        fastest["ratios_in_all"] = _ratios(fastest, rows, rate, "of all dtypes")


def _ratios(row, rows, rate, among):
    found = {}
    for peer in PEERS:
        best = max((other for other in rows if other["system"] == peer), key=lambda other: other[rate], default=None)
        if best:
            found[peer] = row[rate] / best[rate]
            print(f"{row['system']} {row['variant']} {row['dtype']}: {found[peer]:.2f} x {peer}'s fastest {among} "
                  f"({best['variant']} {best['dtype']})")
    return found


def machine(systems=()):
    """Return the machine, package versions and commit that the results of these systems depend on: dict."""
    try:
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True,
                                text=True).stdout.strip()
    except OSError:
        commit = "unknown"
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "keras-nlp")}
    for python, modules in ((python_of(system), PEERS[system]) for system in PEERS if system in systems):
        if python != sys.executable:
            words = f"import importlib.metadata as m; print(*(m.version(name) for name in {modules}))"
            found = subprocess.run([python, "-c", words], capture_output=True, text=True).stdout
            versions.update({name: version for name, version in zip(modules, found.split()) if name not in versions})
    processor = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                     platform.processor()) if os.path.exists("/proc/cpuinfo") else platform.processor()
    return {"machine": f"{processor}, {os.cpu_count()} cores", "python": platform.python_version(), **versions,
            "commit": commit}


def drawing():
    """Return matplotlib's Figure class, or exit with a one-line error if it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("--plot requires matplotlib, which is not installed: pip install matplotlib, or omit "
                         "--plot and draw later with --from=FILE, the --json file from this run") from None
    return Figure


def tidy(axis, label):
    """Let both axes begin at 0, with a grid and `label`, str, under the horizontal one."""
    axis.set_xlabel(label)
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.locator_params(axis="x", integer=True, nbins=5)
    axis.grid(alpha=0.3)


def drawn_only(draw):
    """Draw the rows of --from with `draw`, if it is given, and return whether it is; check --plot before measuring."""
    if FLAGS["from"].value:
        if not FLAGS.plot:
            raise SystemExit("--from requires --plot: give both")
        draw(earlier(FLAGS["from"].value), FLAGS.plot)
        return True
    if FLAGS.plot:
        drawing()  # fail before measuring if matplotlib is missing
    return False


def earlier(path):
    """Read the rows from an earlier run: list of dict."""
    try:
        return json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"--from={path} cannot be read ({error}): give the --json file from an earlier run") from None


class Worker:
    """Worker process that answers each line on stdin with a JSON line.

    Args:
        command: list of str.
        environment: dict of str, variables added to this process's environment.

    Attributes:
        problem: str, the last line of its stderr if it ended instead of answering; else None.
    """

    def __init__(self, command, environment=None):
        environment = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, env=environment, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.problem = None

    def ask(self, line):
        """Send a line and return the answer: dict, or None if the process ended."""
        self.send(line)
        return self.receive()

    def send(self, line):
        """Send a line, without waiting for the answer."""
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def receive(self):
        """Return the answer to the line that was sent: dict, or None if the process ended."""
        answer = self.process.stdout.readline()
        while answer and not answer.startswith("{"):
            answer = self.process.stdout.readline()
        if answer:
            return json.loads(answer)
        self.problem = (self.process.stderr.read().strip().splitlines() or ["no message"])[-1]
        return None

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()


def measure(commands, rounds, steps, warm_up=4, last=None):
    """Measure variants in interleaved rounds.

    Args:
        commands: dict of variant -> command of its worker.
        rounds: int, the number of measurements per variant.
        steps: int, the number of steps per measurement.
        warm_up: int, the number of steps before the first round; the first step builds and compiles.
        last: str, a line to which each worker answers twice after the rounds (the first time, it may compile), or None.

    Returns:
        dict of variant -> dict with `seconds` (median per step), `rounds` (seconds per step in each round),
        `first_seconds` (time of the first step), `peak_bytes`, `answers` (one per round) and, given `last`, `last` (the
        second answer to it). Variants whose worker
        fails to start or ends early are skipped, with a line on stderr.
    """
    workers, first = {}, {}
    for variant, command in commands.items():
        worker = Worker(command)
        answer = worker.ask(1)
        if answer is None or worker.ask(warm_up - 1) is None:
            print(f"{variant}: skipped ({worker.problem})", file=sys.stderr)
            continue
        workers[variant], first[variant] = worker, answer["seconds"]
        print(f"{variant}: ready", file=sys.stderr)
    answers = {variant: [] for variant in workers}
    for number in range(rounds):
        for variant, worker in list(workers.items()):
            answer = worker.ask(steps)
            if answer is None:
                print(f"{variant}: skipped, ended in round {number + 1} ({worker.problem})", file=sys.stderr)
                del workers[variant], answers[variant]
                continue
            answers[variant].append(answer)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    ends = {variant: [worker.ask(last) for _ in range(2)][1] for variant, worker in workers.items()} if last else {}
    for variant, worker in workers.items():
        if last and ends[variant] is None:
            print(f"{variant}: ended at {last!r} ({worker.problem})", file=sys.stderr)
        worker.close()
    return {variant: {"seconds": statistics.median(answer["seconds"] for answer in given) / steps,
                      "rounds": [answer["seconds"] / steps for answer in given], "first_seconds": first[variant],
                      "peak_bytes": max(answer["peak_bytes"] for answer in given), "answers": given,
                      **({"last": ends[variant]} if last else {})}
            for variant, given in answers.items()}


def report(rows, columns, json_file=None):
    """Print rows as a table, then as JSON with a first row that describes the machine.

    Args:
        rows: list of dict.
        columns: dict of row key -> format of its value, such as "{:>10.1f}".
        json_file: str, a file that the JSON is also written to, or None.
    """
    about = machine({row.get("system") for row in rows})
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
