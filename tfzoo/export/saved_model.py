"""Export a model with its tokenizer as a SavedModel that takes strings.

Before loading it, import tensorflow_text, which registers the tokenizer's ops; neither tfzoo nor Keras is required.
"""
import dataclasses
import json
import pathlib

import tensorflow as tf

from tfzoo import files, folders
from tfzoo.errors import ConfigError
from tfzoo.export.serving_files import BATCHING, warm_up
from tfzoo.export.writing import GraphWriter, check_in_graph
from tfzoo.layers import context


def serving_function(loaded, stored=None):
    """Return a function that tokenizes strings, runs the model and returns what the task's `serve` returns.

    Args:
        loaded: Loaded, with a task that makes predictions and a tokenizer that can encode in a graph.
        stored: context.Stored, which must live as long as the function; None uses the model's own variables.

    Returns:
        callable (texts tf.string [B], pairs tf.string [B] or None) -> dict of tensors [B, ...].

    Raises:
        ConfigError: if the model has no such task or tokenizer.
    """
    task = loaded.check_answers()
    check_in_graph(loaded.tokenizer)

    def serve(texts, pairs=None):
        batch = task.encode(loaded.tokenizer, texts, max_length=loaded.config["max_length"], pairs=pairs)
        with context.changed(prepared=stored):
            return task.serve(task.predict(loaded.model, batch, loaded.model(batch, training=False)), batch)

    return serve


def _signatures(loaded, stored, options):
    # ({name: tf.function or concrete function}, the columns of a warm-up request, effective options of generation).
    loaded.check_weights()
    task = loaded.task
    if task is not None and (task.name == "causal_lm" or not task.exports):
        writer = GraphWriter(loaded, **options)
        fixed = dataclasses.asdict(dataclasses.replace(writer.options, constraint=None))
        return writer.signatures(), ("text",), {**fixed, **writer.texts}
    if options:
        raise ConfigError(f"--{next(iter(options))} applies to models that generate text, not to "
                          f"{task.name if task else 'a model without a head'}: omit it")
    serve = serving_function(loaded, stored)
    text, pair = (tf.TensorSpec([None] * (task.axes - 1 if first else 1), tf.string, name=name)
                  for first, name in enumerate(task.text_columns))
    required = task.text_columns[1] in task.schema.inputs
    both = _traced(lambda text, text_pair: serve(text, text_pair), text, pair) if task.paired or required else None
    if required:
        return {"serving_default": both}, (text.name, pair.name), None
    signatures = {"serving_default": _traced(lambda text: serve(text), text), **({"pair": both} if both else {})}
    return signatures, (text.name,), None


def live_function(loaded, signature="serving_default", **options):
    """Return the function of a signature that `export` would save, for the live model."""
    return _signatures(loaded, None, options)[0][signature]


def export(loaded, folder, **options):
    """Write a SavedModel for TensorFlow Serving atomically: either completely or not at all.

    It is a new version in the model's folder: `folder`/1, or the number after the largest there. The signature
    `serving_default` takes `text` (strings [B]); for tasks on text pairs, the signature `pair` takes
    `text` and `text_pair`; for question answering, `serving_default` takes `question` and `context`, and for multiple
    choice `text` and `choices` (strings [B, N], where an empty string is no choice). They return the task's outputs
    (`label` and `probabilities`; `tags`, `starts`, `ends` and `length`; `answer`, `start`, `end` and `score`; or
    `embedding`) and `cut`, the number of truncated tokens. For models that generate text, see GraphWriter.signatures.

    `assets.extra` holds `labels.json`, the labels in order; `generation.json`, the options of generation;
    `tf_serving_warmup_requests`, with which the server warms up; and the file of the server's
    `--enable_per_model_batching_params`. The object that `tf.saved_model.load` returns has `variables` and
    `trainable_variables`. A bfloat16 model that does not generate text has its weights in bfloat16 and its norms in
    float32, with adapters merged; none is trainable.

    Args:
        loaded: Loaded, as for `serving_function`, or a model that generates text.
        folder: str or path, a folder that does not exist, is empty or contains only numbered versions.
        options: for models that generate text, see Writer.

    Returns:
        pathlib.Path, the version's folder.

    Raises:
        ConfigError: if the model is not supported, an option is invalid, or the folder contains anything else.
        OSError: if the folder cannot be written.
    """
    folder, held = folders.target_folder(files.local_path(folder, "folder"), _versions)
    # In bfloat16, casting the weights would take as long as the products of a few rows.
    stored = context.Stored() if loaded.body.compute_dtype == "bfloat16" else None
    signatures, columns, generation = _signatures(loaded, stored, options)
    target = folder / str(max((int(name) for name in held), default=0) + 1)
    try:
        with folders.new_folder(target) as temporary:
            traced = [one if hasattr(one, "graph") else one.get_concrete_function() for one in signatures.values()]
            used = {id(variable): variable for one in traced for variable in one.graph.variables}
            variables = list(used.values())
            root = tf.train.Checkpoint(variables=variables, trainable_variables=[v for v in variables if v.trainable],
                                       resources=list(loaded.tokenizer.resources))
            tf.saved_model.save(root, str(temporary), signatures)
            extra = pathlib.Path(temporary) / "assets.extra"
            extra.mkdir()
            texts = {"labels.json": loaded.config["labels"], "generation.json": generation}
            for name, content in texts.items():
                if content is not None or name == "labels.json":
                    (extra / name).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
            (extra / "batching_params.pbtxt").write_text(BATCHING, encoding="utf-8")
            warm_up(extra / "tf_serving_warmup_requests", columns, axes=loaded.task.axes)
    except tf.errors.OpError as error:
        raise OSError(f"cannot write {folder}: {error.message.splitlines()[0]}") from error
    return target


def _versions(folder):
    names = [path.name for path in folder.iterdir() if not path.name.startswith(files.TEMPORARY)]
    return names if all(name.isdecimal() for name in names) else None


def _traced(function, *inputs):
    # Concrete functions are saved without retracing; keras.export.ExportArchive would trace each one twice.
    return tf.function(function, autograph=False).get_concrete_function(*inputs)
