"""The tensors of a folder, in one file or in shards: checked before they are read, and read one at a time.

Pickles (`pytorch_model.bin`) are refused: unpickling can run any code in the file.
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
JSON_BYTES, DEEPEST = 3_000_000, 20  # of settings, indexes and headers, which can take 50 times the memory
SHARD_BYTES = 5 * 10 ** 9
WRITER = "tfzoo"  # in the metadata of the files written here, with the names of all files of the folder
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
CONVERT = ("if you trust it, convert it with transformers: AutoModel.from_pretrained(FOLDER)"
           ".save_pretrained(NEW, safe_serialization=True)")


def read_json(path, kind=dict):
    """Return the content of a JSON file: dict, or list if `kind` is list.

    Raises:
        DataError: the file is too large, damaged, nested too deeply, or not of that kind.
    """
    path = pathlib.Path(path)
    if path.stat().st_size > JSON_BYTES:
        raise DataError(f"{path} has {path.stat().st_size:,} bytes: allowed are {JSON_BYTES:,}; get a fresh copy")
    return parse_json(path.read_bytes(), path, kind)


def parse_json(content, path, kind=dict):
    """Return the dict or list in the bytes of a JSON file; raises as `read_json`."""
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
        raise DataError(f"{path} is damaged ({reason_of(error, 100)}): get a fresh copy") from None
    return found


class TensorFile:
    """Read one safetensors file; names and shapes are torch's even if TensorFlow wrote it (format "tf").

    Attributes:
        shapes: dict of name -> tuple of int.
        dtypes: dict of name -> str, such as "F32".
        metadata: dict, the writer's metadata.
        of_tensorflow: bool, whether the format is "tf".

    Raises:
        DataError: a damaged header, or tensors that overlap, leave gaps or end beyond the file.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        size = self.path.stat().st_size
        with open(self.path, "rb") as file:
            first = file.read(8)
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else size
            if length > min(JSON_BYTES, size - 8):
                raise self._damaged(f"a header of {length:,} bytes in a file of {size:,}: allowed are {JSON_BYTES:,}")
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
        return DataError(f"{self.path} is damaged ({reason_of(reason)}): get a fresh copy")

    def check(self, name):
        """Raise DataError if a tensor has a dtype that weights do not have."""
        if self.dtypes[name] not in DTYPES:
            raise DataError(f"{self.path}: {shown(name)} has dtype {shown(self.dtypes[name])}: allowed are "
                            f"{', '.join(DTYPES)}")

    def get(self, name):
        """Return a tensor in its own dtype, mapped from the file; raises as `check`."""
        self.check(name)
        begin, end = self._places[name]
        # Mapped here, since safetensors' arrays are copies, as large as the tensor.
        view = np.memmap(self.path, np.uint8, "r")[begin:end].view(DTYPES[self.dtypes[name]])
        value = view.reshape(self._stored[name])
        return as_torch(self._names[name], value) if self.of_tensorflow else value


class Tensors:
    """Read all tensors of a folder.

    Args:
        folder: path with model.safetensors, with shards and their index, or with TensorFlow's tf_model.h5.

    Attributes:
        shapes: dict of name -> tuple of int.

    Raises:
        FileNotFoundError: no weights, or a shard is missing. DataError: damaged weights, a pickle, a shard outside the
            folder, or a tensor that is in two shards, or not in the one that the index names.
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
                raise DataError(f"{folder} has pickled weights (.bin), which could run any code: {CONVERT}")
            raise FileNotFoundError(f"{folder} has no weights: needed is {ONE}, or {INDEX} with its shards, or {H5}; "
                                    "a model published only as pickles (.bin) must be converted first")
        self._file = {}
        files = [H5File(folder / name) if name == H5 else TensorFile(folder / name) for name in names]
        for file in files:
            for name in file.shapes:
                if name in self._file:
                    raise DataError(f"{shown(name)} is in two shards of {folder}: get a fresh copy of the folder")
                self._file[name] = file
        if where:
            if files[0].of_tensorflow:
                where = {torch_name(name)[0]: shard for name, shard in where.items()}
            wrong = [name for name, shard in where.items()
                     if name not in self._file or self._file[name].path.name != shard]
            if wrong:
                raise DataError(f"{folder / INDEX} says that {shown(wrong[0])} is in {shown(where[wrong[0]])}, but it "
                                "is not: get a fresh copy of the folder")
        self.shapes = {name: file.shapes[name] for name, file in self._file.items()}

    def check(self, name):
        """Raise DataError if a tensor has a dtype that weights do not have."""
        self._file[name].check(name)

    def get(self, name):
        """Return a tensor in its own dtype, mapped from its file."""
        return self._file[name].get(name)


def _shards(path):
    # Returns (names of the shards, dict of tensor -> shard); only files beside the index are allowed.
    where = read_json(path).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()) or not where:
        raise DataError(f"{path} is damaged (no weight_map): get a fresh copy")
    names = sorted(set(where.values()))
    for name in names:
        if name != pathlib.PurePosixPath(name).name or "\\" in name or not name.endswith(".safetensors") \
                or len(name) > 200 or not name.isprintable():
            raise DataError(f"{path} names the shard {shown(name)}: allowed are .safetensors files beside it")
        if not (path.parent / name).is_file():
            raise FileNotFoundError(f"{path.parent / name} is missing, but {path.name} names it: get it too")
    return names, where


def write_tensors(folder, tensors):
    """Write tensors into a folder, in shards of at most 5 GB if they are larger; a larger tensor gets its own shard.

    Call this last: the metadata lists the files of the folder.

    Args:
        folder: path of an existing folder.
        tensors: list of (name, size in bytes, callable -> float32 array); each is called once, in order.
    """
    shards = [[]]
    for name, size, get in tensors:
        if shards[-1] and sum(entry[1] for entry in shards[-1]) + size > SHARD_BYTES:
            shards.append([])
        shards[-1].append((name, size, get))
    names = [ONE] if len(shards) == 1 else [f"model-{number:05d}-of-{len(shards):05d}.safetensors"
                                            for number in range(1, len(shards) + 1)]
    index = [INDEX] if len(shards) > 1 else []
    metadata = {"format": "pt", "writer": WRITER,
                "files": json.dumps(sorted([*names_in(folder), *names, *index]))}
    for file, shard in zip(names, shards):
        save_file({name: np.ascontiguousarray(get()) for name, _, get in shard}, folder / file, metadata)
        _sort_metadata(folder / file)
    if index:
        index = {"metadata": {"total_size": sum(size for _, size, _ in tensors)},
                 "weight_map": {name: file for file, shard in zip(names, shards) for name, _, _ in shard}}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _sort_metadata(path):
    # safetensors writes them in another order each time, and equal models should have equal files.
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(length))


def files_of_ours(folder):
    """Return the names of the files that tfzoo wrote into a folder with `write_tensors`: list of str, or None."""
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            metadata = TensorFile(path).metadata
            names = json.loads(metadata["files"]) if metadata["writer"] == WRITER else None
        except (OSError, DataError, KeyError, TypeError, ValueError):
            continue
        if isinstance(names, list) and path.name in names:
            return names
    return None
