"""Export a model with its tokenizer as a SavedModel that takes strings.

Before loading it, import tensorflow_text, which registers the tokenizer's ops; neither tfzoo nor Keras is required.
"""
import json

import tensorflow as tf

from tfzoo import files, folders
from tfzoo.errors import ConfigError


def serving_function(loaded):
    """Return a function that tokenizes strings, runs the model and returns what the task's `serve` returns.

    Args:
        loaded: Loaded, with a task that makes predictions and a tokenizer that can encode in a graph.

    Returns:
        callable (texts tf.string [B], pairs tf.string [B] or None) -> dict of tensors [B, ...].

    Raises:
        ConfigError: if the model has no such task or tokenizer.
    """
    task = loaded.check_answers()
    if not task.exports:
        raise ConfigError(f"a {task.name} model cannot be exported yet; use predict (experiments.predict)")
    if not loaded.tokenizer.in_graph:
        raise ConfigError(f"a {loaded.tokenizer.kind} tokenizer cannot run in a SavedModel yet; export a model "
                          "trained with WordPiece or bytes")

    def serve(texts, pairs=None):
        batch = task.encode(loaded.tokenizer, texts, max_length=loaded.config["max_length"], pairs=pairs)
        return task.serve(task.predict(loaded.model, batch, loaded.model(batch, training=False)), batch)

    return serve


def export(loaded, folder):
    """Write a SavedModel atomically: either completely or not at all.

    The signature `serving_default` takes `text` (strings [B]); for tasks on text pairs, the signature `pair` takes
    `text` and `text_pair`; for question answering, `serving_default` takes `question` and `context`, and for multiple
    choice `text` and `choices` (strings [B, N], where an empty string is no choice). They return the task's outputs
    (`label` and `probabilities`; `tags`, `starts`, `ends` and `length`; `answer`, `start`, `end` and `score`; or
    `embedding`) and `cut`, the number of truncated tokens. `assets.extra/labels.json` lists the labels in order. The
    object that `tf.saved_model.load` returns has `variables` and `trainable_variables`.

    Args:
        loaded: Loaded, as for `serving_function`.
        folder: str or path, a folder that is empty or does not exist.

    Raises:
        ConfigError: if `serving_function` does not support the model, or the folder is not empty.
        OSError: if the folder cannot be written.
    """
    folder, _ = folders.target_folder(files.local_path(folder, "folder"), lambda _: None)
    serve = serving_function(loaded)
    task = loaded.task
    text, pair = (tf.TensorSpec([None] * (task.axes - 1 if first else 1), tf.string, name=name)
                  for first, name in enumerate(task.text_columns))
    required = task.text_columns[1] in task.schema.inputs
    both = _traced(lambda text, text_pair: serve(text, text_pair), text, pair) if task.paired or required else None
    if required:
        signatures = {"serving_default": both}
    else:
        signatures = {"serving_default": _traced(lambda text: serve(text), text), **({"pair": both} if both else {})}
    try:
        with folders.new_folder(folder) as temporary:
            used = {id(variable): variable for traced in signatures.values() for variable in traced.graph.variables}
            variables = list(used.values())
            root = tf.train.Checkpoint(variables=variables, trainable_variables=[v for v in variables if v.trainable])
            tf.saved_model.save(root, str(temporary), signatures)
            (temporary / "assets.extra").mkdir()
            (temporary / "assets.extra" / "labels.json").write_text(
                json.dumps(loaded.config["labels"], ensure_ascii=False) + "\n", encoding="utf-8")
    except tf.errors.OpError as error:
        raise OSError(f"cannot write {folder}: {error.message.splitlines()[0]}") from error


def _traced(function, *inputs):
    # Concrete functions are saved without retracing; keras.export.ExportArchive would trace each one twice.
    return tf.function(function, autograph=False).get_concrete_function(*inputs)
