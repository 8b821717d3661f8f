"""A classifier with its tokenizer inside, as a SavedModel that takes strings.

Loading it needs `import tensorflow_text` first, for the tokenizer's ops, and nothing of tfzoo or Keras.
"""
import json
import pathlib
import shutil

import keras
import tensorflow as tf

from tfzoo import files
from tfzoo.errors import ConfigError
from tfzoo.export.predictor import check_classifier


def classify_function(loaded):
    """Return the function that is served: strings to labels and probabilities, the tokenizer included.

    Args:
        loaded: Loaded with a classifier and a tokenizer.

    Returns:
        Function of texts, tf.string [B] (and pairs, tf.string [B] or None) to dict: label tf.string [B], probabilities
        float32 [B, C] in the order of the labels.

    Raises:
        ConfigError: where the model is no classifier or has no tokenizer.
    """
    check_classifier(loaded)
    labels = tf.constant(loaded.config["labels"])

    def classify(texts, pairs=None):
        inputs = loaded.tokenizer(texts, pairs, max_length=loaded.config["max_length"])
        probabilities = tf.nn.softmax(loaded.model(inputs)["logits"])
        return {"label": tf.gather(labels, tf.argmax(probabilities, -1)), "probabilities": probabilities}

    return classify


def export_classifier(loaded, folder):
    """Write a SavedModel; it appears whole or not at all.

    Its signatures: `serving_default` takes `text` (strings [B]); `pair` takes `text` and `text_pair`. Both give `label`
    and `probabilities`; the labels in their order are also in `assets.extra/labels.json`.

    Args:
        loaded: Loaded with a classifier and a tokenizer.
        folder: str or path; must not exist yet, or be empty.

    Raises:
        ConfigError: see classify_function; the folder holds something. OSError: it cannot be written.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already: name a new or an empty folder")
    check_classifier(loaded)
    if not loaded.tokenizer.in_graph:
        raise ConfigError(f"a {loaded.tokenizer.kind} tokenizer cannot run inside a SavedModel yet: export a model "
                          "trained with WordPiece or bytes")
    classify = classify_function(loaded)
    archive = keras.export.ExportArchive()
    archive.track(loaded.model)
    text = tf.TensorSpec([None], tf.string, name="text")
    archive.add_endpoint("serving_default", lambda text: classify(text), input_signature=[text])
    archive.add_endpoint("pair", lambda text, text_pair: classify(text, text_pair),
                         input_signature=[text, tf.TensorSpec([None], tf.string, name="text_pair")])
    temporary = files.temporary_path(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        archive.write_out(str(temporary), verbose=False)
        (temporary / "assets.extra").mkdir()
        files.write_atomic(temporary / "assets.extra" / "labels.json",
                           json.dumps(loaded.config["labels"], ensure_ascii=False) + "\n")
        files.replace_folder(temporary, folder)
    except tf.errors.OpError as error:
        raise OSError(f"cannot write {folder}: {error.message.splitlines()[0]}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
