"""What transformers' TensorFlow classes wrote, in the names and shapes of its torch classes.

They wrote tf_model.h5, or model.safetensors of the format "tf". A variable's name is a path of layers, in which "a___b"
stands for b and "_._" for a level more; kernels are [in, out], and a bias of GPT-2's convolutions is [1, out].
"""
import math
import pathlib
import re

import h5py
import numpy as np

from tfzoo.errors import DataError, reason_of, shown

H5 = "tf_model.h5"
LEAVES = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"}


def torch_name(name):
    """Return (torch's name of a TensorFlow variable, whether it is a kernel there, and so turned)."""
    name = re.sub("^(shared|encoder|decoder)/shared/shared/", "shared/", name)  # T5's one table in a .h5
    levels = re.sub("[^/]*___", "", name.removesuffix(":0").replace("_._", "/")).split("/")
    model = [number for number, level in enumerate(levels[:3]) if re.match("tf[a-z0-9]*_", level)]
    *layers, leaf = levels[model[-1] + 1 if model else 0:]
    return ".".join([*layers, LEAVES.get(leaf, leaf)]), leaf == "kernel"


def torch_shape(name, shape):
    """Return the shape that torch has for a TensorFlow variable."""
    if torch_name(name)[1]:
        return tuple(shape)[::-1]
    return tuple(shape[1:]) if len(shape) == 2 and shape[0] == 1 and name.endswith("bias:0") else tuple(shape)


def as_torch(name, value):
    """Return a TensorFlow variable's array as torch has it."""
    return value.T if torch_name(name)[1] else value.reshape(torch_shape(name, value.shape))


def torch_names(names, path, same=lambda one, other: False):
    """Return dict of torch's name -> TensorFlow's.

    Args:
        names: iterable of str. path: of their file.
        same: callable of two names -> bool, whether they are copies of one tensor.

    Raises:
        DataError: where two have one name and are not the same.
    """
    found = {}
    for name in names:
        if not same(name, found.setdefault(torch_name(name)[0], name)) and found[torch_name(name)[0]] != name:
            raise DataError(f"{path} is damaged (two tensors of the name {shown(torch_name(name)[0])}): get it again")
    return found


class H5File:
    """A tf_model.h5; attributes and methods as TensorFile.

    Raises:
        DataError: for a damaged file, and one with arrays that TensorFlow did not write: packed, or in other files.
    """

    def __init__(self, path):
        self.path, found = pathlib.Path(path), {}
        try:
            self._file = h5py.File(self.path)
            self._file.visititems(
                lambda name, one: found.update({name: one}) if isinstance(one, h5py.Dataset) else None)
            for name, one in found.items():
                if one.is_virtual or one.external or one.chunks or one.id.get_storage_size() != one.nbytes:
                    raise ValueError(f"{shown(name)} is no plain array")
            # A table that two layers use is there twice.
            self._names = torch_names(found, self.path, same=lambda one, other: one != other and found[
                one].shape == found[other].shape and np.array_equal(found[one], found[other]))
        except DataError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path} is damaged ({reason_of(error)}): get it again") from None
        self._arrays = found
        self.shapes = {name: torch_shape(own, found[own].shape) for name, own in self._names.items()}

    def check(self, name):
        """Raise DataError where a tensor has a dtype that weights have not."""
        dtype = self._arrays[self._names[name]].dtype
        if dtype not in (np.float32, np.float16) or math.prod(self.shapes[name]) == 0:
            raise DataError(f"{self.path}: {shown(name)} has dtype {dtype}: allowed are float32 and float16")

    def get(self, name):
        """Return a tensor in its own dtype; errors as `check`."""
        self.check(name)
        return as_torch(self._names[name], self._arrays[self._names[name]][()])
