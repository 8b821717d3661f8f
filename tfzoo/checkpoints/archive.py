"""Load untrusted `model.keras` files, checking them before Keras builds anything: only tfzoo's classes are allowed.

Keras itself rejects code (`safe_mode`), links, and archives that are much larger when unpacked.
"""
import io
import math
import zipfile

import h5py
import keras
import tensorflow as tf

from tfzoo.checkpoints.huggingface_config import LARGEST
from tfzoo.checkpoints.tensors import JSON_BYTES, parse_json
from tfzoo.errors import DataError, reason_of, shown
from tfzoo.layers import shapes_only
from tfzoo.models import FAMILIES, Body

MODELS = ("TaskModel", *dict.fromkeys(family.body.__name__ for family in FAMILIES))
WEIGHTS = "model.weights.h5"
LARGEST_TABLE = 2 ** 26  # elements in a sinusoidal table, which is computed and so not limited by the file's size
AGAIN = "download or copy the folder again"


def read_archive(path):
    """Return the keras.Model in a model.keras file.

    Args:
        path: pathlib.Path.

    Raises:
        DataError: if the file is damaged, uses classes other than tfzoo's, or has weights that do not match its model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > JSON_BYTES:
                raise ValueError(f"config.json has more than {JSON_BYTES:,} bytes")
            content = archive.read("config.json")
    except Exception as error:  # zipfile, like Keras below, raises many types of errors for a damaged archive
        raise DataError(f"{path} cannot be loaded ({reason_of(error)}): {AGAIN}") from None
    config = parse_json(content, path)
    if config.get("class_name") not in MODELS:
        raise DataError(f"{path} is a {shown(config.get('class_name'))}, but must be one of {', '.join(MODELS)}")
    _check(config, path)
    try:
        with shapes_only():
            model = keras.saving.deserialize_keras_object(config)
        if not isinstance(getattr(model, "body", model), Body):
            raise DataError(f"{path} has no body of a known type ({', '.join(MODELS[1:])}): {AGAIN}")
        needed = sum(math.prod(weight.shape) * tf.as_dtype(weight.dtype).size for weight in model.weights)
        if needed > path.stat().st_size:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, but its model's weights need {needed:,}: "
                            f"{AGAIN}")
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        held = _count_arrays(path)
        if held != len(model.weights):  # Keras ignores arrays of unknown layers
            raise DataError(f"{path} contains {held} arrays, but its model has {len(model.weights)}: {AGAIN}")
        return model
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be loaded ({reason_of(error)}): {AGAIN}") from error


class _Member(io.RawIOBase):
    # `size` bytes of a file, starting at `begin`. zipfile's own reader starts from the beginning on a backward seek.

    def __init__(self, file, begin, size):
        self.file, self.begin, self.size, self.place = file, begin, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def readinto(self, buffer):
        self.file.seek(self.begin + self.place)
        content = self.file.read(max(0, min(len(buffer), self.size - self.place)))
        buffer[:len(content)] = content
        self.place += len(content)
        return len(content)


def _count_arrays(path):
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        info = archive.getinfo(WEIGHTS)
        member = archive.open(WEIGHTS)
        if info.compress_type == zipfile.ZIP_STORED:  # as written by Keras
            file.seek(info.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            member = _Member(file, info.header_offset + 30 + name + extra, info.file_size)
        with h5py.File(member) as weights:
            found = []
            weights.visititems(lambda name, one: found.append(name) if isinstance(one, h5py.Dataset) else None)
        return len(found)


def _check(config, path):
    # Rejects classes other than tfzoo's, and sizes that would exhaust the memory.
    left, size = [config], path.stat().st_size
    most = {**LARGEST, "num_layers": min(LARGEST["num_layers"], size // 1000)}  # a layer takes over 1,000 bytes
    while left:
        part = left.pop()
        if isinstance(part, dict) and "class_name" in part:
            name = part.get("registered_name") or f"{part.get('module')}>{part['class_name']}"
            if not isinstance(name, str) or not name.startswith("tfzoo>") and name != "keras>DTypePolicy":
                raise DataError(f"{path} contains a {shown(name)}, which is unsafe to load: only tfzoo's own classes "
                                "are allowed, which run no code from the file")
        if isinstance(part, dict):
            if part.get("positions") == "sinusoidal" and _product(part, "max_length", "hidden_dim") > LARGEST_TABLE:
                raise DataError(f"{path}: the sinusoidal table of {shown(part['max_length'])} x "
                                f"{shown(part['hidden_dim'])} exceeds the limit of {LARGEST_TABLE:,} elements")
            for key, value in part.items():
                largest = most.get(key, 2 ** 24)
                if isinstance(value, int) and value > largest and key != "shared_object_id":
                    raise DataError(f"{path}: {shown(key)} is {shown(value)}, but must be at most {largest}")
        if isinstance(part, (dict, list)):
            left += part.values() if isinstance(part, dict) else part


def _product(part, *keys):
    values = [part.get(key) for key in keys]
    return math.prod(value if isinstance(value, int) else 1 for value in values)
