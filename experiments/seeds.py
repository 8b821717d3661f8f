"""Train one run per random seed, each in a process of its own, and summarize their metrics.

A process per seed starts from the same state however many seeds came before: TensorFlow keeps devices, determinism and
memory for the life of a process. Its messages, signals and exit code pass through.
"""
import json
import math
import signal
import statistics
import subprocess
import sys

from experiments import app
from experiments.groups import FIELDS
from experiments.launch import dies_with_this_process

FACTS = {"steps", "planned_steps", "best_step", "examples_per_second"}  # numbers in a run's results, but not metrics
HEADER = "# python -m experiments.finetune --seeds=...\n"


def seeds_of(text):
    """Return the seeds in a flag such as "0,1,2": list of int; raise ConfigError unless there are two or more."""
    from tfzoo.errors import ConfigError
    words = [word.strip() for word in text.split(",")]
    seeds = [int(word) for word in words if word.isdecimal() and len(word) < 21]
    if len(seeds) < len(words) or len(set(seeds)) != len(seeds) or len(seeds) < 2 or max(seeds) > FIELDS.SEEDS:
        raise ConfigError(f"--seeds={text} must be at least two different integers from 0 to {FIELDS.SEEDS}, separated "
                          "by commas")
    return seeds


def words_of(given):
    """Return the command-line arguments that give these flags: list of str.

    Args:
        given: dict of name to value, from `app.given`.
    """
    words = []
    for name, value in given.items():
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no'}{name}")
        else:
            words += [f"--{name}={item}" for item in (value if isinstance(value, list) else [value])]
    return words


def start(words):
    """Run experiments.finetune in a process of its own.

    Args:
        words: list of str, its command-line arguments.

    Returns:
        (int, str): its exit code, and its stdout.

    Raises:
        KeyboardInterrupt: if a signal arrived, after the run has saved its state.
    """
    # Not in the terminal's process group: the run gets one signal, from here, because a second one would kill it.
    process = subprocess.Popen([sys.executable, "-m", "experiments.finetune", *words], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True, start_new_session=True,
                               preexec_fn=dies_with_this_process())
    try:
        try:
            return _code(process.communicate()[0], process.returncode)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)
            code, output = _code(process.communicate()[0], process.returncode)
            if code in (0, app.EXIT_INTERRUPTED, 128 + signal.SIGTERM):
                raise
            return code, output
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _code(output, code):
    return 128 - code if code < 0 else code, output


def run(values):
    """Train or resume a run for each of --seeds.

    Args:
        values: flags.FlagValues, the flags of finetune.

    Returns:
        dict with `seeds`; `mean` and `std` (of the sample, with n - 1), each a dict of metric to float, or None if the
        metric of a seed is not finite; and `runs`, the results of each seed.

    Raises:
        ConfigError: if --seeds is malformed, --seed is given too, or the folder contains a run of one seed.
        app.Failed: if a run fails, with its exit code.
        KeyboardInterrupt: if a signal arrived; the same command goes on.
    """
    from tfzoo import files
    from tfzoo.errors import ConfigError
    from tfzoo.progress import tell
    seeds, given = seeds_of(values.seeds), app.given(values)
    if "seed" in given:
        raise ConfigError(f"--seed={values.seed} and --seeds={values.seeds}: give only one of them")
    folder = files.local_path(values.output_dir, "--output_dir")
    if (folder / "config.json").exists():
        raise ConfigError(f"--output_dir={folder} contains a run that was trained without --seeds: choose another "
                          "folder")
    flags = folder / "flags.txt"
    if flags.exists() and not flags.read_bytes().startswith(HEADER.encode()):
        raise ConfigError(f"--output_dir={folder} contains flags.txt, which was not written with --seeds: choose "
                          "another folder")
    folder.mkdir(parents=True, exist_ok=True)
    lines = HEADER + "\n".join(words_of(given)) + "\n"
    if not flags.exists():
        files.write_atomic(flags, lines)
    del given["seeds"]
    runs = []
    for seed in seeds:
        tell(f"seed {seed} ({len(runs) + 1} of {len(seeds)})")
        code, output = start(words_of({**given, "seed": seed, "output_dir": f"{folder / f'seed_{seed}'}"}))
        if code:
            raise app.Failed(code, f"the run with --seed={seed} ended with exit code {code}: see its message above; "
                                   "the same command trains the seeds that are left")
        runs.append(json.loads(output.strip().splitlines()[-1]))
    files.write_atomic(flags, lines)  # only now, as the runs may have refused other settings than before
    results = {"seeds": seeds, **_summary(runs), "runs": runs}
    files.write_atomic(folder / "seeds.json", json.dumps(results, indent=2) + "\n")
    return results


def _summary(runs):
    summary = {"mean": {}, "std": {}}
    for name in runs[0]:
        values = [results.get(name) for results in runs]
        if name in FACTS or any(isinstance(value, (str, list, dict)) for value in values):
            continue
        known = all(value is not None and math.isfinite(value) for value in values)
        summary["mean"][name] = statistics.fmean(values) if known else None
        summary["std"][name] = statistics.stdev(values) if known else None
    return summary
