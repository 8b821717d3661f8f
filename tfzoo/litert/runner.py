"""Run the signatures of an exported `model.tflite` with ai-edge-litert."""
import dataclasses
import hashlib
import json
import os
import pathlib
import threading

import numpy as np

from tfzoo.errors import ConfigError, DataError
from tfzoo.records.options import Options
from tfzoo.records.words import POINTS

FILE, FORMAT_VERSION = "model.tflite", 1
KEYS = ("model", "task", "settings", "labels", "max_length", "format_version", "embedding", "litert", "files")
NUMBERS = ("lengths", "batches")
EMBEDDING = {"prompts": dict, "strip": bool, "lowercase": bool, "pooling": list}
FIELDS = {field.name for field in dataclasses.fields(Options)}


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
    for what, right in _checks(config):
        if not right:
            raise DataError(f"{path} is damaged ({what}): {damaged}")
    return config


def _checks(config):
    # Yield (what is checked, whether it is right), so that later checks may rely on earlier ones.
    described, labels, embedding = config["litert"], config["labels"], config["embedding"]
    yield "settings", isinstance(config["settings"], dict) and isinstance(config["model"], str)
    yield "litert", isinstance(described, dict) and all(
        isinstance(described.get(name), list) and described[name] and
        all(type(value) is int and value > 0 for value in described[name]) for name in NUMBERS)
    body, shape = described.get("body"), described.get("output_shape")
    yield "body", isinstance(body, dict) and type(body.get("vocab_size")) is int and body["vocab_size"] > 0
    yield "inputs", isinstance(described.get("inputs"), list) and len(described["inputs"]) > 1
    yield "output_shape", isinstance(shape, list) and 0 < len(shape) < 4
    yield "sha256", all(isinstance(described.get(name), str) for name in ("sha256", "tokenizer_sha256", "tokenizer"))
    yield "output", described.get("output") == ("logits" if embedding is None else "embedding")
    yield "labels", labels is None or isinstance(labels, list) and all(
        isinstance(label, str) for label in labels) and len(labels) == shape[-1]
    yield "labels", labels is not None or config["task"] not in ("classification", "multi_label", "tagging")
    if config["task"] == "tagging":
        yield "settings", {"predicates", "overlap", "decoding"} <= config["settings"].keys()
        yield "output_shape", len(shape) == 3
        ranges = described.get("word_kinds", [[0, 0]])  # earlier versions did not write it
        yield "word_kinds", isinstance(ranges, list) and all(
            isinstance(each, list) and len(each) == 2 and all(type(value) is int for value in each)
            for each in ranges) and sorted({first for first, _ in ranges}) == [first for first, _ in ranges] and (
                {kind for _, kind in ranges} <= set(range(4))) and ranges[:1] and ranges[0][0] == 0 and (
                    ranges[-1][0] < POINTS)
    yield "embedding", embedding is None or isinstance(embedding, dict) and all(
        isinstance(embedding.get(name), kind) for name, kind in EMBEDDING.items()) and "default_prompt" in embedding
    longest, generates = max(described["lengths"]), "cache_length" in described
    if generates:
        yield "cache_length", type(described["cache_length"]) is int and described["cache_length"] > 1
        yield "options", isinstance(described.get("options"), dict) and described["options"].keys() <= FIELDS
        yield "new_tokens", type(described.get("new_tokens")) is int and described["new_tokens"] > 0
        yield "source", isinstance(described.get("source"), bool) and isinstance(described.get("samples"), bool)
        longest = max(longest, described["cache_length"])
    yield "max_length", type(config["max_length"]) is int and 1 <= config["max_length"] <= longest


class Runner:
    """Run an exported file.

    Args:
        folder: str or path, a folder written by `tfzoo.export.litert.export_litert`.
        threads: int, the number of threads; None for the number of CPUs that this process may use.

    Calls from several threads run one after another.

    Attributes:
        config: dict, the content of config.json.

    Raises:
        ConfigError: if ai-edge-litert is not installed, or `threads` is not a positive integer.
        FileNotFoundError, DataError: if the folder is incomplete or damaged.
    """

    def __init__(self, folder, threads=None):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise ConfigError("running a LiteRT file requires pip install \"tfzoo[litert]\"") from None
        if threads is not None and (type(threads) is not int or threads < 1):
            raise ConfigError(f"threads must be a positive integer, got {threads!r}")
        folder = pathlib.Path(folder)
        self.config = read_config(folder)
        content = (folder / FILE).read_bytes()
        # The interpreter does not check offsets: a damaged file could crash the process.
        if hashlib.sha256(content).hexdigest() != self.config["litert"].get("sha256"):
            raise DataError(f"{folder / FILE} is damaged or was replaced: export the model again")
        threads = threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count()))
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        self._signatures = self._interpreter.get_signature_list()
        self._runners, self._lock, described = {}, threading.Lock(), self.config["litert"]
        self.lengths, self.batches = (sorted(described[name]) for name in NUMBERS)
        self.inputs, self.output = described["inputs"], described["output"]
        self.vocab_size, self.output_shape = described["body"]["vocab_size"], described["output_shape"]

    def run(self, name, inputs):
        """Return the outputs of a signature: dict of arrays.

        Args:
            name: str, see `signature_name`.
            inputs: dict of arrays of the signature's shapes.
        """
        if name not in self._signatures:
            raise ConfigError(f"{FILE} has no signature {name}; it has {', '.join(sorted(self._signatures))}")
        with self._lock:  # setting inputs, running and reading outputs are separate calls
            if name not in self._runners:
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
        sizes = [size for size in self.batches if signature_name("encode", size, length) in self._signatures]
        while first < rows or not found:
            left = rows - first
            batch = next((size for size in sizes if size >= left), sizes[-1])
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
