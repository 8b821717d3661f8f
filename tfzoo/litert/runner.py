"""Run the signatures of an exported `model.tflite` with ai-edge-litert."""
import hashlib
import json
import os
import pathlib

import numpy as np

from tfzoo.errors import ConfigError, DataError

FILE, FORMAT_VERSION = "model.tflite", 1
KEYS = ("model", "task", "settings", "labels", "max_length", "format_version", "embedding", "litert", "files")
NUMBERS = ("lengths", "batches")


def signature_name(kind, batch, length=None):
    """Return the name of a signature, such as "encode_64", "encode_64_batch_32" or "decode": str."""
    return kind + (f"_{length}" if length else "") + (f"_batch_{batch}" if batch > 1 else "")


def read_config(folder):
    """Return the checked content of config.json: dict.

    Raises:
        FileNotFoundError: if the folder has no config.json or model.tflite.
        DataError: if config.json is damaged or from a later release.
    """
    folder = pathlib.Path(folder)
    for name in ("config.json", FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: expected a folder written by experiments.export "
                                    "--format=litert")
    path, damaged = folder / "config.json", "export the model again"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{path} is damaged (no JSON): {damaged}") from None
    missing = [key for key in KEYS if key not in config] if isinstance(config, dict) else KEYS
    if missing:
        raise DataError(f"{path} is damaged (no {', '.join(missing)}): {damaged}")
    if config["format_version"] != FORMAT_VERSION:
        raise DataError(f"{path} has format version {config['format_version']}, but this release reads "
                        f"{FORMAT_VERSION}: {damaged}")
    described = config["litert"]
    if not isinstance(described, dict) or not all(
            isinstance(described.get(name), list) and described[name] and
            all(type(value) is int and value > 0 for value in described[name]) for name in NUMBERS):
        raise DataError(f"{path} is damaged (litert): {damaged}")
    return config


class Runner:
    """Run an exported file.

    Args:
        folder: str or path, a folder written by `tfzoo.export.litert.export_litert`.
        threads: int, the number of threads; None for the number of CPUs that this process may use.

    Attributes:
        config: dict, the content of config.json.

    Raises:
        ConfigError: if ai-edge-litert is not installed.
        FileNotFoundError, DataError: if the folder is incomplete or damaged.
    """

    def __init__(self, folder, threads=None):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise ConfigError("running a LiteRT file requires pip install \"tfzoo[litert]\"") from None
        folder = pathlib.Path(folder)
        self.config = read_config(folder)
        content = (folder / FILE).read_bytes()
        # The interpreter does not check offsets: a damaged file could crash the process.
        if hashlib.sha256(content).hexdigest() != self.config["litert"].get("sha256"):
            raise DataError(f"{folder / FILE} is damaged or was replaced: export the model again")
        threads = threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count()))
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        self._signatures = self._interpreter.get_signature_list()
        self._runners, described = {}, self.config["litert"]
        self.lengths, self.batches = (sorted(described[name]) for name in NUMBERS)
        self.inputs, self.output = described["inputs"], described["output"]
        self.vocab_size, self.output_shape = described["body"]["vocab_size"], described["output_shape"]

    def run(self, name, inputs):
        """Return the outputs of a signature: dict of arrays, valid until the next call.

        Args:
            name: str, see `signature_name`.
            inputs: dict of arrays of the signature's shapes.
        """
        if name not in self._runners:
            if name not in self._signatures:
                raise ConfigError(f"{FILE} has no signature {name}; it has {', '.join(sorted(self._signatures))}")
            self._runners[name] = self._interpreter.get_signature_runner(name)
        return self._runners[name](**inputs)

    def encode(self, inputs):
        """Run rows of any number through the smallest signatures that hold them.

        Args:
            inputs: dict with `token_ids`, int [B, T], and, optionally, `padding_mask` (default: all 1) and
                `segment_ids` (default: 0); T is at most the largest exported length.

        Returns:
            float32 [B, ...], the exported output; of [B, T, C], T is that of the inputs.

        Raises:
            ConfigError: if there are too many columns, or an id is outside the vocabulary.
        """
        ids = np.asarray(inputs["token_ids"], np.int32)
        rows, columns = ids.shape
        length = next((length for length in self.lengths if length >= columns), None)
        if length is None:
            raise ConfigError(f"got {columns} tokens per row, but this file was exported for up to {self.lengths[-1]}: "
                              "truncate the texts, or export with larger --lengths")
        self.check_ids(ids)
        given = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids), **{
            name: np.asarray(inputs[name], np.int32) for name in ("padding_mask", "segment_ids") if name in inputs}}
        found, first = [], 0
        while first < rows or not found:
            left = rows - first
            batch = next((batch for batch in self.batches if batch >= left), self.batches[-1])
            part = {}
            for name in self.inputs:
                part[name] = np.zeros((batch, length), np.int32)
                chosen = given[name][first:first + batch]
                part[name][:len(chosen), :columns] = chosen
            part["padding_mask"][left:, 0] = 1  # rows that fill the batch must be finite
            values = self.run(signature_name("encode", batch, length), part)[self.output][:max(left, 0)]
            found.append(values[:, :columns] if values.ndim == 3 else values)
            first += batch
        return np.concatenate(found)

    def check_ids(self, ids):
        """Raise ConfigError if an id is outside the vocabulary, where the interpreter would stop or return nonsense."""
        if ids.size and (ids.min() < 0 or ids.max() >= self.vocab_size):
            raise ConfigError(f"token ids must be from 0 to {self.vocab_size - 1}, got {ids.min()} to {ids.max()}")
