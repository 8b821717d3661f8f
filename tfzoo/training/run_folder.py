"""The folder of a training run, with its settings, lock, metrics, samples and results.

`metrics.jsonl` and `samples.jsonl` are authoritative; TensorBoard events are written in addition and are rebuilt from
these files on resume, so that no step appears twice. JSON has no NaN or infinity: such a metric is `null` in the files
and absent from TensorBoard.
"""
import json
import math
import os

import numpy as np
from absl import logging

from tfzoo import files, folders
from tfzoo.errors import ConfigError, DataError
from tfzoo.training.differences import differences, in_effect, list_some
from tfzoo.training.events import Events
from tfzoo.training.settings import MAY_CHANGE

FORMAT_VERSION = 1
RESUME = ("auto", "never", "must")


class RunFolder:
    """Manage the folder of one run; as a context manager, release it on exit.

    `records()`, `samples()` and `results()` work without `create`. A new run calls `create`, which returns "fresh", and
    then `log`. A resumed run calls `create`, which returns "resumable", then `truncate` with its checkpoint's step, and
    then `log`.

    Args:
        path: str or path; `--output_dir`.
        writes: bool; False for workers that only read: the methods that write do nothing.
        warn: callable that takes a one-line str; called if a record cannot be written yet.

    Example:
        >>> import tempfile
        >>> with RunFolder(tempfile.mkdtemp()) as run:
        ...     run.create("--steps=10", {"steps": 10, "model": "bert_tiny"}, resume="auto")
        ...     run.log(5, "train", loss=2.5)
        ...     run.records()
        'fresh'
        [{'step': 5, 'split': 'train', 'loss': 2.5}]
    """

    def __init__(self, path, writes=True, warn=logging.warning):
        self.path, self.writes, self._warn = files.local_path(path, "--output_dir"), writes, warn
        self._unwritten = []  # (file, line) pairs that are not on the disk yet
        self._lock = None
        self._events = None
        self._last = {}  # split or tag -> the last step written

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def create(self, flags_text, config, resume="auto", may_change=MAY_CHANGE, defaults=None):
        """Lock the folder for this run, and write `flags.txt` and `config.json` into it.

        Args:
            flags_text: str; the run's flags, one per line, in the format of --flagfile.
            config: dict of JSON values, possibly nested; everything that determines the run's outcome.
            resume: "auto" (start a run, or resume one with the same configuration), "never" (only start a run) or
                "must" (only resume one).
            may_change: set of str; config fields that may differ in a resumed run; nested names are dotted.
            defaults: dict, values for fields that older releases did not record (see also `differences.in_effect`).

        Returns:
            "fresh" or "resumable".

        Raises:
            ConfigError: if `resume` is unknown, the folder is in use, or it contains a run with a different
                configuration or, if `resume` is "never", any run.
            DataError: if the folder's `config.json` is damaged.
            FileNotFoundError: if `resume` is "must" and the folder contains no run.
            OSError: if the folder is a file, or cannot be written.
        """
        if resume not in RESUME:
            raise ConfigError(f"--resume must be one of {', '.join(RESUME)}, got {resume}")
        if not self.writes:
            return "fresh"
        self._open_folder()
        try:
            state = self._decide(config, resume, may_change=may_change, defaults=defaults or {})
            self.update(config)
            files.write_atomic(self.path / "flags.txt", flags_text.rstrip("\n") + "\n")
            if state == "fresh":
                self._restart(records=[], samples=[])
        except BaseException:
            self.close()
            raise
        return state

    def recorded(self):
        """Return the `config.json` of the run in the folder: dict, or None if there is no run to resume.

        Raises:
            DataError: if `config.json` is damaged.
        """
        there = _read_object(self.path / "config.json") if self._made() else None
        return there if there is not None and there.get("format_version") == FORMAT_VERSION else None

    def update(self, config):
        """Rewrite `config.json` with values decided after `create`; raise OSError if it cannot be written."""
        if self._may_write():
            files.write_atomic(self.path / "config.json", _dump(_versioned(config)))

    def log(self, step, split, **values):
        """Append a record to `metrics.jsonl`, and write its finite numbers to TensorBoard as `split/name`.

        A record that cannot be written is kept in memory and written by the next `log` or `flush`.

        Args:
            step: int; greater than the last step of the split.
            split: "train" or "eval".
            **values: metrics by name: numbers, strings, or dicts and lists of them; TensorBoard gets only the numbers.

        Raises:
            ValueError: if the split already has this step or a later one.
        """
        record = {"step": int(step), "split": split, **{name: _plain(value) for name, value in values.items()}}
        self._append("metrics.jsonl", split, record=record, write_events=Events.metrics)

    def text(self, step, tag, text):
        """Append a text, such as a generated sample, to `samples.jsonl`, and write it to TensorBoard.

        A text that cannot be written is kept in memory, as described for `log`.

        Args:
            step: int; greater than the last step of the tag.
            tag: str; its name in TensorBoard, for example "samples/0".
            text: str.

        Raises:
            ValueError: if the tag already has this step or a later one.
        """
        record = {"step": int(step), "tag": tag, "text": text.encode("utf-8", "replace").decode()}
        self._append("samples.jsonl", tag, record=record, write_events=Events.texts)

    def flush(self):
        """Write records that could not be written before; raise OSError if this fails again."""
        while self._unwritten:
            name, line = self._unwritten[0]
            files.append_line(self.path / name, line)
            self._unwritten.pop(0)

    def sync(self):
        """Force the records to disk before a checkpoint that relies on them; raise OSError if this fails."""
        self.flush()
        for name in ("metrics.jsonl", "samples.jsonl"):
            if (self.path / name).exists():
                files.sync_file(self.path / name)

    def last_step(self, series):
        """Return the last step logged for a split or a text tag: int, or None."""
        return self._last.get(series)

    def truncate(self, step):
        """Discard everything logged after a step, and the results, before the run resumes from that step.

        Args:
            step: int, the step of the checkpoint to resume from; None to start over.

        Raises:
            DataError: if a line of `metrics.jsonl` or `samples.jsonl`, other than an incomplete last one, cannot be
                read.
            OSError: if a file cannot be rewritten.
        """
        if not self._may_write():
            return
        kept = [[record for record in records if step is not None and record["step"] <= step]
                for records in (self.records(), self.samples())]
        (self.path / "results.json").unlink(missing_ok=True)
        self._restart(*kept)

    def records(self):
        """Return the records of `metrics.jsonl`, without an incomplete last line: list of dict."""
        return _read_lines(self.path / "metrics.jsonl", {"step": int, "split": str})

    def samples(self):
        """Return the records of `samples.jsonl` (step, tag, text), without an incomplete last line: list of dict."""
        return _read_lines(self.path / "samples.jsonl", {"step": int, "tag": str, "text": str})

    def finish(self, results):
        """Write `results.json`.

        Args:
            results: dict of JSON values and NumPy scalars; non-finite numbers become null.

        Raises:
            OSError: if it cannot be written.
        """
        if self._may_write():
            files.write_atomic(self.path / "results.json", _dump(_plain(results)))

    def results(self):
        """Return the results written by `finish`: dict, or None if the run is not finished.

        Raises:
            DataError: if `results.json` is damaged.
        """
        return _read_object(self.path / "results.json")

    def close(self):
        """Release the lock and close the TensorBoard file; this also happens when the process exits."""
        try:
            if self._events is not None:
                self._events.close()
        finally:
            self._events = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _open_folder(self):
        others = [name for name in ("config.json", "flags.txt", "tensorboard") if os.path.lexists(self.path / name)]
        if others and not os.path.lexists(self.path / "lock") and not self._made():  # a run creates its lock first
            raise ConfigError(f"--output_dir={self.path} contains {others[0]} but no run: choose an empty folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            folders.remove_unfinished(self.path)
        except (FileExistsError, NotADirectoryError) as error:
            raise NotADirectoryError(f"--output_dir={self.path} is a file or is under one: choose a folder") from error
        except OSError as error:
            self.close()
            raise OSError(f"cannot write to --output_dir={self.path} ({error.strerror}): choose a writable folder "
                          "on a disk with free space") from error

    def _take_lock(self):
        self.close()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            held = files.try_lock(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        if held is None:
            os.close(descriptor)
            raise ConfigError(f"--output_dir={self.path} is in use by another run: wait for it, or choose another")
        if held is False:
            logging.warning("this file system does not support locks: make sure that no other run uses %s", self.path)
        self._lock = descriptor

    def _decide(self, config, resume, may_change, defaults):
        made = self._made()
        if resume == "never" and made:
            raise ConfigError(f"--resume=never, but --output_dir={self.path} already contains a run ({made}): choose "
                              "an empty folder")
        if not made:
            if resume == "must":
                raise FileNotFoundError(f"--resume=must, but --output_dir={self.path} contains no run: use "
                                        "--resume=auto to start one")
            return "fresh"
        there = _read_object(self.path / "config.json")
        if there is None:
            raise ConfigError(f"--output_dir={self.path} contains {made} but no config.json: choose an empty folder")
        version = there.get("format_version")
        if version != FORMAT_VERSION:
            raise ConfigError(f"--output_dir={self.path} has format version {version}, but this tfzoo reads "
                              f"{FORMAT_VERSION}: choose an empty folder, or use the tfzoo release that created it")
        different = differences(json.loads(_dump(_versioned(config))),
                                in_effect({**json.loads(_dump(defaults)), **there}), may_change)
        if different:
            raise ConfigError(f"--output_dir={self.path} contains a run with a different configuration: "
                              f"{list_some(different)}; choose another --output_dir, or use the settings "
                              "of that run")
        return "resumable"

    def _made(self):
        # The name of something worth keeping that a run left here, or None; settings alone are not worth keeping.
        for name in ("metrics.jsonl", "samples.jsonl", "results.json"):
            path = self.path / name
            if path.is_file() and path.stat().st_size:
                return name
        for name in ("checkpoints", "model", "adapter"):
            path = self.path / name
            if path.is_dir() and any(not child.startswith(files.TEMPORARY) for child in os.listdir(path)):
                return name
        return None

    def _restart(self, records, samples):
        # Rewrites both files, and the TensorBoard events to match.
        self._last = {}
        for name, key, kept in (("metrics.jsonl", "split", records), ("samples.jsonl", "tag", samples)):
            if kept or (self.path / name).exists():
                files.write_atomic(self.path / name, "".join(json.dumps(record) + "\n" for record in kept))
            for record in kept:
                self._last[record[key]] = max(record["step"], self._last.get(record[key], record["step"]))
        if self._events is not None:
            self._events.close()
        self._events = Events(self.path / "tensorboard")
        self._events.metrics(records)
        self._events.texts(samples)

    def _append(self, name, series, record, write_events):
        if not self._may_write():
            return
        if self._events is None:
            raise RuntimeError("this run is resumed: call truncate with the checkpoint's step before logging")
        step, last = record["step"], self._last.get(series)
        if last is not None and step <= last:
            raise ValueError(f"{name}: step {step} of {series} was logged after step {last}: log each step once, in "
                             "increasing order")
        self._unwritten.append((name, json.dumps(record, allow_nan=False)))
        self._last[series] = step
        try:
            self.flush()
            write_events(self._events, [record])
        except OSError as error:
            self._warn(f"the record of step {step} is not on disk yet ({error.strerror or error}): the run continues")

    def _may_write(self):
        if self.writes and self._lock is None:
            raise RuntimeError(f"{self.path} is not locked: call create before writing to it")
        return self.writes


def _plain(value):
    # A JSON value: NumPy and TensorFlow scalars as numbers, non-finite ones as None.
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "numpy"):
        value = value.numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _dump(value):
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _versioned(config):
    return {"format_version": FORMAT_VERSION, **config}


def _read_object(path):
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): restore it, or choose another --output_dir") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is damaged (not a JSON object): restore it, or choose another --output_dir")
    return value


def _read_lines(path, needed):
    # Drops an incomplete last line, which a killed run may leave.
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    while lines and not lines[-1].strip():
        lines.pop()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not all(isinstance(record[name], kind) for name, kind in needed.items()):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise DataError(f"{path}, line {number}: expected a JSON object with {', '.join(needed)}; fix or delete "
                            "the line") from error
        records.append(record)
    return records
