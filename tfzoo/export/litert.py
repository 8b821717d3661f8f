"""Export a model as a LiteRT file, which runs on CPUs without TensorFlow, with its tokenizer and settings.

LiteRT (formerly TensorFlow Lite) has no ops for strings, so the file takes token ids. All shapes are fixed: there is a
signature for each length and batch size. `tfzoo.load` and `tfzoo.litert` run the folder.
"""
import hashlib
import tempfile

import numpy as np
import tensorflow as tf

from tfzoo import files, folders
from tfzoo.checkpoints.tensors import write_json
from tfzoo.checkpoints.writing import Writer, writes_text
from tfzoo.data.batches import check_overlap
from tfzoo.errors import ConfigError
from tfzoo.layers import context
from tfzoo.litert.runner import FILE, FORMAT_VERSION, read_config, signature_name
from tfzoo.litert.tokenizer import FILE as PORTABLE
from tfzoo.progress import tell
from tfzoo.records.words import ranges_of
from tfzoo.tasks import Task
from tfzoo.tasks.embedding import PLAIN, pool
from tfzoo.text.words import kinds_of_code_points

LENGTHS, LONGEST, BATCHES, CACHE = (32, 64, 128), 512, (1, 32), 256
TOKENS = 2 ** 13  # most of a default signature: attention over 32 x 512 is computed in blocks, with 25 MB of zeros
PRECISIONS = ("float32", "float16", "int8")
LARGEST = 2 ** 31 - 1  # bytes; LiteRT's format has 32-bit offsets


def export_litert(loaded, folder, lengths=None, batches=None, precision="float32", cache_length=None):
    """Write a folder with `model.tflite`, the tokenizer's files and `config.json`, completely or not at all.

    For a model that generates text, `prefill_T` takes `token_ids` and `padding_mask` of left-padded prompts, or
    `encoder_token_ids`, `encoder_padding_mask` and `decoder_token_ids` [B, 1]; it returns `logits` float32 [B, V] for
    the next token, and the state of decoding, `state_00` and so on. `decode` takes `token_ids` [B, 1] and the state; it
    returns `logits` and the parts of the state that have changed, of a cache [B, G, S, K] the new column [B, G, 1, K].

    For other models, the signatures `encode_T` (of one row) and `encode_T_batch_B` take `token_ids`, `padding_mask`
    and, if the model has segments, `segment_ids`, int32 [B, T]. They return `logits` float32 [B, ...] or, for a model
    without a head or trained with contrastive learning, `embedding` float32 [B, D].

    Args:
        loaded: Loaded, with a head that makes predictions or generates text, or without a head.
        folder: str or path; must be new, empty, or written by this function.
        lengths: sequence of int, the numbers of tokens T; None for LENGTHS below the model's max_length and this
            length, or LONGEST if it is longer. Longer texts are truncated or split into windows.
        batches: sequence of int, the batch sizes B; None for BATCHES where B x T is up to TOKENS, or for a model that
            generates text for 1 and, if it does so with beams by default, their number.
        cache_length: int, the number of columns for prompt and answer of a model that generates text; None for
            CACHE or, if that is smaller, the model's number of positions.
        precision: str, "float32"; "float16" for weights of half the size; or "int8" for weights of a quarter of the
            size, which are multiplied by activations that are quantized on the fly (dynamic range).

    Returns:
        dict: `bytes` (size of model.tflite), `signatures`, and `max_length` (tokens of a text, or of prompt and
            answer).

    Raises:
        ConfigError: if the model is not supported, an argument is invalid, or the folder contains anything else.
        OSError: if the folder cannot be written.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision={precision} is not available in LiteRT: choose from {', '.join(PRECISIONS)}")
    folder, ours = folders.target_folder(files.local_path(folder, "folder"), _written_in)
    loaded.check_weights()
    loaded.check_tokenizer()
    generates, own = writes_text(loaded), {}
    if cache_length is not None and not generates:
        raise ConfigError(f"--cache_length={cache_length} applies to models that generate text: omit it")
    columns = _cache(cache_length, loaded) if generates else 0
    longest = columns - 1 if generates and not loaded.body.traits.source else loaded.config["max_length"]
    lengths = _lengths(lengths, loaded, longest)
    if loaded.task is not None and loaded.task.name == "tagging":
        own["word_kinds"] = ranges_of(kinds_of_code_points())
    if generates:
        own = _generation(Writer(loaded), columns, lengths)
        rows = max(own["options"].get(name, 1) for name in ("num_beams", "num_return_sequences"))
        batches = _sizes(batches or (1, rows), "--batches")
        if rows > batches[-1]:
            raise ConfigError(f"--batches={','.join(map(str, batches))}: the model generates with {rows} beams or "
                              f"answers by default, each of which is a row: add {rows}")
    most, batches = None if batches else TOKENS, _sizes(batches or BATCHES, "--batches")
    windows = getattr(loaded.task, "long", None) == "windows"
    if windows:
        check_overlap(loaded.task.overlap, loaded.tokenizer.room(lengths[-1], 1), lengths[-1])
    longest = columns if generates and not own["source"] else min(lengths[-1], loaded.config["max_length"])
    if not generates and longest < loaded.config["max_length"]:
        tell(f"texts will be {'split into windows of' if windows else 'truncated to'} {longest} tokens, where the "
             f"model was trained with up to {loaded.config['max_length']}: set --lengths for more")
    with context.changed(compiled=True, lookup=Tables() if precision == "int8" else None):
        functions, name, embedding = _decoding(loaded, lengths, batches, own["cache_length"]) if generates else \
            _encoding(loaded, lengths, batches, most)
    content = _converted(functions, precision)
    with folders.new_folder(folder, ours) as temporary:
        (temporary / FILE).write_bytes(content)
        loaded.tokenizer.save(temporary)
        write_json(temporary / PORTABLE, loaded.tokenizer.portable())
        kept = {key: value for key, value in loaded.config.items() if key not in ("kept", "embedding")}
        body = {key: value for key, value in loaded.body.config.items() if isinstance(value, (int, float, str, bool))}
        write_json(temporary / "config.json", {
            **kept, "max_length": longest, "format_version": FORMAT_VERSION, "embedding": embedding,
            "litert": {"precision": precision, "lengths": lengths, "batches": batches, **own,
                       "inputs": list(loaded.body.input_names), "output": name, "output_shape": _shape(functions),
                       "body": body, "sha256": hashlib.sha256(content).hexdigest(),
                       "tokenizer": loaded.tokenizer.fingerprint,
                       "tokenizer_sha256": hashlib.sha256((temporary / PORTABLE).read_bytes()).hexdigest()},
            "files": sorted([*folders.names_in(temporary), "config.json"])})
    return {"bytes": len(content), "signatures": list(functions), "max_length": longest}


def _generation(writer, columns, lengths):
    # What decoding needs to know: dict.
    source, new_tokens = writer.loaded.body.traits.source, writer.options.max_new_tokens
    most = columns - 1 if source else min(columns // 2, columns - lengths[0])
    return {"cache_length": columns, "source": source, "options": writer.defaults, "samples": writer.samples,
            "new_tokens": max(1, min(new_tokens, most))}


def _shape(functions):
    # The shape of the output: a list of int, with null for what depends on the signature.
    one = next(iter(functions.values()))
    first, *shape = one.outputs[0].shape.as_list()
    return [None, *((None, shape[-1]) if len(shape) == 2 else shape)]


class Tables:
    """Look up embeddings in int8 with a scale for each row, as LiteRT stores the table of a projection.

    LiteRT quantizes projections by row but looked-up tables as a whole; so the table of a model that also projects to
    it is stored once instead of twice, and vectors are more exact.
    """

    def __init__(self):
        self._made = {}

    def __call__(self, table, ids):
        """Return the rows of `table`, a variable [V, D], for ids of any shape: float32 [..., D]."""
        if id(table) not in self._made:
            with tf.init_scope():
                values = np.asarray(table.value, np.float32)
            scales = np.maximum(np.abs(values).max(1).astype(np.float64), 1e-30) / 127
            # Rounded as by the converter, in double precision: one other number, and the table is stored twice.
            rows = np.stack([np.sign(row) * np.floor(np.abs(row / scale) + 0.5) for row, scale in zip(values, scales)])
            self._made[id(table)] = np.clip(rows, -127, 127).astype(np.int8), scales.astype(np.float32)
        rows, scales = self._made[id(table)]
        # Scales are stored as integers, since the converter would quantize them.
        found = tf.bitcast(tf.gather(tf.constant(scales.view(np.int32)), ids), tf.float32)
        return tf.cast(tf.gather(tf.constant(rows), ids), tf.float32) * found[..., None]


def _written_in(folder):
    try:
        return read_config(folder)["files"]
    except (OSError, ValueError, KeyError):
        return None


def _sizes(values, flag):
    if not values or any(type(value) is not int or value < 1 for value in values):
        raise ConfigError(f"{flag} must be positive integers, got {', '.join(map(str, values)) or 'nothing'}")
    return sorted(set(values))


def _cache(given, loaded):
    positions = loaded.body.config["max_length"]
    wanted = getattr(loaded.task, "max_target_length", None) if loaded.body.traits.source else None
    length = min(wanted + 1 if wanted else CACHE, positions) if given is None else given
    if type(length) is not int or not 2 <= length <= positions:
        raise ConfigError(f"--cache_length={length} must be from 2 to the model's {positions} positions")
    return length


def _lengths(given, loaded, longest):
    positions = loaded.body.config["max_length"]
    if given is None:
        given = [length for length in LENGTHS if length < longest] + [min(longest, LONGEST)]
    lengths = _sizes(given, "--lengths")
    if lengths[-1] > positions:
        raise ConfigError(f"--lengths={lengths[-1]} exceeds the model's {positions} positions")
    if writes_text(loaded) and lengths[-1] > longest:
        raise ConfigError(f"--lengths={lengths[-1]} leaves no room for an answer in --cache_length={longest + 1}")
    loaded.tokenizer.room(lengths[0], 2 if loaded.task is not None and loaded.task.paired else 1)
    return lengths


def _encoding(loaded, lengths, batches, most):
    # ({signature: concrete function}, the name of their output, settings of embedding or None). Beyond the smallest
    # batch, signatures of more than `most` tokens are omitted (None: none is).
    call, name, embedding = _forward(loaded)
    names = loaded.body.input_names

    def run(*inputs):
        return {name: call(dict(zip(names, inputs)))}

    return {signature_name("encode", batch, length): _traced(run, {each: [batch, length] for each in names})
            for length in lengths for batch in batches
            if most is None or batch == batches[0] or batch * length <= most}, name, embedding


def _decoding(loaded, lengths, batches, columns):
    # The same for a model that generates text.
    body, functions = loaded.body, {}
    names = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids") if body.traits.source else (
        "token_ids", "padding_mask")

    def logits_of(outputs):
        return loaded.model.logits({"sequence": outputs["sequence"][:, -1:]})[:, 0]

    def prefill(*inputs):
        outputs, state = body.start(dict(zip(names, inputs)), columns)
        if body.traits.source:  # all lengths of sources share the signature `decode`
            room = lengths[-1] - state["source_mask"].shape[1]
            state = {**state, "source_mask": tf.pad(state["source_mask"], [[0, 0], [0, room]]),
                     "source": tf.nest.map_structure(
                         lambda each: tf.pad(each, [[0, 0], [0, 0], [0, room], [0, 0]]), state["source"])}
        functions["state"] = state
        return {"logits": logits_of(outputs), **_flat(state)}

    def decode(token_ids, *given):
        state = tf.nest.pack_sequence_as(functions["state"], given)
        column = state["column"]
        outputs, state = body.step(token_ids, state)
        # The new column instead of the whole cache, which would take as long to copy as a token to compute.
        return {"logits": logits_of(outputs), **{
            name: tf.slice(value, [0, 0, column, 0], [*value.shape[:2], 1, value.shape[3]])
            if value.shape.rank == 4 else value
            for (name, value), before in zip(_flat(state).items(), given) if value is not before}}

    for batch in batches:
        for length in lengths:
            shapes = {name: [batch, 1 if name == "decoder_token_ids" else length] for name in names}
            functions[signature_name("prefill", batch, length)] = _traced(prefill, shapes)
        flat = _flat(functions["state"])
        functions[signature_name("decode", batch)] = _traced(
            decode, {"token_ids": [batch, 1], **{name: value.shape for name, value in flat.items()}},
            {name: value.dtype for name, value in flat.items()})
    del functions["state"]
    return functions, "logits", None


def _flat(state):
    return {f"state_{number:02d}": value for number, value in enumerate(tf.nest.flatten(state))}


def _forward(loaded):
    # (function from inputs to a tensor, the name of that tensor, settings of embedding or None).
    task = loaded.task
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


def _traced(run, shapes, dtypes={}):
    return tf.function(run, autograph=False).get_concrete_function(
        *(tf.TensorSpec(shape, dtypes.get(name, tf.int32), name=name) for name, shape in shapes.items()))


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
