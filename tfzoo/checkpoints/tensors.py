"""The tensors of a folder of safetensors files, one or several shards: checked before they are read, one at a time.

Pickles (`pytorch_model.bin`) are refused: to unpickle runs what is in the file.
"""
import json
import math
import pathlib
import struct

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tfzoo.checkpoints.tensorflow_file import H5, H5File, as_torch, torch_name, torch_names, torch_shape
from tfzoo.errors import DataError, reason_of, shown
from tfzoo.files import names_in, once

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
JSON_BYTES, DEEPEST = 3_000_000, 20  # of settings, indexes and headers, which can take 50 times as much when read
SHARD_BYTES = 5 * 10 ** 9
WRITER = "tfzoo"  # in the metadata of what we write, with the names of all files of the folder
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
CONVERT = ("convert it where it is trusted, with transformers: AutoModel.from_pretrained(FOLDER)"
           ".save_pretrained(NEW, safe_serialization=True)")


def read_json(path, kind=dict):
    """Return the dict (or list, as `kind` says) of a JSON file, or raise DataError: too large, too deep, another."""
    path = pathlib.Path(path)
    if path.stat().st_size > JSON_BYTES:
        raise DataError(f"{path} has {path.stat().st_size:,} bytes: allowed are {JSON_BYTES:,}; get it again")
    return parse_json(path.read_bytes(), path, kind)


def parse_json(content, path, kind=dict):
    """Return the dict or list that bytes of JSON hold; errors as `read_json`."""
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=once)
        if not isinstance(found, kind):
            raise ValueError("not an object" if kind is dict else "not a list")
        level = [found]
        for _ in range(DEEPEST):
            level = [one for outer in level for one in (outer.values() if isinstance(outer, dict) else outer)
                     if isinstance(one, (dict, list))]
        if level:
            raise ValueError("nested too deep")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({reason_of(error, 100)}): get it again") from None
    return found


class TensorFile:
    """One safetensors file; names and shapes are torch's where TensorFlow wrote it (the format "tf").

    Attributes:
        shapes: dict of name -> tuple of int; dtypes: dict of name -> str, as "F32".
        metadata: dict, what its writer says of it. of_tensorflow: bool.

    Raises:
        DataError: for a header that is damaged, and tensors that overlap, leave gaps or end beyond the file.
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
        return DataError(f"{self.path} is damaged ({reason_of(reason)}): get it again")

    def check(self, name):
        """Raise DataError where a tensor has a dtype that weights have not."""
        if self.dtypes[name] not in DTYPES:
            raise DataError(f"{self.path}: {shown(name)} has dtype {shown(self.dtypes[name])}: allowed are "
                            f"{', '.join(DTYPES)}")

    def get(self, name):
        """Return a tensor in its own dtype, mapped from the file; errors as `check`."""
        self.check(name)
        begin, end = self._places[name]
        # From a map of our own: the package's arrays are copies, as large as the tensor.
        view = np.memmap(self.path, np.uint8, "r")[begin:end].view(DTYPES[self.dtypes[name]])
        value = view.reshape(self._stored[name])
        return as_torch(self._names[name], value) if self.of_tensorflow else value


class Tensors:
    """All tensors of a folder.

    Args:
        folder: path with model.safetensors, or with shards and their index, or with TensorFlow's tf_model.h5.

    Attributes:
        shapes: dict of name -> tuple of int.

    Raises:
        FileNotFoundError: no weights. DataError: damaged ones, a pickle, a shard that is not in the folder, a tensor
            that is in two shards or not where the index says.
    """

    def __init__(self, folder):
        folder = pathlib.Path(folder)
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
                                    "what is published as pickles (.bin) alone has to be converted")
        self._file = {}
        files = [H5File(folder / name) if name == H5 else TensorFile(folder / name) for name in names]
        for file in files:
            for name in file.shapes:
                if name in self._file:
                    raise DataError(f"{shown(name)} is in two shards of {folder}: get the folder again")
                self._file[name] = file
        if names not in ([ONE], [H5]):
            if files[0].of_tensorflow:
                where = {torch_name(name)[0]: shard for name, shard in where.items()}
            wrong = [name for name, shard in where.items()
                     if name not in self._file or self._file[name].path.name != shard]
            if wrong:
                raise DataError(f"{folder / INDEX} says that {shown(wrong[0])} is in {shown(where[wrong[0]])}, which "
                                "it is not: get the folder again")
        self.shapes = {name: file.shapes[name] for name, file in self._file.items()}

    @property
    def bytes(self):
        """Return what the tensors take as float32."""
        return 4 * sum(math.prod(shape) for shape in self.shapes.values())

    def check(self, name):
        """Raise DataError where a tensor has a dtype that weights have not."""
        self._file[name].check(name)

    def get(self, name):
        """Return a tensor in its own dtype, mapped from its file."""
        return self._file[name].get(name)


def _shards(path):
    """Return (names of the shards, dict of tensor -> shard) of an index; only files beside it are taken."""
    where = read_json(path).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()) or not where:
        raise DataError(f"{path} is damaged (no weight_map): get it again")
    names = sorted(set(where.values()))
    for name in names:
        if name != pathlib.PurePosixPath(name).name or "\\" in name or not name.endswith(".safetensors") \
                or len(name) > 200 or not name.isprintable():
            raise DataError(f"{path} names the shard {shown(name)}: allowed are .safetensors files beside it")
        if not (path.parent / name).is_file():
            raise FileNotFoundError(f"{path.parent / name} is missing, which {path.name} names: get it too")
    return names, where


def write_tensors(folder, tensors):
    """Write tensors into a folder, after all that belongs to them, in shards of at most 5 GB where there is more.

    Args:
        folder: path of a folder that is there.
        tensors: list of (name, bytes it takes, callable -> float32 array); called once each, in order.
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
    """Return the names of what was written into a folder with `write_tensors`: a list; None where that was not us."""
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            metadata = TensorFile(path).metadata
            names = json.loads(metadata["files"]) if metadata["writer"] == WRITER else None
        except (OSError, DataError, KeyError, TypeError, ValueError):
            continue
        if isinstance(names, list) and path.name in names:
            return names
    return None
