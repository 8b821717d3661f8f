"""Untrusted checkpoints load correctly, or are refused with a one-line message before anything large is allocated."""
import json
import os
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tfzoo
from tests.checkpoints import parity
from tests.golden import families
from tests.helpers import refused
from tfzoo.checkpoints.tensors import JSON_BYTES
from tfzoo.errors import ConfigError, DataError

LINES = "a\nb\r\u2028\x1b[2J" + "c" * 900
DEEP = [[[[[[[[[[[[[[[[[[1, LINES]]]]]]]]]]]]]]]]]]
CASE = parity.GOLDEN / "families" / "bert-BertForSequenceClassification.npz"


@pytest.fixture
def folder(tmp_path):
    parity.write_folder(parity.read_case(CASE)[0], tmp_path / "bert")
    return tmp_path / "bert"


def header_of(path):
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + length]), content[8 + length:]


def write(path, header, rest, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + rest)


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("change, says", [
    ({"model_type": "gpt9"}, "model_type is 'gpt9', but must be one of bert"), ({"model_type": None}, "model_type"),
    ({"hidden_size": -3}, "hidden_size is -3"), ({"hidden_size": 2 ** 60}, "hidden_size"),
    ({"num_hidden_layers": 10 ** 9}, "num_hidden_layers"), ({"num_hidden_layers": 900}, "900 layers"),
    ({"vocab_size": 2 ** 24}, "embeddings.word_embeddings.weight has shape"),
    ({"intermediate_size": 2 ** 24}, "intermediate.dense.weight has shape"),
    ({"num_attention_heads": 1000}, "heads must divide"),
    ({"hidden_size": "x" * 10 ** 6}, "hidden_size is 'xxx"),
    ({"hidden_act": "exec"}, "hidden_act is 'exec', but must be one of gelu"),
    ({"layer_norm_eps": 1e9}, "layer_norm_eps"),
    ({"position_embedding_type": "relative_key"}, "but must be absolute"), ({"is_decoder": True}, "is_decoder"),
    ({"architectures": ["BertForEverything"]}, "but must be one of BertModel, BertForMaskedLM"),
    ({"id2label": {"0": "only"}}, "classifier.weight has shape"), ({"id2label": {"0": "a", "1": "a"}}, "id2label"),
    ({"id2label": {"0": "a", "2": "b"}}, "id2label"), ({"id2label": [1]}, "id2label"),
    ({"id2label": {"0": None, "1": "b"}}, "id2label"), ({"id2label": {"0": True, "1": "b"}}, "id2label"),
    ({"problem_type": "regression"}, "regression with 3 label"), ({"hidden_act": []}, "hidden_act"),
    ({"num_hidden_layers": 2}, "tensor.s. that no bert model has, such as 'bert.encoder.layer.2"),
    ({"hidden_size": LINES}, "hidden_size is 'a"), ({"model_type": LINES}, "model_type is 'a"),
    ({"hidden_act": LINES}, "hidden_act is 'a"), ({"is_decoder": LINES}, "is_decoder is 'a"),
    ({"architectures": [LINES]}, "architecture is 'a"), ({"problem_type": LINES}, "problem_type is 'a"),
    ({"id2label": {LINES: "a"}}, "id2label"), ({"id2label": {"0": LINES, "1": LINES}}, "id2label"),
    ({"rope_parameters": LINES}, "rope_parameters is 'a"),
    ({"hidden_dropout_prob": LINES}, "hidden_dropout_prob is 'a"),
    ({"hidden_size": DEEP}, "hidden_size is \\[\\["), ({LINES: [[[DEEP]]]}, "deep")])
def test_a_config_that_is_wrong_is_refused(folder, change, says):
    change_config(folder, **change)
    refused(folder, says)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize("case, change, says", [
    ("qwen2-Qwen2Model", {"rope_scaling": {"rope_type": []}}, "must have one of the rope_types default, linear"),
    ("qwen2-Qwen2Model", {"rope_scaling": {**YARN, "beta_fast": "x"}}, "numbers above 0"),
    ("qwen2-Qwen2Model", {"rope_scaling": {**YARN, "factor": 0}}, "numbers above 0"),
    ("qwen2-Qwen2Model", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "must have one of the rope_types"),
    ("qwen2-Qwen2Model", {"rope_theta": 1}, "rope_theta"),
    ("qwen2-Qwen2Model", {"rope_scaling": LINES}, "rope_scaling is 'a"),
    ("qwen2-Qwen2Model", {"rope_scaling": {"rope_type": LINES}}, "must have one of the rope_types default, linear"),
    ("qwen2-Qwen2Model", {"rope_scaling": {**YARN, LINES: LINES}}, "numbers above 0"),
    ("t5-T5Model", {"num_decoder_layers": LINES}, "num_decoder_layers is 'a"),
    ("t5-T5Model", {"scale_decoder_outputs": LINES}, "scale_decoder_outputs is 'a"),
    ("qwen2-Qwen2Model", {"use_sliding_window": True}, "sliding"),
    ("qwen2-Qwen2Model", {"num_key_value_heads": 3}, "must be divisible by num_kv_heads .3."),
    ("llama-LlamaModel", {"head_dim": 7}, "head_dim must be even for rotary positions, got 7"),
    ("qwen2-Qwen2Model", {"rope_theta": 7.0, "rope_parameters": {"rope_theta": 8.0}},
     "disagree: keep only one of them"),
    ("qwen2-Qwen2Model", {"rope_parameters": 3}, "rope_parameters is 3"),
    ("t5-T5Model", {"relative_attention_num_buckets": 3}, "buckets is 3"),
    ("t5-T5Model", {"relative_attention_max_distance": 6}, "must be less than twice the maximum distance"),
    ("t5-T5Model", {"num_decoder_layers": 5}, "num_decoder_layers"),
    ("t5-T5Model", {"scale_decoder_outputs": False}, "transformers 4"),
    ("roberta-RobertaForMaskedLM", {"hidden_act": "relu"}, "always uses gelu")])
def test_what_other_families_cannot_compute_is_refused(tmp_path, case, change, says):
    parity.write_folder(parity.read_case(parity.GOLDEN / "families" / f"{case}.npz")[0], tmp_path)
    change_config(tmp_path, **change)
    refused(tmp_path, says)


def test_the_words_of_transformers_5_say_the_same(tmp_path):
    about = parity.read_case(parity.GOLDEN / "families" / "llama-LlamaModel.npz")[0]
    parity.write_folder(about, tmp_path / "four")
    config = dict(about["config"])
    config["rope_parameters"] = {**config.pop("rope_scaling"), "rope_theta": config.pop("rope_theta")}
    parity.write_folder({**about, "config": config}, tmp_path / "five")
    four, five = (tfzoo.load(tmp_path / name).body.config for name in ("four", "five"))
    assert four == five and four["rope_theta"] == 50.0 and four["rope_scaling"]["rope_type"] == "llama3"


@pytest.mark.parametrize("content, says", [
    (b"[" * 10 ** 6, "damaged"), (b'{"a":' * 10 ** 5 + b"1" + b"}" * 10 ** 5, "damaged"), (b"[]", "not an object"),
    (b"\xff\xfe", "damaged"), (b'{"model_type": "bert", "model_type": "gpt2"}', "duplicate key .model_type")])
def test_a_config_that_is_no_object_is_refused(folder, content, says):
    (folder / "config.json").write_bytes(content)
    refused(folder, says)


@pytest.mark.parametrize("damage, says", [
    (lambda header, rest: (header, rest[:-4], None), "damaged"),
    (lambda header, rest: (header, rest + b"more", None), "damaged"),
    (lambda header, rest: ({**header, LINES: header["classifier.bias"]}, rest, None), "damaged"),
    (lambda header, rest: ({name: {**entry, "dtype": LINES} for name, entry in header.items() if name[0] != "_"}, rest,
                           None), "damaged"),
    (lambda header, rest: ({**header, "classifier.bias": {**header["classifier.bias"], "shape": DEEP * 3}}, rest, None),
     "damaged"),
    (lambda header, rest: (header, rest, 2 ** 63), "a header of"),
    (lambda header, rest: (b'{"a": 1, "a": 2}', rest, None), "duplicate key .a"),
    (lambda header, rest: (b"{" * 10 ** 5, rest, None), "damaged"),
    (lambda header, rest: ({**header, "z": {"dtype": "F32", "shape": [2 ** 62], "data_offsets": [0, 8]}}, rest, None),
     "damaged"),
    (lambda header, rest: ({**header, "z": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, rest, None),
     "damaged"),
    (lambda header, rest: ({**header, "z": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}}, rest, None),
     "damaged"),
    (lambda header, rest: ({name: {**entry, "dtype": "I32"} for name, entry in header.items() if name[0] != "_"}, rest,
                           None), "has dtype 'I32', expected one of F32"),
    (lambda header, rest: ({name: {**entry, "dtype": "X9"} for name, entry in header.items() if name[0] != "_"}, rest,
                           None), "damaged")])
def test_a_damaged_file_of_tensors_is_refused(folder, damage, says):
    path = folder / "model.safetensors"
    header, rest, length = damage(*header_of(path))
    write(path, header, rest, length)
    refused(folder, says)


def test_a_header_of_a_gigabyte_is_not_read(folder):
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 10 ** 9) + b'{"a": ')
    os.truncate(path, 1_100_000_000)  # a sparse file, which takes no disk space
    refused(folder, "a header of 1,000,000,000 bytes in a file of 1,100,000,000 bytes, but at most")
    os.truncate(path, 1000)
    refused(folder, "a header of 1,000,000,000 bytes in a file of 1,000")


def test_a_config_that_grows_when_it_is_read_is_refused(folder):
    for size, says in ((JSON_BYTES - 100, "model_type is 7"), (JSON_BYTES + 100, "but may have at most 3,000,000")):
        (folder / "config.json").write_bytes(b'{"model_type":7,"a":[' + b",".join([b"{}"] * (size // 3)) + b"]}")
        refused(folder, says)


@pytest.mark.parametrize("change, says", [
    (lambda tensors: tensors.pop("classifier.weight"), "lacks the tensor classifier.weight"),
    (lambda tensors: tensors.update(stranger=np.zeros(3, np.float32)),
     "1 tensor.s. that no bert model has, such as 'stranger'"),
    (lambda tensors: tensors.update({"classifier.weight": tensors["classifier.weight"].T.copy()}), "has shape"),
    (lambda tensors: tensors.update({"bert.embeddings.LayerNorm.gamma": tensors.pop(
        "bert.embeddings.LayerNorm.weight")[:0]}), "gamma has shape .0."),
    (lambda tensors: tensors.update({"bert.encoder.layer.0.output.dense.lora_A.weight": np.zeros((2, 2), np.float32)}),
     "lora_A"),
    (lambda tensors: tensors.update({LINES: np.zeros(3, np.float32)}), "no bert model has, such as 'a"),
    (lambda tensors: tensors.update({"classifier.bias": np.zeros((1,) * 60, np.float32)}), "bias has shape")])
def test_tensors_must_be_those_of_the_architecture(folder, change, says):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    refused(folder, says)


def shard(folder, where=None):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[:9], "two.safetensors": names[9:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {name: file for file, part in parts.items() for name in part}
    index.update(where or {})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def test_shards_are_read_where_the_index_says(folder):
    whole = tfzoo.load(folder).model.get_weights()
    shard(folder)
    assert all(np.array_equal(one, other) for one, other in zip(whole, tfzoo.load(folder).model.get_weights()))


@pytest.mark.parametrize("where, says, error", [
    ("../one.safetensors", "but shards must be .safetensors files next to it", DataError),
    ("/etc/passwd", "but shards must be", DataError), ("a\\..\\one.safetensors", "but shards must be", DataError),
    ("x" * 300 + ".safetensors", "but shards must be", DataError), (LINES, "but shards must be", DataError),
    ("a\nb.safetensors", "but shards must be", DataError),
    ("two.safetensors", "but it is not in that file", DataError),
    ("three.safetensors", "is missing", FileNotFoundError),
    (7, "no weight_map", DataError)])
def test_an_index_that_leads_elsewhere_is_refused(folder, where, says, error):
    shard(folder, {"bert.embeddings.LayerNorm.bias": where})
    refused(folder, says, error)


def test_what_an_index_and_its_shards_say_is_shown_in_one_line(folder):
    shard(folder, {LINES: "one.safetensors"})
    refused(folder, "maps 'a")
    for file in ("one.safetensors", "two.safetensors"):
        save_file({**load_file(folder / file), LINES: np.zeros(1, np.float32)}, folder / file)
    refused(folder, "' is in two shards of")


def test_pickles_are_refused_with_the_way_to_convert_them(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'echo bad'\ntR.")
    refused(folder, "can run arbitrary code.*save_pretrained")


def test_old_names_a_tied_copy_and_another_head_are_taken_for_what_they_are(folder):
    tensors = load_file(folder / "model.safetensors")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
           for name, value in tensors.items()}
    old["bert.embeddings.position_ids"] = np.arange(families.LENGTH)[None]
    old["cls.predictions.bias"] = np.zeros(families.VOCAB, np.float32)
    whole = tfzoo.load(folder).model.get_weights()
    save_file(old, folder / "model.safetensors")
    loaded = tfzoo.load(folder)
    assert all(np.array_equal(one, other) for one, other in zip(whole, loaded.model.get_weights()))
    assert loaded.dropped == ["cls.predictions.bias"]


def test_a_tied_table_alone_must_fit_too(tmp_path):
    about = parity.read_case(parity.GOLDEN / "families" / "gpt2-GPT2LMHeadModel.npz")[0]
    weights = parity.write_folder(about, tmp_path)
    weights["lm_head.weight"] = weights.pop("transformer.wte.weight")
    save_file(weights, tmp_path / "model.safetensors")
    assert np.array_equal(tfzoo.load(tmp_path).body.embeddings.token, weights["lm_head.weight"])
    change_config(tmp_path, vocab_size=2 ** 24)
    refused(tmp_path, "lm_head.weight has shape")


def test_half_precision_is_read_as_it_is(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({name: value.astype(np.float16) for name, value in tensors.items()}, folder / "model.safetensors")
    loaded = tfzoo.load(folder)
    table = loaded.body.embeddings.token.numpy()
    expected = tensors["bert.embeddings.word_embeddings.weight"].astype(np.float16).astype(np.float32)
    assert np.array_equal(table, expected)


def test_what_transformers_cannot_say_is_refused(tmp_path):
    small = {"num_layers": 2, "hidden_dim": 24, "num_heads": 4, "ffn_dim": 40, "max_length": 20, "vocab_size": 53}
    config = {"model": "bert_tiny", "task": None, "settings": {}, "labels": None, "max_length": 20}
    for name, overrides, says in (("bert_tiny", {"norm_first": True}, "norm_first|block"),
                                  ("transformer_tiny", {}, "has no counterpart")):
        body = tfzoo.build(name, **small, **overrides)
        with pytest.raises(ConfigError, match=says):
            tfzoo.save(tfzoo.checkpoints.Loaded(body, None, {**config, "model": name}), tmp_path / "x", "huggingface")
        assert not (tmp_path / "x").exists()
