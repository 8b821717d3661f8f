"""Checkpoints of a run: they are written atomically and verified before use; the last good one is never deleted.

A checkpoint is a folder `step_00001200/` with one safetensors file per group of arrays, `state.json` (the trainer's
counters) and `manifest.json` (the size and SHA-256 of every other file, and its own SHA-256). It is written under a
temporary name and renamed once it is completely on disk. Unlike `tf.train.CheckpointManager`, `latest` falls back to
an earlier checkpoint if the newest is damaged.
"""
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import re
import shutil

import ml_dtypes
import numpy as np
import safetensors.numpy
from absl import logging

from tfzoo import files, folders
from tfzoo.errors import ConfigError, DataError

FORMAT_VERSION = 1
_STEP_FOLDER = re.compile(r"step_(\d{8,})")
_SAFETENSORS_NAMES = {np.dtype(kind): name for kind, name in (
    ("float64", "F64"), ("float32", "F32"), ("float16", "F16"), (ml_dtypes.bfloat16, "BF16"), ("bool", "BOOL"),
    ("int64", "I64"), ("int32", "I32"), ("int16", "I16"), ("int8", "I8"),
    ("uint64", "U64"), ("uint32", "U32"), ("uint16", "U16"), ("uint8", "U8"))}


class Checkpoints:
    """Manage the checkpoints of one run: the newest ones and the best.

    Only one process at a time may use a folder (the lock of the run folder ensures this): opening it removes
    unfinished checkpoints of killed processes.

    Args:
        folder: str or path; `RUN/checkpoints`, created by the first save.
        keep: int >= 1; how many of the newest intact checkpoints to keep, in addition to the best one.
        warn: callable that takes a one-line str; called for damage that can be worked around.
        writes: bool; False for workers that only read: `save` and `mark_best` do nothing.

    Raises:
        ConfigError: if `keep` is less than 1.

    Example:
        >>> import tempfile
        >>> checkpoints = Checkpoints(tempfile.mkdtemp())
        >>> checkpoints.save(20, {"model": {"norm/scale": np.ones(4, "float32")}}, {"examples": 640})
        >>> checkpoints.latest()
        20
        >>> arrays, state = checkpoints.load(20)
        >>> state
        {'examples': 640}
    """

    def __init__(self, folder, keep=2, warn=logging.warning, writes=True):
        if keep < 1:
            raise ConfigError(f"--keep must be at least 1, got {keep}: give the number of newest checkpoints to keep")
        self.folder = files.local_path(folder, "the checkpoint folder")
        self.keep, self.writes = keep, writes
        self._warn = warn
        self._good = set()  # steps that this process wrote or verified
        self._spared = set()  # steps kept because their folders contain files not written by tfzoo
        if writes and self.folder.is_dir():
            folders.remove_unfinished(self.folder)

    def save(self, step, arrays, state):
        """Write the checkpoint of a step, then delete checkpoints that are no longer needed.

        An intact checkpoint of the same step is left unchanged, since its content would be the same.

        Args:
            step: int >= 0; number of updates so far.
            arrays: dict of group ("model", "optimizer") to dict of name to np.ndarray of floats (including bfloat16),
                integers or booleans.
            state: dict of plain JSON values; the trainer's counters.

        Raises:
            ValueError: if a group name, a dtype or the state cannot be written.
            OSError: if writing fails; no partial checkpoint is left under the step's name, and earlier checkpoints
                are unchanged.
        """
        final = self.path(step)
        if not self.writes or final.is_dir() and self._is_good(step):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = files.temporary_path(final)
        try:
            _write_checkpoint(temporary, step, arrays=arrays, state=state)
            if os.path.lexists(final):
                self._delete(final)
            os.rename(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        files.sync_folder(self.folder)
        self._good.add(step)
        self._prune(step)

    def latest(self, must=False):
        """Find the newest intact checkpoint by verifying sizes and SHA-256 digests.

        Args:
            must: bool; if the newest is damaged or missing, raise an error instead of falling back to an earlier one.

        Returns:
            int, its step; None if there are no checkpoints.

        Raises:
            DataError: if the newest is damaged and `must` is set, or all are damaged.
            FileNotFoundError: if there is none and `must` is set.
        """
        steps = self.steps()
        for step in reversed(steps):
            problem = self._problem(step)
            if problem is None:
                return step
            if must:
                raise DataError(f"checkpoint {self.path(step)} is damaged ({problem}): restore it, or use "
                                "--resume=auto to resume from an earlier one")
            self._warn(f"checkpoint {self.path(step)} is damaged ({problem}): looking for an earlier one")
        if steps:
            raise DataError(f"every checkpoint in {self.folder} is damaged: restore one, or start over in an empty "
                            "--output_dir")
        if must:
            raise FileNotFoundError(f"no checkpoint in {self.folder}: --resume=must requires one; use --resume=auto to "
                                    "start from the beginning")
        return None

    def load(self, step):
        """Verify a checkpoint and read it.

        Args:
            step: int; from `latest()` or `best()["step"]`.

        Returns:
            (arrays, state), as passed to `save`.

        Raises:
            FileNotFoundError: if the checkpoint does not exist.
            DataError: if it is damaged.
        """
        folder = self.path(step)
        if not folder.is_dir():
            raise FileNotFoundError(f"checkpoint {folder} does not exist: the saved steps are {self.steps()}")
        problem = self._problem(step)
        if problem is not None:
            raise DataError(f"checkpoint {folder} is damaged ({problem}): restore it, or use another one")
        arrays = {name.removesuffix(".safetensors"): safetensors.numpy.load_file(folder / name)
                  for name in _read_manifest(folder)["files"] if name.endswith(".safetensors")}
        return arrays, json.loads((folder / "state.json").read_text())

    def mark_best(self, step, metric, value):
        """Mark a checkpoint as the best; it is kept until another one is marked.

        Args:
            step: int; a saved step.
            metric: str; the metric that was compared, for example "accuracy".
            value: float; finite.

        Raises:
            FileNotFoundError: if the step was not saved.
            ValueError: if the value is not finite.
            OSError: if `best.json` cannot be written; the old file is unchanged.
        """
        if not self.writes:
            return
        if not self.path(step).is_dir():
            raise FileNotFoundError(f"no checkpoint {self.path(step)}: save the step before marking it as the best")
        if not math.isfinite(value):
            raise ValueError(f"{metric} is {value} at step {step}: the best value must be finite")
        best = {"format_version": FORMAT_VERSION, "step": int(step), "metric": metric, "value": float(value)}
        files.write_atomic(self.folder / "best.json", json.dumps(best, sort_keys=True) + "\n")

    def best(self):
        """Return the checkpoint last passed to `mark_best`.

        Returns:
            dict with `step`, `metric` and `value`; None if no checkpoint was marked, or, with a warning, if `best.json`
            is damaged, or the checkpoint is damaged or missing.
        """
        try:
            best = self._read_best()
        except DataError as error:
            self._warn(f"{error}: continuing without a best checkpoint")
            return None
        if best is None or self._is_good(best["step"]):
            return best
        step = best["step"]
        self._warn(f"the best checkpoint {self.path(step)} is damaged ({self._problem(step)}): continuing without it")
        return None

    def steps(self):
        """Return the steps of all checkpoint folders, intact or not, in increasing order: list of int."""
        if not self.folder.is_dir():
            return []
        matches = (_STEP_FOLDER.fullmatch(name) for name in os.listdir(self.folder))
        return sorted(int(match[1]) for match in matches if match)

    def path(self, step):
        """Return the folder of a step, which need not exist: pathlib.Path."""
        return self.folder / f"step_{step:08d}"

    def _problem(self, step):
        # Why the checkpoint of a step cannot be used, or None.
        folder = self.path(step)
        self._good.discard(step)
        try:
            manifest = _read_manifest(folder)
            if manifest["step"] != step:
                return f"its manifest is for step {manifest['step']}"
            for name, expected in manifest["files"].items():
                _verify_file(folder / name, expected)
        except DataError as error:
            return str(error)
        except OSError as error:
            return f"{pathlib.Path(error.filename or folder).name}: {error.strerror}"
        self._good.add(step)
        return None

    def _is_good(self, step):
        # Hashing takes seconds, so a checkpoint that this process wrote or verified is not read again.
        return (step in self._good and self.path(step).is_dir()) or self._problem(step) is None

    def _read_best(self):
        path = self.folder / "best.json"
        try:
            best = json.loads(path.read_text())
            return {"step": int(best["step"]), "metric": str(best["metric"]), "value": float(best["value"])}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: expected JSON with step, metric and value") from error

    def _prune(self, newest):
        try:
            best = self._read_best()
        except DataError:
            return  # the best is unknown, so delete nothing
        kept = {newest} if best is None else {newest, best["step"]}
        good = 0
        for step in reversed(self.steps()):
            if good < self.keep and self._is_good(step):
                good += 1
            elif step < newest and step not in kept and not self._is_spared(step):
                self._delete(self.path(step))
                self._good.discard(step)

    def _is_spared(self, step):
        path = self.path(step)
        others = [name for name in (os.listdir(path) if path.is_dir() else ())
                  if name not in ("manifest.json", "state.json") and not name.endswith(".safetensors")]
        if others and step not in self._spared:
            self._spared.add(step)
            self._warn(f"{path} is kept: it contains {min(others)}, which tfzoo did not write")
        return bool(others)

    def _delete(self, path):
        # Rename first, so that a process killed midway leaves no partial checkpoint under the original name.
        doomed = path.with_name(f"{files.TEMPORARY}deleted-{path.name}-{os.getpid()}")
        try:
            os.rename(path, doomed)
        except OSError as error:
            self._warn(f"cannot delete {path} ({error.strerror})")
        shutil.rmtree(doomed, ignore_errors=True)


def _write_checkpoint(folder, step, arrays, state):
    for group in arrays:
        if not group.isidentifier():
            raise ValueError(f"group {group!r} must be an identifier, such as 'model' or 'optimizer'")
    state_text = json.dumps(state, indent=2, sort_keys=True) + "\n"
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    written = {"state.json": files.write_chunks(folder / "state.json", [state_text.encode()])}
    for group, named in arrays.items():
        name = f"{group}.safetensors"
        written[name] = files.write_chunks(folder / name, _safetensors_chunks(named))
    manifest = {"format_version": FORMAT_VERSION, "tfzoo_version": _tfzoo_version(), "step": step,
                "files": {name: {"bytes": size, "sha256": digest} for name, (size, digest) in sorted(written.items())}}
    manifest["sha256"] = _manifest_digest(manifest)
    files.write_chunks(folder / "manifest.json", [json.dumps(manifest, indent=2, sort_keys=True).encode() + b"\n"])
    files.sync_folder(folder)


def _safetensors_chunks(named):
    # The safetensors library is not used, since it either makes a second copy or hides the OS error number.
    header, offset = {}, 0
    order = sorted(named, key=lambda name: (-named[name].dtype.itemsize, name))  # widest first, to keep all aligned
    for name in order:
        array = named[name]
        if array.dtype not in _SAFETENSORS_NAMES or name == "__metadata__":
            raise ValueError(f"array {name!r} of {array.dtype} cannot be saved: arrays must be floats, integers or "
                             "booleans in this machine's byte order, and must not be named __metadata__")
        header[name] = {"dtype": _SAFETENSORS_NAMES[array.dtype], "shape": list(array.shape),
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        yield memoryview(np.ascontiguousarray(named[name]).reshape(-1).view(np.uint8))


def _tfzoo_version():
    try:
        return importlib.metadata.version("tfzoo")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # run from a clone


def _manifest_digest(manifest):
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_manifest(folder):
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
    except ValueError as error:
        raise DataError("manifest.json is not JSON") from error
    if not isinstance(manifest, dict) or manifest.get("sha256") != _manifest_digest(manifest):
        raise DataError("manifest.json was modified: its SHA-256 differs")
    if manifest["format_version"] != FORMAT_VERSION:
        raise DataError(f"its format version is {manifest['format_version']}, but this tfzoo reads {FORMAT_VERSION}")
    return manifest


def _verify_file(path, expected):
    size = os.stat(path).st_size
    if size != expected["bytes"]:
        raise DataError(f"{path.name} has {size} bytes instead of {expected['bytes']}")
    if files.hash_file(path)[1] != expected["sha256"]:
        raise DataError(f"{path.name}: its SHA-256 differs")
