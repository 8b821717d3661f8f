"""Read weights written by transformers' TensorFlow classes, using the names and shapes of its torch classes.

The weights are stored in tf_model.h5, or in model.safetensors with the format "tf". A variable's name is a layer path
in which "a___b" stands for b, and "_._" separates two levels. Kernels have shape [in, out], and the biases in GPT-2's
Conv1D layers have shape [1, out].
"""
import pathlib
import re

import h5py
import numpy as np

from tfzoo.errors import DataError, reason_of, shown

H5 = "tf_model.h5"
LEAVES = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"}


def torch_name(name):
    """Return a TensorFlow variable's name in torch, and whether it is a kernel, which torch stores transposed."""
    name = re.sub("^(shared|encoder|decoder)/shared/shared/", "shared/", name)  # T5's shared table in a .h5
    levels = re.sub("[^/]*___", "", name.removesuffix(":0").replace("_._", "/")).split("/")
    model = [number for number, level in enumerate(levels[:3]) if re.match("tf[a-z0-9]*_", level)]
    *layers, leaf = levels[model[-1] + 1 if model else 0:] or levels
    return ".".join([*layers, LEAVES.get(leaf, leaf)]), leaf == "kernel"


def torch_shape(name, shape):
    """Return a TensorFlow variable's shape in torch: tuple of int."""
    if torch_name(name)[1]:
        return tuple(shape)[::-1]
    return tuple(shape[1:]) if len(shape) == 2 and shape[0] == 1 and name.endswith("bias:0") else tuple(shape)


def as_torch(name, value):
    """Convert a TensorFlow variable's array to torch's layout."""
    return value.T if torch_name(name)[1] else value.reshape(torch_shape(name, value.shape))


def torch_names(names, path, same=lambda one, other: False):
    """Return a dict of torch name -> TensorFlow name.

    Args:
        names: iterable of str, the TensorFlow names.
        path: str or path of the file, for error messages.
        same: callable that takes two names and returns whether they are copies of the same tensor.

    Raises:
        DataError: if two tensors have the same torch name but are not copies.
    """
    found = {}
    for name in names:
        theirs = torch_name(name)[0]
        first = found.setdefault(theirs, name)
        if first != name and not same(name, first):
            raise DataError(f"{path} is damaged (two tensors named {shown(theirs)}): download or copy it again")
    return found


class H5File:
    """Read a tf_model.h5 file, with the same interface as `TensorFile`.

    Args:
        path: str or path.

    Attributes:
        path: pathlib.Path.
        shapes: dict of name -> tuple of int.

    Raises:
        DataError: if the file is damaged, or contains arrays that TensorFlow does not write, such as compressed arrays
            or arrays stored in other files.
    """

    def __init__(self, path):
        self.path, found = pathlib.Path(path), {}
        try:
            self._file = h5py.File(self.path)
            self._file.visititems(
                lambda name, one: found.update({name: one}) if isinstance(one, h5py.Dataset) else None)
            for name, one in found.items():
                if one.is_virtual or one.external or one.chunks or one.id.get_storage_size() != one.nbytes:
                    raise ValueError(f"{shown(name)} is not a plain array")
            # A table shared by two layers is stored twice.
            self._names = torch_names(found, self.path, same=lambda one, other: found[one].shape == found[
                other].shape and np.array_equal(found[one], found[other]))
        except DataError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path} is damaged ({reason_of(error)}): download or copy it again") from None
        self._arrays = found
        self.shapes = {name: torch_shape(own, found[own].shape) for name, own in self._names.items()}

    def check(self, name):
        """Raise DataError if the dtype of the tensor `name` is not supported."""
        dtype = self._arrays[self._names[name]].dtype
        if dtype not in (np.float32, np.float16):
            raise DataError(f"{self.path}: {shown(name)} has dtype {dtype}, expected float32 or float16")

    def get(self, name):
        """Return a tensor in its stored dtype; raise DataError if that dtype is not supported."""
        self.check(name)
        return as_torch(self._names[name], self._arrays[self._names[name]][()])
