"""Kill a training run at random moments and at named points, resume it, and compare it with an uninterrupted run.

    python -m tests.training.kills FOLDER --random=50 --named --controls --devices --disks

Prints one JSON object per case. Instead of killing the run, --disks makes the disk full, read-only or limited in file
size, temporarily or until the end; it mounts a small file system and requires root. Runs are forks of a process that
has imported TensorFlow but not computed anything. --controls drops one item of state on resume, so these comparisons
must find a difference.
"""
import argparse
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import safetensors.numpy

from experiments import app, finetune
from tests.experiments.conftest import SMALL_MODEL, write_pairs, write_reviews

TIMES = ("seconds", "data_wait")  # and all keys that end in _per_second
STEPS, CHAIN = 60, 5
BAD = 27  # non-finite update: skipped, and reported in the record of step 30, after the checkpoint of step 28
# point: (module, attribute, number of the call, kill after it instead of before)
POINTS = {
    "before a save": ("tfzoo.training.checkpointing", "Checkpoints.save", 3, False),
    "between two files of a save": ("tfzoo.files", "write_chunks", 10, False),
    "before the manifest": ("tfzoo.training.checkpointing", "_manifest_digest", 3, False),
    "before the folder gets its name": ("os", "rename", 3, False),
    "after the folder got its name": ("os", "rename", 3, True),
    "before old checkpoints go": ("tfzoo.training.checkpointing", "Checkpoints._prune", 4, False),
    "amid old checkpoints": ("tfzoo.training.checkpointing", "Checkpoints._delete", 2, False),
    "after old checkpoints went": ("tfzoo.training.checkpointing", "Checkpoints._prune", 4, True),
    "before the best is noted": ("tfzoo.training.checkpointing", "Checkpoints.mark_best", 1, False),
    "after the best was noted": ("tfzoo.training.checkpointing", "Checkpoints.mark_best", 1, True),
    "before a record": ("tfzoo.files", "append_line", 6, False),
    "after a record": ("tfzoo.files", "append_line", 6, True),
    "amid an evaluation": ("tfzoo.training.evaluator", "place", 5, False),
    "amid the copy of the state": ("tfzoo.training.trainer", "Trainer._groups", 3, False),
    "before the model gets its name": ("tfzoo.folders", "replace_folder", 1, False),
    "after the model got its name": ("tfzoo.folders", "replace_folder", 1, True),
    "before the results": ("tfzoo.training.run_folder", "RunFolder.finish", 1, False),
    "after the results": ("tfzoo.training.run_folder", "RunFolder.finish", 1, True),
    "after step 28 was saved": ("tfzoo.training.checkpointing", "Checkpoints._prune", 5, True),
    "after step 49 was saved": ("tfzoo.training.checkpointing", "Checkpoints._prune", 9, True)}
CONTROLS = {item: "after step 28 was saved" for item in (
    "iterations", "a momentum", "an average", "a weight", "the sums since the last record", "the skipped updates")}
CONTROLS["the best so far"] = "after step 49 was saved"  # from step 45


def words_of(folder, data, *more):
    """Return the arguments of a run that uses all stateful features; the task is contrastive on contrastive.jsonl."""
    if pathlib.Path(data).stem == "contrastive":
        more = ["--task=contrastive", "--group_size=2", *more]
    return ["--model=bert_tiny", *SMALL_MODEL, f"--data={data}", "--tokenizer=bytes", f"--steps={STEPS}",
            "--batch_size=8", "--max_length=32", "--eval_every=15", "--save_every=7", "--log_every=5",
            "--deterministic", "--eval_fraction=0.2", "--dropout=0.2", "--accumulate_steps=2", "--ema_decay=0.9",
            "--learning_rate=0.01", "--seed=3",  # a seed whose best evaluation is not the last
            f"--output_dir={folder}", *more]


def run(words, log, prepare=None):
    """Train in a fork that first calls `prepare`; append output to `log`; return the exit code, -N for signal N."""
    child = os.fork()
    if child == 0:
        code = 99  # if the script raises an error
        try:
            log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if prepare is not None:
                prepare()
            code = app.execute(finetune.make_flags(), finetune.run, words)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wrap(module, attribute, around):
    """Replace a function of a module, or of a class in it, with around(function)."""
    __import__(module)
    owner = sys.modules[module]
    *outer, name = attribute.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, around(getattr(owner, name)))


def die_at(point):
    """Return a function that makes its process kill itself at a named point."""
    module, attribute, number, after = POINTS[point]
    calls = [0]

    def around(function):
        def call(*arguments, **options):
            calls[0] += 1
            now = calls[0] == number
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **options)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call

    return lambda: wrap(module, attribute, around)


def die_after(seconds, first_step=True):
    """Return a function that makes its process kill itself some seconds after its start or its first training step."""
    def begin():
        timer = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()

    def around(function):
        begun = []

        def call(*arguments, **options):
            begun or begun.append(begin())
            return function(*arguments, **options)
        return call

    return (lambda: wrap("tfzoo.training.trainer", "Trainer.train_step", around)) if first_step else begin


def poison(batch):
    """Wrap Derived.batch so that the loss of one training batch is not finite."""
    def call(self, step):
        made = batch(self, step)
        if self.base.plan.seed is not None and step == BAD - 1:
            made["weights"] = made["weights"] * np.float32(np.nan)
        return made

    return call


def lose(item):
    """Return a function that makes its process lose one item of state on resume."""
    def around(load):
        def call(self, step):
            arrays, state = load(self, step)
            optimizer, model = arrays["optimizer"], arrays["model"]
            if item == "iterations":
                name = next(name for name in optimizer if "iteration" in name)
                optimizer[name] = np.asarray(optimizer[name] - 1)
            elif item in ("a momentum", "an average"):
                name = [name for name in optimizer if name.endswith(item.split()[1])][-1]
                optimizer[name] = np.zeros_like(optimizer[name])
            elif item == "a weight":
                name = sorted(model)[0]
                model[name] = model[name] + np.float32(1e-6)
            elif item == "the best so far":
                state["best"] = None
            elif item == "the skipped updates":
                state["skipped"] = []
            else:
                state["window"] = None
            return arrays, state
        return call

    return lambda: wrap("tfzoo.training.checkpointing", "Checkpoints.load", around)


def refuse_writing(kind, folder, last):
    """Return a function that makes writes to the disk fail from the 20th training step until the `last`.

    Args:
        kind: "full", "read-only" or "too large" (a limit on file size).
        folder: str, mount point of a small file system.
        last: int, the step at which writes succeed again.
    """
    filler, hard = os.path.join(folder, "filler"), resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def begin():
        if kind == "full":
            with open(filler, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
        elif kind == "read-only":
            # Mount again on top: files open for writing would prevent remounting the first one read-only.
            subprocess.run(["mount", "--bind", folder, folder], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100000, hard))

    def end():
        if kind == "full":
            os.unlink(filler)
        elif kind == "read-only":
            subprocess.run(["umount", "-l", folder], check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    def around(function):
        calls = [0]

        def call(*arguments, **options):
            calls[0] += 1
            if calls[0] == 20:
                begin()
            if calls[0] == last:
                end()
            return function(*arguments, **options)
        return call

    return lambda: wrap("tfzoo.training.trainer", "Trainer.train_step", around)


def left_by(folder):
    """Return the results of a run that must not depend on kills: dict of name -> value or array."""
    folder, left = pathlib.Path(folder), {}

    def timeless(record):
        return {key: value for key, value in record.items() if key not in TIMES and not key.endswith("_per_second")}

    best = json.loads((folder / "checkpoints" / "best.json").read_text())
    steps = sorted(path.name for path in (folder / "checkpoints").glob("step_*"))
    left["best"], left["steps"] = best, steps
    for name in {steps[-1], f"step_{best['step']:08d}"}:
        for group in ("model", "optimizer"):
            arrays = safetensors.numpy.load_file(folder / "checkpoints" / name / f"{group}.safetensors")
            left.update({f"{name}/{group}/{key}": value for key, value in arrays.items()})
        left[f"{name}/state"] = json.loads((folder / "checkpoints" / name / "state.json").read_text())
    for name in ("metrics.jsonl", "samples.jsonl"):
        if (folder / name).exists():
            left[name] = [timeless(json.loads(line)) for line in (folder / name).read_text().splitlines()]
    results = timeless(json.loads((folder / "results.json").read_text()))
    left["results"] = {key: value for key, value in results.items() if key != "model"}
    left["hidden"] = sorted(path.name for path in folder.rglob(".tmp-*"))
    return left


def weights_of(folder):
    """Return the weights of the saved model, read in a fork: dict of path -> array."""
    target = pathlib.Path(folder) / "weights.npz"
    child = os.fork()
    if child == 0:
        from tfzoo.checkpoints import load
        np.savez(target, **{v.path.replace("/", "|"): v.numpy() for v in load(folder).model.trainable_variables})
        os._exit(0)
    os.waitpid(child, 0)
    with np.load(target) as file:
        return {name: file[name] for name in file.files}


def compare(one, other):
    """Return (names of the results that differ between two runs, largest difference of an array)."""
    different, largest = sorted(one.keys() ^ other.keys()), 0.0
    for name in one.keys() & other.keys():
        if not isinstance(one[name], np.ndarray):
            different += [name] if one[name] != other[name] else []
        elif one[name].tobytes() != other[name].tobytes():
            different.append(name)
            largest = max(largest, float(np.abs(one[name].astype(float) - other[name].astype(float)).max()))
    return different, largest


def tell(**report):
    print(json.dumps(report), flush=True)


class Kills:
    """Run cases in a folder and compare them with an uninterrupted run in it."""

    def __init__(self, folder, seed, task):
        self.folder, self.random = pathlib.Path(folder), random.Random(seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "log.txt"
        self.data = (write_pairs if task == "contrastive" else write_reviews)(self.folder / f"{task}.jsonl", 100)
        self.seconds = self._measure()
        self.whole = {**left_by(self.folder / "whole"), **weights_of(self.folder / "whole")}

    def _measure(self):
        """Make the uninterrupted run; return the seconds from its first step to its end."""
        begun = self.folder / "begun"

        def note(function):
            def call(*arguments, **options):
                begun.exists() or begun.write_text(str(time.time()))
                return function(*arguments, **options)
            return call

        code = run(words_of(self.folder / "whole", self.data), self.log,
                   lambda: wrap("tfzoo.training.trainer", "Trainer.train_step", note))
        if code:
            raise RuntimeError(self.log.read_text()[-3000:])
        return time.time() - float(begun.read_text())

    def case(self, name, kills, more=(), after=None):
        """Start a run once per kill in `kills`, then let it finish; print how it differs from the uninterrupted one.

        Returns:
            int, the number of kills.
        """
        folder, codes = self.folder / "cut", []
        shutil.rmtree(folder, ignore_errors=True)
        for kill in kills:
            codes.append(run(words_of(folder, self.data), self.log, kill))
            if codes[-1] == 0:
                break
        codes.append(run(words_of(folder, self.data, *more), self.log, after))
        if codes[-1] != 0:
            tell(case=name, codes=codes, different=["exit code"], log=self.log.read_text()[-2000:])
        else:
            different, largest = compare(self.whole, {**left_by(folder), **weights_of(folder)})
            tell(case=name, codes=codes, different=different, largest=largest, best=self.whole["best"]["step"])
        return codes.count(-signal.SIGKILL)

    def disk(self, kind, last):
        """Run with failing writes; if the run fails, run again on a working disk."""
        folder = str(self.folder / "disk")
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=True)
        try:
            run_folder = os.path.join(folder, "run")
            self.log.write_text("")  # the file-size limit applies to the log too
            words = words_of(run_folder, self.data)
            codes = [run(words, self.log, refuse_writing(kind, folder, last))]
            said = self.log.read_text()
            steps = sorted(path.name for path in pathlib.Path(run_folder, "checkpoints").glob("step_*"))
            if codes[0]:
                if kind == "read-only":
                    subprocess.run(["umount", "-l", folder], check=True)
                pathlib.Path(folder, "filler").unlink(missing_ok=True)
                codes.append(run(words, self.log))
            different, largest = compare(self.whole, {**left_by(run_folder), **weights_of(run_folder)})
            lines = [line for line in said.splitlines() if "could not be saved" in line or "finetune:" in line]
            tell(case=f"{kind} {'for a while' if last < STEPS else 'to the end'}", codes=codes, different=different,
                 steps=steps, lines=lines, traceback="Traceback" in said)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)

    def run_random(self, count):
        """Kill at `count` random moments, up to CHAIN per run: a quarter timed from its start, others from step 1."""
        while count > 0:
            moments = [(round(self.random.uniform(0, self.seconds), 3), self.random.random() > 0.25)
                       for _ in range(min(count, CHAIN))]
            count -= self.case(f"random {moments}", [die_after(*moment) for moment in moments])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task", choices=("classification", "contrastive"), default="classification")
    for name in ("named", "controls", "devices", "disks"):
        parser.add_argument(f"--{name}", action="store_true")
    arguments = parser.parse_args()
    app.import_tensorflow()
    import tfzoo.training.run  # noqa: F401  import once, before forking
    wrap("tfzoo.data.batches", "Derived.batch", poison)
    kills = Kills(arguments.folder, arguments.seed, arguments.task)
    kills.case("whole again", [])
    kills.run_random(arguments.random)
    if arguments.named:
        for point in POINTS:
            kills.case(point, [die_at(point)])
    if arguments.controls:
        for item, point in CONTROLS.items():
            kills.case(f"loses {item}", [die_at(point)], after=lose(item))
    if arguments.devices:
        kills.case("goes on with 2 devices", [die_at("before old checkpoints go")],
                   ["--strategy=mirrored", "--virtual_devices=2"])
    for kind in ("full", "read-only", "too large") if arguments.disks else ():
        kills.disk(kind, 45)
        kills.disk(kind, STEPS + 1)


if __name__ == "__main__":
    main()
