"""Write tensorflow.json.gz: the tensor names of transformers' TensorFlow classes for the cases in families.py.

Run from the checkout in an environment with torch 2.13.0, transformers 4.57.1, TensorFlow 2.21 and tf-keras 2.21:
TF_USE_LEGACY_KERAS=1 python -m tests.golden.make_tensorflow [OUT]
"""
import gzip
import json
import pathlib
import sys
import tempfile

import h5py
import tensorflow
import torch
import transformers
from safetensors.numpy import load_file

from tests.golden import families, make_families


def names_of(family, architecture, folder):
    """Return {"file": list of [name, shape, torch name, how the tensor is transposed], "h5": list of paths}."""
    model, _ = make_families.model_of(architecture, families.config_of(family, architecture, 0), 0)
    model.save_pretrained(folder / "torch")
    kind = getattr(transformers, f"TF{architecture}")
    there = kind.from_pretrained(folder / "torch", from_pt=True)
    there.save_pretrained(folder / "tf", safe_serialization=True)
    there.save_pretrained(folder / "h5")
    convert = transformers.modeling_tf_pytorch_utils.convert_tf_weight_name_to_pt_weight_name
    shapes = {name: list(value.shape) for name, value in load_file(folder / "tf" / "model.safetensors").items()}
    found = {}
    for weight in there.weights:
        name = transformers.modeling_tf_utils.strip_model_name_and_prefix(weight.name)
        theirs, turned = convert(weight.name, tf_weight_shape=weight.shape)
        found[name] = [shapes.pop(name), theirs, turned.value]
    assert not shapes
    paths = []
    with h5py.File(folder / "h5" / "tf_model.h5") as file:
        file.visititems(lambda path, item: paths.append(path) if isinstance(item, h5py.Dataset) else None)
    return {"file": [[name, *about] for name, about in found.items()], "h5": paths}


def main():
    found = {}
    for family, architecture in families.CASES:
        if hasattr(transformers, f"TF{architecture}") and "Mistral" not in architecture:
            with tempfile.TemporaryDirectory() as folder:
                found[f"{family}-{architecture}"] = names_of(family, architecture, pathlib.Path(folder))
                print(family, architecture, flush=True)
    found["versions"] = {module.__name__: module.__version__ for module in (tensorflow, torch, transformers)}
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "tensorflow.json.gz"
    out.write_bytes(gzip.compress(json.dumps(found).encode(), mtime=0))


if __name__ == "__main__":
    main()
