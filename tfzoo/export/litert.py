"""Export a model as a LiteRT file, which runs on CPUs without TensorFlow, with its tokenizer and settings.

LiteRT (formerly TensorFlow Lite) has no ops for strings, so the file takes token ids. All shapes are fixed: there is a
signature for each length and batch size. `tfzoo.load` and `tfzoo.litert` run the folder.
"""
import hashlib
import tempfile

import tensorflow as tf

from tfzoo import files, folders
from tfzoo.checkpoints.tensors import write_json
from tfzoo.errors import ConfigError
from tfzoo.litert.runner import FILE, FORMAT_VERSION, signature_name
from tfzoo.litert.tokenizer import FILE as PORTABLE
from tfzoo.tasks import Task
from tfzoo.tasks.embedding import PLAIN, pool

LENGTHS, BATCHES = (32, 64, 128), (1, 32)
PRECISIONS = ("float32", "float16", "int8")
LARGEST = 2 ** 31 - 1  # bytes; LiteRT's format has 32-bit offsets


def export_litert(loaded, folder, lengths=None, batches=None, precision="float32"):
    """Write a folder with `model.tflite`, the tokenizer's files and `config.json`, completely or not at all.

    The signatures `encode_T` (of one row) and `encode_T_batch_B` take `token_ids`, `padding_mask` and, if the model has
    segments, `segment_ids`, int32 [B, T]. They return `logits` float32 [B, ...] or, for a model without a head or
    trained with contrastive learning, `embedding` float32 [B, D].

    Args:
        loaded: Loaded, an encoder or decoder with a head that makes predictions, or without a head.
        folder: str or path; must be new, empty, or written by this function.
        lengths: sequence of int, the numbers of tokens T; None for LENGTHS up to the model's max_length, which is
            added if all are below. Longer texts are truncated or split into windows.
        batches: sequence of int, the batch sizes B; None for BATCHES.
        precision: str, "float32"; "float16" for weights of half the size; or "int8" for weights of a quarter of the
            size, which are multiplied by activations that are quantized on the fly (dynamic range).

    Returns:
        dict: `bytes` (size of model.tflite) and `signatures`.

    Raises:
        ConfigError: if the model is not supported, an argument is invalid, or the folder contains anything else.
        OSError: if the folder cannot be written.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision={precision} is not available in LiteRT: choose from {', '.join(PRECISIONS)}")
    folder, ours = folders.target_folder(files.local_path(folder, "folder"), _written_in)
    loaded.check_weights()
    loaded.check_tokenizer()
    lengths, batches = _lengths(lengths, loaded), _sizes(batches or BATCHES, "--batches")
    call, name, embedding = _forward(loaded)
    names = loaded.body.input_names
    functions = {}
    for length in lengths:
        for batch in batches:
            functions[signature_name("encode", batch, length)] = _traced(call, name, names, [batch, length])
    content = _converted(functions, precision)
    with folders.new_folder(folder, ours) as temporary:
        (temporary / FILE).write_bytes(content)
        loaded.tokenizer.save(temporary)
        write_json(temporary / PORTABLE, loaded.tokenizer.portable())
        config = {key: value for key, value in loaded.config.items() if key not in ("kept", "embedding")}
        body = {key: value for key, value in loaded.body.config.items() if isinstance(value, (int, float, str, bool))}
        write_json(temporary / "config.json", {
            **config, "max_length": lengths[-1], "format_version": FORMAT_VERSION, "embedding": embedding,
            "litert": {"precision": precision, "lengths": lengths, "batches": batches, "inputs": list(names),
                       "output": name, "output_shape": _shape(functions), "body": body,
                       "sha256": hashlib.sha256(content).hexdigest()},
            "files": sorted([*folders.names_in(temporary), "config.json"])})
    return {"bytes": len(content), "signatures": list(functions)}


def _shape(functions):
    # The shape of the output: a list of int, with null for what depends on the signature.
    one = next(iter(functions.values()))
    first, *shape = one.outputs[0].shape.as_list()
    return [None, *((None, shape[-1]) if len(shape) == 2 else shape)]


def _written_in(folder):
    from tfzoo.litert.runner import read_config
    try:
        return read_config(folder)["files"]
    except (OSError, ValueError, KeyError):
        return None


def _sizes(values, flag):
    if not values or any(type(value) is not int or value < 1 for value in values):
        raise ConfigError(f"{flag} must be positive integers, got {', '.join(map(str, values)) or 'nothing'}")
    return sorted(set(values))


def _lengths(given, loaded):
    longest, positions = loaded.config["max_length"], loaded.body.config["max_length"]
    if given is None:
        given = [length for length in LENGTHS if length < longest] + [min(longest, LENGTHS[-1])]
    lengths = _sizes(given, "--lengths")
    if lengths[-1] > positions:
        raise ConfigError(f"--lengths={lengths[-1]} exceeds the model's {positions} positions")
    loaded.tokenizer.room(lengths[0], 2 if loaded.task is not None and loaded.task.paired else 1)
    return lengths


def _forward(loaded):
    # (function from inputs to a tensor, the name of that tensor, settings of embedding or None).
    task = loaded.task
    if loaded.body.traits.source:
        raise ConfigError("--format=litert does not support encoder-decoders yet: use --format=saved_model")
    if task is not None and (task.name == "causal_lm" or not task.exports):
        raise ConfigError(f"--format=litert does not support {task.name} yet: use --format=saved_model")
    if task is not None and task.embedding is None:
        if type(task).answers is Task.answers:
            loaded.check_answers()
        return lambda inputs: loaded.model(inputs, training=False)["logits"], "logits", None
    how = loaded.embedding or PLAIN
    if how["problem"]:
        raise ConfigError(how["problem"])
    skipped = loaded.skipped_by(how)
    return lambda inputs: pool(loaded.body(inputs, training=False)["sequence"], inputs["padding_mask"], how, skipped), \
        "embedding", how


def _traced(call, output, names, shape):
    def run(*inputs):
        return {output: call(dict(zip(names, inputs)))}

    return tf.function(run, autograph=False).get_concrete_function(
        *(tf.TensorSpec(shape, tf.int32, name=name) for name in names))


def _converted(functions, precision):
    # The content of model.tflite: bytes.
    with tempfile.TemporaryDirectory(prefix="tfzoo-litert-") as folder:
        used = {id(variable): variable for one in functions.values() for variable in one.graph.variables}
        tf.saved_model.save(tf.train.Checkpoint(variables=list(used.values())), folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = converter.convert()
        except Exception as error:  # the converter's own error quotes the whole graph
            lines = [line for line in str(error).splitlines() if "error:" in line] or str(error).splitlines()
            raise ConfigError("this model cannot be converted to LiteRT: "
                              f"{(lines or [type(error).__name__])[0][:200]}") from None
    if len(content) > LARGEST:
        raise ConfigError(f"the LiteRT file would have {len(content):,} bytes, but may have at most {LARGEST:,}: use "
                          "--precision=int8")
    return content
