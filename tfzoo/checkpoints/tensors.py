"""Read and write a folder's tensors, stored in one file or in shards.

All tensors are checked first, then read one at a time. Pickles (`pytorch_model.bin`) are refused, since unpickling can
run arbitrary code from the file.
"""
import json
import pathlib
import struct

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tfzoo.checkpoints.tensorflow_file import H5, H5File, as_torch, torch_name, torch_names, torch_shape
from tfzoo.errors import DataError, reason_of, shown
from tfzoo.files import once
from tfzoo.folders import names_in

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
JSON_BYTES, DEEPEST = 3_000_000, 20  # limits for JSON files and headers, which take 50 times as much memory once parsed
SHARD_BYTES = 5 * 10 ** 9
WRITER = "tfzoo"  # stored in each file's metadata, together with the names of all files in the folder
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
CONVERT = ("if you trust it, convert it with transformers: AutoModel.from_pretrained(FOLDER)"
           ".save_pretrained(NEW, safe_serialization=True)")


def read_json(path, kind=dict):
    """Return the content of a JSON file.

    Args:
        path: str or path.
        kind: type, the expected type of the content: dict or list.

    Raises:
        DataError: if the file is too large, damaged, nested too deeply, or not of the expected type.
    """
    path = pathlib.Path(path)
    if path.stat().st_size > JSON_BYTES:
        raise DataError(f"{path} has {path.stat().st_size:,} bytes, but may have at most {JSON_BYTES:,}: download or "
                        "copy it again")
    return parse_json(path.read_bytes(), path, kind)


def write_json(path, content):
    """Write a JSON file.

    Args:
        path: path.
        content: dict or list.
    """
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_keys(config, path, version, keys):
    """Raise DataError unless a config read from a file (path) has this format version and these keys."""
    if config.get("format_version") != version:
        raise DataError(f"{path.parent} has format version {shown(config.get('format_version'))}, but this version of "
                        f"tfzoo reads {version}")
    missing = [key for key in keys if key not in config]
    if missing:
        raise DataError(f"{path} is damaged (no {missing[0]}): download or copy the folder again")


def parse_json(content, path, kind=dict):
    """Parse the content of a JSON file.

    Args:
        content: bytes.
        path: str or path of the file, for error messages.
        kind: type, the expected type of the content: dict or list.

    Raises:
        DataError: if the content is damaged, nested too deeply, or not of the expected type.
    """
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=once)
        if not isinstance(found, kind):
            raise ValueError("not an object" if kind is dict else "not a list")
        level = [found]
        for _ in range(DEEPEST):
            level = [one for outer in level for one in (outer.values() if isinstance(outer, dict) else outer)
                     if isinstance(one, (dict, list))]
        if level:
            raise ValueError("nested too deeply")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({reason_of(error, 100)}): download or copy it again") from None
    return found


class TensorFile:
    """Read one safetensors file.

    Names and shapes follow torch's conventions, even if TensorFlow wrote the file (format "tf").

    Args:
        path: str or path.

    Attributes:
        path: pathlib.Path.
        shapes: dict of name -> tuple of int.
        dtypes: dict of name -> str, such as "F32".
        metadata: dict, the metadata stored in the file.
        of_tensorflow: bool, whether TensorFlow wrote the file.

    Raises:
        DataError: if the header is damaged, or tensors overlap, leave gaps or extend beyond the end of the file.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        size = self.path.stat().st_size
        with open(self.path, "rb") as file:
            first = file.read(8)
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else size
            if length > min(JSON_BYTES, size - 8):
                raise self._damaged(f"a header of {length:,} bytes in a file of {size:,} bytes, but at most "
                                    f"{JSON_BYTES:,} are allowed")
            header = parse_json(file.read(length), self.path)
        about = header.pop("__metadata__", None)
        self.metadata = about if isinstance(about, dict) else {}
        self.of_tensorflow = self.metadata.get("format") == "tf"
        self._names = torch_names(header, self.path) if self.of_tensorflow else {name: name for name in header}
        header = {name: header[stored] for name, stored in self._names.items()}
        try:
            self._stored = {name: tuple(entry["shape"]) for name, entry in header.items()}
            self.shapes = {name: torch_shape(self._names[name], shape) for name, shape in self._stored.items()} \
                if self.of_tensorflow else self._stored
            self.dtypes = {name: entry["dtype"] for name, entry in header.items()}
            with safe_open(self.path, framework="np"):  # checks offsets, shapes and sizes
                self._places = {name: [8 + length + place for place in entry["data_offsets"]]
                                for name, entry in header.items()}
        except (SafetensorError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
            raise self._damaged(error) from None

    def _damaged(self, reason):
        return DataError(f"{self.path} is damaged ({reason_of(reason)}): download or copy it again")

    def check(self, name):
        """Raise DataError if the dtype of the tensor `name` is not supported."""
        if self.dtypes[name] not in DTYPES:
            raise DataError(f"{self.path}: {shown(name)} has dtype {shown(self.dtypes[name])}, expected one of "
                            f"{', '.join(DTYPES)}")

    def get(self, name):
        """Return a memory-mapped tensor in its stored dtype; raise DataError if that dtype is not supported."""
        self.check(name)
        begin, end = self._places[name]
        # Map the file directly, since safetensors would return a copy, which needs as much memory as the tensor.
        view = np.memmap(self.path, np.uint8, "r")[begin:end].view(DTYPES[self.dtypes[name]])
        value = view.reshape(self._stored[name])
        return as_torch(self._names[name], value) if self.of_tensorflow else value


class Tensors:
    """Read the tensors in a folder, stored in one file or in shards.

    Args:
        folder: path of a folder that contains model.safetensors, shards and their index, or TensorFlow's tf_model.h5.

    Attributes:
        shapes: dict of name -> tuple of int.

    Raises:
        FileNotFoundError: if there are no weights, or a shard is missing.
        DataError: if the weights are damaged or pickled, a shard is outside the folder, or a tensor is in two shards or
            is not in the shard to which the index maps it.
    """

    def __init__(self, folder):
        folder, where = pathlib.Path(folder), {}
        if (folder / ONE).is_file():
            names = [ONE]
        elif (folder / INDEX).is_file():
            names, where = _shards(folder / INDEX)
        elif (folder / H5).is_file():
            names = [H5]
        else:
            if next(folder.glob("*.bin"), None):
                raise DataError(f"{folder} has pickled weights (.bin), which can run arbitrary code: {CONVERT}")
            raise FileNotFoundError(f"{folder} has no weights: expected {ONE}, {INDEX} with its shards, or {H5}; "
                                    "a model published only as pickles (.bin) must be converted first")
        self._file = {}
        files = [H5File(folder / name) if name == H5 else TensorFile(folder / name) for name in names]
        for file in files:
            for name in file.shapes:
                if name in self._file:
                    raise DataError(f"{shown(name)} is in two shards of {folder}: download or copy the folder again")
                self._file[name] = file
        if where:
            if files[0].of_tensorflow:
                where = {torch_name(name)[0]: shard for name, shard in where.items()}
            wrong = [name for name, shard in where.items()
                     if name not in self._file or self._file[name].path.name != shard]
            if wrong:
                raise DataError(f"{folder / INDEX} maps {shown(wrong[0])} to {shown(where[wrong[0]])}, but it is not "
                                "in that file: download or copy the folder again")
        self.shapes = {name: file.shapes[name] for name, file in self._file.items()}

    def check(self, name):
        """Raise DataError if the dtype of the tensor `name` is not supported."""
        self._file[name].check(name)

    def get(self, name):
        """Return a tensor in its stored dtype; raise DataError if that dtype is not supported."""
        return self._file[name].get(name)


def _shards(path):
    # Returns (names of the shards, dict of tensor -> shard). Shards must be in the same folder as the index.
    where = read_json(path).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()) or not where:
        raise DataError(f"{path} is damaged (no weight_map): download or copy it again")
    names = sorted(set(where.values()))
    for name in names:
        if name != pathlib.PurePosixPath(name).name or "\\" in name or not name.endswith(".safetensors") \
                or len(name) > 200 or not name.isprintable():
            raise DataError(f"{path} lists the shard {shown(name)}, but shards must be .safetensors files next to it")
        if not (path.parent / name).is_file():
            raise FileNotFoundError(f"{path.parent / name} is missing, but is listed in {path.name}: download it too")
    return names, where


def write_tensors(folder, tensors):
    """Write tensors into a folder, as one file of at most 5 GB or as several such shards.

    A tensor larger than 5 GB gets a shard of its own. Call this after all other files have been written, since the
    metadata lists all files in the folder.

    Args:
        folder: path of an existing folder.
        tensors: list of (name, size in bytes, callable that returns the float32 array). Each callable is called once,
            in order.
    """
    shards = [[]]
    for name, size, get in tensors:
        if shards[-1] and sum(entry[1] for entry in shards[-1]) + size > SHARD_BYTES:
            shards.append([])
        shards[-1].append((name, size, get))
    names = [ONE] if len(shards) == 1 else [f"model-{number:05d}-of-{len(shards):05d}.safetensors"
                                            for number in range(1, len(shards) + 1)]
    index = [INDEX] if len(shards) > 1 else []
    metadata = {"format": "pt", "writer": WRITER, "files": json.dumps(sorted([*names_in(folder), *names, *index]))}
    for file, shard in zip(names, shards):
        save_file({name: np.ascontiguousarray(get()) for name, _, get in shard}, folder / file, metadata)
        _sort_metadata(folder / file)
    if index:
        index = {"metadata": {"total_size": sum(size for _, size, _ in tensors)},
                 "weight_map": {name: file for file, shard in zip(names, shards) for name, _, _ in shard}}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _sort_metadata(path):
    # safetensors writes the metadata in random order, but equal models should have equal files.
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(length))


def files_of_ours(folder):
    """Return the names of the files that tfzoo wrote into a folder: list of str, or None if it wrote none."""
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            metadata = TensorFile(path).metadata
            names = json.loads(metadata["files"]) if metadata["writer"] == WRITER else None
        except (OSError, DataError, KeyError, TypeError, ValueError):
            continue
        if isinstance(names, list) and path.name in names:
            return names
    return None
