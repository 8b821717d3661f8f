"""Checks that every layer, model and task must pass, and the way to the development data."""
import os
import pathlib
import re

import numpy as np
import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def data_dir():
    """Return the folder of development data ($TFZOO_DATA), or skip the test where it is absent."""
    folder = pathlib.Path(os.environ.get("TFZOO_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}: set TFZOO_DATA")
    return folder


def vocab_dir():
    """Return the folder of published vocabularies beside the development data, or skip."""
    folder = data_dir().parent / "vocab"
    if not folder.is_dir():
        pytest.skip(f"no vocabularies at {folder}")
    return folder


def assign_reference(body, weights, family, transpose):
    """Fill a body with a reference implementation's weights through its family's name map; every weight must be met.

    Args:
        weights: dict of the reference's name -> array.
        family: module with CHECKPOINT_NAMES.
        transpose: bool, the reference keeps its kernels as [out, in].
    """
    for variable in body.trainable_variables:
        path = re.sub(r"block_(\d+)", "block_{n}", variable.path)
        number = re.search(r"block_(\d+)", variable.path)
        table = family.CHECKPOINT_NAMES
        if path in table:
            value = weights[table[path]]
        else:
            layer, leaf = path.rsplit("/", 1)
            ending = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}[leaf]
            value = weights[f"{table[layer].format(n=int(number[1]) if number else 0)}.{ending}"]
            if leaf == "kernel" and transpose:
                value = value.T
            if value.shape != tuple(variable.shape):  # query, key and value are fused there
                value = np.split(value, 3, axis=-1)[["query", "key", "value"].index(layer.rsplit("/", 1)[1])]
        variable.assign(value)
