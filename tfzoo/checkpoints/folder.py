"""Model folders: `model.keras`, the tokenizer's files and `config.json`, written atomically.

Folders of Hugging Face's transformers are read and written too, see huggingface.py.
"""
import json

import tensorflow as tf

from tfzoo import files, folders
from tfzoo.checkpoints import huggingface, keras_nlp, sentence_transformers
from tfzoo.checkpoints.archive import read_archive
from tfzoo.checkpoints.hub import PREFIX, download
from tfzoo.checkpoints.loaded import Loaded
from tfzoo.checkpoints.tensors import INDEX, ONE, files_of_ours, read_json
from tfzoo.errors import ConfigError, DataError, UnknownKind, reason_of, shown
from tfzoo.layers import shapes_only
from tfzoo.models import Body, build_body, family_of
from tfzoo.tasks import TaskModel
from tfzoo.tasks.build import put_head
from tfzoo.text import load_tokenizer
from tfzoo.text.load import VOCABULARIES

FORMAT_VERSION = 1
KEYS = ("model", "task", "settings", "labels", "max_length", "format_version")
OPTIONAL = ("kept", "embedding", "end_ids")
VOCABULARY_BYTES = 100_000_000
FORMATS = ("tfzoo", "huggingface")
WEIGHTS = {"model.keras", ONE, INDEX, sentence_transformers.MODULES}


def save(loaded, folder, format="tfzoo"):
    """Save a model with its tokenizer and settings.

    Args:
        loaded: Loaded; or a model from `tfzoo.build`, which has no tokenizer.
        folder: str or path; new, empty, or written by this function: its earlier files are replaced, files that tfzoo
            did not write are kept.
        format: "tfzoo", or "huggingface" for a folder that transformers loads.

    Raises:
        ConfigError: an unknown format, or one that cannot hold the model; a model that is not tfzoo's, or does not
            fit its task and labels; a folder with other content, or with a file not written by tfzoo that would be
            overwritten, or read instead of the new ones.
        OSError: writing failed. In either case the previous content is kept.
    """
    if format not in FORMATS:
        raise ConfigError(f"format is {format!r}: allowed are {', '.join(FORMATS)}")
    loaded = loaded if isinstance(loaded, Loaded) else _loaded_of(loaded)
    try:
        _check(loaded, "the model")
    except DataError as error:
        raise ConfigError(f"the saved model could not be loaded ({reason_of(error, 200)}): build it with "
                          "tfzoo.build") from None
    folder, ours = folders.target_folder(files.local_path(folder, "folder"), _written_in)
    with folders.new_folder(folder, ours) as temporary:
        if loaded.tokenizer is not None:
            loaded.tokenizer.save(temporary)
        if format == "huggingface":
            huggingface.write(loaded, temporary)
        else:
            loaded.model.save(temporary / "model.keras")
            config = {**loaded.config, "format_version": FORMAT_VERSION,
                      "files": sorted([*folders.names_in(temporary), "config.json"])}
            (temporary / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n",
                                                   encoding="utf-8")
        _check_others(folder, folders.names_in(temporary), ours=ours)


def _written_in(folder):
    try:
        config = read_json(folder / "config.json")
    except (OSError, DataError):
        return None
    if not (folder / "model.keras").is_file() or "format_version" not in config or "model" not in config:
        return files_of_ours(folder)
    names = config.get("files")
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if known else {"model.keras", "config.json", *VOCABULARIES}  # earlier releases did not list them


def _check_others(folder, written, ours):
    for kind in (WEIGHTS, VOCABULARIES):
        strange = sorted(name for name in kind - written - ours if (folder / name).exists()) if kind & written else ()
        if strange:
            raise ConfigError(f"{folder / strange[0]} was not written by tfzoo, and would be read together with the "
                              f"new {min(kind & written)}: move it, or give another folder")


def _loaded_of(model):
    body = model.body if isinstance(model, TaskModel) else model
    if hasattr(body, "name"):
        family_of(body.name)  # refuses unknown names
    if not isinstance(body, Body):
        raise ConfigError(f"the model is a {type(model).__name__}: allowed are models of tfzoo.build and tfzoo.load")
    if body is not model and model.task is None:
        raise ConfigError(f"{model.name} has a head, but no task: build it with tfzoo.build, or pass a task to "
                          "TaskModel")
    task = None if body is model else model.task
    return Loaded(model, None, {
        "model": body.name, "task": task and task.name, "labels": task and task.labels,
        "settings": task.settings if task else {}, "max_length": body.config["max_length"]})


def load(source, dtype=None):
    """Load a model with its tokenizer and settings; no code in the folder is run.

    Args:
        source: str or path, a folder written by `save` or a training run (a run folder stands for its `model/`), or
            one of Hugging Face's transformers with safetensors or tf_model.h5; or "hf:ID" for their hub, or
            "keras_nlp:PRESET" (a name or a folder): only these two may use the network.
        dtype: str, the dtype policy to compute in; None keeps the saved one, or Keras' global one for other formats.

    Returns:
        Loaded.

    Raises:
        FileNotFoundError: no such folder, or no model in it. ConfigError: a malformed "hf:ID", or an address instead of
            a path. DataError: damaged files (the vocabulary included), another format version, an architecture that
            tfzoo does not have, or weights that are not finite. If there is no vocabulary or its kind is unknown, or if
            a tokenizer that tfzoo did not write has more ids than the model's table has rows, the model is loaded
            without a tokenizer.
    """
    loaded = _read(source, dtype)
    for weight in loaded.model.weights:
        # The sum first, since it needs no memory: is_finite, or NumPy, takes as much as the weight.
        if not tf.math.is_finite(tf.reduce_sum(weight.value)) and not tf.reduce_all(tf.math.is_finite(weight.value)):
            raise DataError(f"{source} has weights that are not finite ({weight.path}): its training diverged; use "
                            "another checkpoint")
    return loaded


def _read(source, dtype):
    if str(source).startswith(keras_nlp.PREFIX):
        model, tokenizer, problem, config = keras_nlp.read(str(source), dtype)
        return Loaded(model, tokenizer, {"format_version": FORMAT_VERSION, **config}, tokenizer_problem=problem)
    folder = download(source) if str(source).startswith(PREFIX) else files.local_path(source, "the model's folder")
    if (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    outer, folder = folder, sentence_transformers.transformer_of(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no model folder at {source}: allowed are a finished run's folder, its model/, one of "
                                "Hugging Face's transformers, hf:ID and keras_nlp:PRESET")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{source} has no config.json with model.keras or safetensors: allowed are a finished "
                                "run's folder, its model/, and one of Hugging Face's transformers")
    config = read_json(folder / "config.json")
    if not (folder / "model.keras").is_file():
        if "model_type" not in config and not any((*folder.glob("*.safetensors"), *folder.glob("*.h5"))):
            raise FileNotFoundError(f"{source} has no model.keras: allowed are a finished run's folder, its model/, "
                                    "and one of Hugging Face's transformers")
        chain = (outer / sentence_transformers.MODULES).is_file()
        model, config, dropped = huggingface.read(folder, dtype, bare=chain)
        tokenizer, problem = _tokenizer_of(folder, model, bare=True)
        if chain:
            config["embedding"], config["max_length"] = sentence_transformers.read(outer, model)
        return Loaded(model, tokenizer, config={"format_version": FORMAT_VERSION, **config}, dropped=dropped,
                      tokenizer_problem=problem)
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        raise DataError(f"{folder} has format version {shown(version)}: this tfzoo reads {FORMAT_VERSION}")
    missing = [key for key in KEYS if key not in config]
    if missing:
        raise DataError(f"{folder / 'config.json'} is damaged (no {missing[0]}): get a fresh copy of the folder")
    model = read_archive(folder / "model.keras")
    loaded = Loaded(model, None, {key: config[key] for key in (*KEYS, *OPTIONAL) if key in config})
    _check(loaded, folder / "config.json")
    loaded.tokenizer, loaded.tokenizer_problem = _tokenizer_of(folder, model)
    return loaded if dtype in (None, loaded.body.dtype_policy.name) else _cast(loaded, dtype)


def _check(loaded, path):
    # Refuses settings that are invalid, or do not fit the model.
    config, body = loaded.config, loaded.body
    length, longest = config["max_length"], body.config["max_length"]
    labels = config["labels"]
    if type(length) is not int or not 1 <= length <= longest:
        raise DataError(f"{path}: max_length is {shown(length)}: allowed is 1 to the model's {longest}")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise DataError(f"{path}: labels is {shown(labels)}: allowed are null and a list of names")
    ends = config.get("end_ids", [])
    if not isinstance(ends, list) or not all(type(end) is int and 0 <= end < body.config["vocab_size"] for end in ends):
        raise DataError(f"{path}: end_ids is {shown(ends)}: allowed is a list of ids below {body.config['vocab_size']}")
    if not isinstance(config.get("kept", {}), dict):
        raise DataError(f"{path}: kept is {shown(config['kept'])}: allowed is an object")
    sentence_transformers.checked(config.get("embedding", sentence_transformers.PLAIN), path)
    if not isinstance(config["model"], str) or not isinstance(config["settings"], dict) or (
            config["task"] is None) != (body is loaded.model):
        raise DataError(f"{path}: model is {shown(config['model'])}, task is {shown(config['task'])}, settings is "
                        f"{shown(config['settings'])}: allowed are names and an object, and no task for a bare body")
    try:
        if not isinstance(body, family_of(config["model"]).body):
            raise ConfigError(f"model is {config['model']!r}, but model.keras holds a {type(body).__name__}")
        if loaded.task is None:
            return
        loaded.task.check_family(config["model"])
        with shapes_only():
            head = loaded.task.head(body, body.config["dropout"])
    except (ConfigError, TypeError, KeyError) as error:  # TypeError, KeyError: unknown or missing settings
        raise DataError(f"{path} is damaged ({reason_of(error)}): get a fresh copy of the folder") from None
    if loaded.model.task is None:  # files of earlier releases do not hold it
        loaded.model.task = loaded.task
    there = loaded.model.head
    if type(there) is not type(head) or any(
            there.config.get(key) != head.config.get(key) for key in ("num_labels", "next_sentence")):
        raise DataError(f"{path}: task {config['task']}, settings {shown(config['settings'])} and labels "
                        f"{shown(labels)} do not match model.keras: get a fresh copy of the folder")


def _tokenizer_of(folder, model, bare=False):
    # Returns (Tokenizer or None, why there is none).
    for path in (folder / name for name in sorted(VOCABULARIES)):
        if path.is_file() and path.stat().st_size > VOCABULARY_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes: allowed are {VOCABULARY_BYTES:,}")
    try:
        tokenizer = load_tokenizer(folder, bare=bare)
    except (FileNotFoundError, UnknownKind) as error:  # the weights are still usable
        return None, str(error)
    rows = getattr(model, "body", model).config["vocab_size"]
    if tokenizer.vocab_size > rows:  # fewer ids are common: tables are padded
        problem = (f"{folder}: the tokenizer has {tokenizer.vocab_size:,} ids, but the model's table has {rows:,} "
                   "rows: allowed is at most one id per row; get fresh copies of both")
        if bare:  # not written by tfzoo: the weights are still usable
            return None, problem
        raise DataError(problem)
    return tokenizer, None


def _cast(loaded, dtype):
    body = type(loaded.body).from_config({**loaded.body.get_config(), "dtype": dtype})
    model = body
    if isinstance(loaded.model, TaskModel):
        head = loaded.model.head
        model = TaskModel(body, type(head).from_config({**head.get_config(), "dtype": dtype}), loaded.model.task,
                          name=loaded.model.name)
    for one, other in zip(model.weights, loaded.model.weights, strict=True):
        one.assign(other)
    return Loaded(model, loaded.tokenizer, config=loaded.config, dropped=loaded.dropped,
                  tokenizer_problem=loaded.tokenizer_problem)


def with_head(loaded, task, dtype=None, **overrides):
    """Put a head for a task on a loaded body: its own head if task and labels match, else a fresh one.

    Args:
        loaded: Loaded.
        task: Task.
        dtype: str, the dtype policy to compute in; None uses Keras' global policy.
        overrides: arguments of the body that change no shape, such as dropout.

    Returns:
        (TaskModel, list of str: paths of fresh weights, list of str: paths of dropped weights).

    Raises:
        ConfigError: an override changes a weight's shape.
    """
    config = {**loaded.body.config, **task.body_arguments(loaded.body), **overrides}
    body = build_body(loaded.config["model"], dtype=dtype, **config)
    body.add_adapters({path: values for path, values in loaded.body.adapters.items() if path in body.linears})
    same = loaded.config["task"] == task.name and loaded.config["labels"] == task.labels
    name = loaded.config["model"]
    rate = family_of(name).head_dropout(task.name, body.config["dropout"], overrides.get("dropout"))
    if same and "dropout" not in overrides:
        rate = loaded.model.head.config.get("dropout", rate)
    model = put_head(body, name, task=task, rate=rate)
    there = {variable.path: variable for variable in (loaded.model if same else loaded.body).weights}
    fresh = []
    for variable in model.weights:  # frozen ones too
        old = there.pop(variable.path, None)
        if old is None:
            fresh.append(variable.path)
        elif old.shape != variable.shape:
            raise ConfigError(f"{variable.path} has shape {tuple(old.shape)} in --init and {tuple(variable.shape)} "
                              "here: omit the --override that changes it")
        else:
            variable.assign(old)
    dropped = list(there)
    if not same and isinstance(loaded.model, TaskModel):
        dropped += [variable.path for variable in loaded.model.head.weights]
    return model, fresh, dropped
