"""Folders written by transformers' TensorFlow classes load as the same models as those from its torch classes."""
import gzip
import json

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tfzoo
from tests.checkpoints import parity
from tests.golden import families
from tests.helpers import CHECKOUT, refused
from tfzoo.checkpoints.huggingface import family_of_type
from tfzoo.checkpoints.tensors import Tensors

NAMES = json.loads(gzip.decompress((CHECKOUT / "tests" / "golden" / "tensorflow.json.gz").read_bytes()))
CASES = sorted(case for case in NAMES if case != "versions")
LOADED = [("bert-BertForPreTraining", "model.safetensors"), ("gpt2-GPT2LMHeadModel", "tf_model.h5"),
          ("t5_1.1-T5ForConditionalGeneration", "tf_model.h5"), ("albert-AlbertModel", "model.safetensors")]


def write(case, folder, file, names=None):
    """Write a case as its TensorFlow class does; return its settings, and a dict of torch name -> array."""
    about, _ = parity.read_case(parity.GOLDEN / "families" / f"{case}.npz")
    reference, arrays, expected = family_of_type(about["config"]["model_type"]).reference, {}, {}
    weights = families.weights_of(about["shapes"], about["seed"])
    tied = {name: target for head in reference.heads.values() for name, target in head.tied.items()}
    for name, shape, torch_name, turned in NAMES[case]["file"]:
        own = next(one for one in (torch_name, tied.get(torch_name), torch_name.removeprefix(reference.prefix))
                   if one in weights)
        arrays[name] = (weights[own].T if turned == "simple" else weights[own]).reshape(shape)
        expected[torch_name] = weights[own]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**about["config"], "architectures": [
        f"TF{about['config']['architectures'][0]}"]}))
    if file == "model.safetensors":
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / file,
                  {"format": "tf"})
    else:
        with h5py.File(folder / file, "w") as made:
            for path in NAMES[case]["h5"]:
                made[path] = next(value for name, value in arrays.items() if path.endswith(f"/{name}"))
    return about, expected


@pytest.mark.parametrize("file", ["model.safetensors", "tf_model.h5"])
@pytest.mark.parametrize("case", CASES)
def test_tensors_are_those_of_the_torch_class(case, file, tmp_path):
    _, expected = write(case, tmp_path, file)
    tensors = Tensors(tmp_path)
    assert tensors.shapes.keys() == expected.keys()
    for name, value in expected.items():
        assert tensors.shapes[name] == value.shape and np.array_equal(tensors.get(name), value)


@pytest.mark.parametrize("case, file", LOADED)
def test_a_folder_of_tensorflow_is_the_model_of_torch_s(case, file, tmp_path):
    about, _ = write(case, tmp_path / "tf", file)
    parity.write_folder(about, tmp_path / "torch")
    one, other = tfzoo.load(tmp_path / "tf"), tfzoo.load(tmp_path / "torch")
    assert one.config == other.config and one.body.config == other.body.config
    for found, expected in zip(one.model.weights, other.model.weights, strict=True):
        assert found.path == expected.path and np.array_equal(found, expected), found.path


def test_shards_of_tensorflow_are_read_by_their_index(tmp_path):
    case = "bert-BertModel"
    write(case, tmp_path, "model.safetensors")
    whole = tfzoo.load(tmp_path).model.get_weights()
    arrays = load_file(tmp_path / "model.safetensors")
    parts = {"one.safetensors": sorted(arrays)[:9], "two.safetensors": sorted(arrays)[9:]}
    for file, names in parts.items():
        save_file({name: arrays[name] for name in names}, tmp_path / file, {"format": "tf"})
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {
        name: file for file, names in parts.items() for name in names}}))
    assert all(np.array_equal(one, other) for one, other in zip(whole, tfzoo.load(tmp_path).model.get_weights()))


def compressed(path):
    with h5py.File(path, "r+") as file:
        file.create_dataset("a/b:0", data=np.zeros(10 ** 6, np.float32), compression="gzip")


def elsewhere(path):
    with h5py.File(path, "r+") as file:
        file.create_dataset("a/b:0", (2,), np.float32, external=[(str(path.parent / "config.json"), 0, 8)])


def twice(path):
    with h5py.File(path, "r+") as file:
        file["a/b/gamma:0"], file["a/b/weight:0"] = np.zeros(2, np.float32), np.ones(2, np.float32)


def integers(path):
    with h5py.File(path, "r+") as file:
        name = next(name for name in NAMES["bert-BertModel"]["h5"] if name.endswith("word_embeddings/weight:0"))
        value = np.asarray(file[name]).astype(np.int64)
        del file[name]
        file[name] = value


@pytest.mark.parametrize("change, says", [
    (lambda path: path.write_bytes(b"nothing"), "is damaged"),
    (lambda path: path.write_bytes(path.read_bytes()[:3000]), "is damaged"),
    (compressed, "'a/b:0' is not a plain array"), (elsewhere, "'a/b:0' is not a plain array"),
    (twice, "two tensors named .a.b.weight"), (integers, "has dtype int64, expected float32")])
def test_a_tf_model_h5_that_tensorflow_did_not_write_is_refused(change, says, tmp_path):
    write("bert-BertModel", tmp_path, "tf_model.h5")
    change(tmp_path / "tf_model.h5")
    refused(tmp_path, says)
