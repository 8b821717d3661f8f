"""Save and load model folders: `model.keras`, the tokenizer's files and `config.json`, written atomically.

Folders in the format of Hugging Face's transformers can also be read and written; see huggingface.py.
"""

import tensorflow as tf

from tfzoo import files, folders
from tfzoo.checkpoints import huggingface, keras_nlp, sentence_transformers
from tfzoo.checkpoints.archive import read_archive
from tfzoo.checkpoints.hub import PREFIX, download
from tfzoo.checkpoints.loaded import Loaded
from tfzoo.checkpoints.tensors import INDEX, ONE, check_keys, files_of_ours, read_json, write_json
from tfzoo.errors import ConfigError, DataError, UnknownKind, reason_of, shown
from tfzoo.layers import shapes_only
from tfzoo.litert.runner import FILE
from tfzoo.models import Body, build_body, family_of
from tfzoo.tasks import TaskModel
from tfzoo.tasks.build import put_head
from tfzoo.tasks.embedding import PLAIN, checked
from tfzoo.text import load_tokenizer
from tfzoo.text.load import VOCABULARIES

FORMAT_VERSION = 1
KEYS = ("model", "task", "settings", "labels", "max_length", "format_version")
OPTIONAL = ("kept", "embedding", "end_ids", "generation")
VOCABULARY_BYTES = 100_000_000
FORMATS = ("tfzoo", "huggingface")
OF_HEADS = ("num_labels", "next_sentence", "pooling", "embedding", "projected")  # arguments that tasks determine
WEIGHTS = {"model.keras", ONE, INDEX, sentence_transformers.MODULES}


def save(loaded, folder, format="tfzoo"):
    """Save a model with its tokenizer and settings.

    Args:
        loaded: Loaded, or a model from `tfzoo.build`, which has no tokenizer.
        folder: str or path; must be new, empty, or written by this function. Files from an earlier save are replaced;
            files that tfzoo did not write are kept.
        format: str, "tfzoo", or "huggingface" for a folder that transformers can load.

    Raises:
        ConfigError: if the format is unknown or cannot represent the model; if the model is not from tfzoo or does not
            match its task and labels; or if the folder has other content, or a file not written by tfzoo would
            be overwritten or would be read instead of the new files. The previous content is kept.
        OSError: if writing fails; the previous content is kept.
    """
    if format not in FORMATS:
        raise ConfigError(f"format is {format!r}, but must be one of {', '.join(FORMATS)}")
    loaded = loaded if isinstance(loaded, Loaded) else _loaded_of(loaded)
    loaded.check_weights()
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
            write_json(temporary / "config.json", config)
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
    return names if known else {"model.keras", "config.json", *VOCABULARIES}  # earlier releases did not list the files


def _check_others(folder, written, ours):
    for kind in (WEIGHTS, VOCABULARIES):
        strange = sorted(name for name in kind - written - ours if (folder / name).exists()) if kind & written else ()
        if strange:
            raise ConfigError(f"{folder / strange[0]} was not written by tfzoo and would be read together with the "
                              f"new {min(kind & written)}: move it, or choose another folder")


def _loaded_of(model):
    body = model.body if isinstance(model, TaskModel) else model
    if hasattr(body, "name"):
        family_of(body.name)  # rejects unknown names
    if not isinstance(body, Body):
        raise ConfigError(f"the model is a {type(model).__name__}, but must come from tfzoo.build or tfzoo.load")
    if body is not model and model.task is None:
        raise ConfigError(f"{model.name} has a head but no task: build it with tfzoo.build, or pass a task to "
                          "TaskModel")
    task = None if body is model else model.task
    return Loaded(model, None, {
        "model": body.name, "task": task and task.name, "labels": task and task.labels,
        "settings": task.settings if task else {}, "max_length": body.config["max_length"]})


def load(source, dtype=None):
    """Load a model with its tokenizer and settings; no code from the folder is run.

    The model is loaded without a tokenizer if the vocabulary is missing or of an unknown kind, or if tfzoo did not
    write the folder and the tokenizer has more token ids than the embedding table has rows.

    Args:
        source: str or path: a folder written by `save` or by a training run (given a run folder, its `model/` is
            loaded); a Hugging Face transformers folder with safetensors or tf_model.h5; "hf:ID" for a model on the
            Hugging Face Hub; or "keras_nlp:PRESET", where PRESET is the name or folder of a keras-nlp preset. Only the
            last two may use the network.
        dtype: str, the dtype policy for computation; None uses the saved policy, or Keras' global policy for formats
            other than tfzoo's.

    Returns:
        Loaded.

    Raises:
        FileNotFoundError: if the folder does not exist or has no model.
        ConfigError: if an "hf:ID" is malformed, or the path is a URL.
        DataError: if a file is damaged (including the vocabulary), the format version or the architecture is not
            supported, or a weight is not finite.
    """
    loaded = _read(source, dtype)
    for weight in loaded.model.weights:
        if not is_finite(weight):
            raise DataError(f"{source} has weights that are not finite ({weight.path}), probably because training "
                            "diverged: use another checkpoint")
    return loaded


def is_finite(weight):
    """Return whether all numbers in a weight, a Keras variable, are finite: bool."""
    # Try the sum first, which needs no memory; tf.math.is_finite and NumPy would allocate as much as the weight.
    return bool(tf.math.is_finite(tf.reduce_sum(weight.value)) or tf.reduce_all(tf.math.is_finite(weight.value)))


def _read(source, dtype):
    if str(source).startswith(keras_nlp.PREFIX):
        model, tokenizer, problem, config = keras_nlp.read(str(source), dtype)
        return Loaded(model, tokenizer, {"format_version": FORMAT_VERSION, **config}, tokenizer_problem=problem)
    folder = download(source) if str(source).startswith(PREFIX) else files.local_path(source, "the model's folder")
    if (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    outer, folder = folder, sentence_transformers.transformer_of(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no model folder at {source}: expected the folder of a finished run, its model/, a "
                                "folder of Hugging Face's transformers, hf:ID or keras_nlp:PRESET")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{source} has no config.json with model.keras or safetensors: expected the folder of "
                                "a finished run, its model/, or a folder of Hugging Face's transformers")
    config = read_json(folder / "config.json")
    if (folder / FILE).is_file() and "litert" in config:
        from tfzoo.checkpoints.litert import LoadedFile
        if dtype is not None:
            raise ConfigError(f"{source} is a LiteRT file, whose precision was fixed at export: omit --precision")
        return LoadedFile(folder, load_tokenizer(folder))
    if not (folder / "model.keras").is_file():
        if "model_type" not in config and not any((*folder.glob("*.safetensors"), *folder.glob("*.h5"))):
            raise FileNotFoundError(f"{source} has no model.keras: expected the folder of a finished run, its model/, "
                                    "or a folder of Hugging Face's transformers")
        chain = (outer / sentence_transformers.MODULES).is_file()
        model, config, dropped = huggingface.read(folder, dtype, bare=chain)
        tokenizer, problem = _tokenizer_of(folder, model, bare=True)
        if chain:
            config["embedding"], config["max_length"] = sentence_transformers.read(outer, model)
        return Loaded(model, tokenizer, config={"format_version": FORMAT_VERSION, **config}, dropped=dropped,
                      tokenizer_problem=problem)
    check_keys(config, folder / "config.json", FORMAT_VERSION, KEYS)
    model = read_archive(folder / "model.keras")
    loaded = Loaded(model, None, {key: config[key] for key in (*KEYS, *OPTIONAL) if key in config})
    _check(loaded, folder / "config.json")
    loaded.tokenizer, loaded.tokenizer_problem = _tokenizer_of(folder, model)
    return loaded if dtype in (None, loaded.body.dtype_policy.name) else _cast(loaded, dtype)


def _check(loaded, path):
    # Rejects settings that are invalid or do not match the model.
    config, body = loaded.config, loaded.body
    length, longest = config["max_length"], body.config["max_length"]
    labels = config["labels"]
    if type(length) is not int or not 1 <= length <= longest:
        raise DataError(f"{path}: max_length is {shown(length)}, but must be from 1 to the model's {longest}")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise DataError(f"{path}: labels is {shown(labels)}, but must be null or a list of names")
    ends = config.get("end_ids", [])
    if not isinstance(ends, list) or not all(type(end) is int and 0 <= end < body.config["vocab_size"] for end in ends):
        raise DataError(f"{path}: end_ids is {shown(ends)}, but must be a list of token ids below "
                        f"{body.config['vocab_size']}")
    for name in ("kept", "generation"):
        if not isinstance(config.get(name, {}), dict):
            raise DataError(f"{path}: {name} is {shown(config[name])}, but must be an object")
    checked(config.get("embedding", PLAIN), path)
    if not isinstance(config["model"], str) or not isinstance(config["settings"], dict) or (
            config["task"] is None) != (body is loaded.model):
        raise DataError(f"{path}: model is {shown(config['model'])}, task is {shown(config['task'])}, settings is "
                        f"{shown(config['settings'])}, but model and task must be names (task null for a bare body) "
                        "and settings an object")
    try:
        if not isinstance(body, family_of(config["model"]).body):
            raise ConfigError(f"model is {config['model']!r}, but model.keras contains a {type(body).__name__}")
        if loaded.task is None:
            return
        loaded.task.check_family(config["model"])
        with shapes_only():
            head = loaded.task.head(body, body.config["dropout"])
    except (ConfigError, TypeError, KeyError) as error:  # TypeError, KeyError: unknown or missing settings
        raise DataError(f"{path} is damaged ({reason_of(error)}): download or copy the folder again") from None
    if loaded.model.task is None:  # earlier releases did not save it in model.keras
        loaded.model.task = loaded.task
    there = loaded.model.head
    if type(there) is not type(head) or any(there.config.get(key) != head.config.get(key) for key in OF_HEADS):
        raise DataError(f"{path}: task {config['task']}, settings {shown(config['settings'])} and labels "
                        f"{shown(labels)} do not match model.keras: download or copy the folder again")


def _tokenizer_of(folder, model, bare=False):
    # Returns (Tokenizer or None, the reason if it is None).
    for path in (folder / name for name in sorted(VOCABULARIES)):
        if path.is_file() and path.stat().st_size > VOCABULARY_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, but may have at most {VOCABULARY_BYTES:,}")
    try:
        tokenizer = load_tokenizer(folder, bare=bare)
    except (FileNotFoundError, UnknownKind) as error:  # the weights are still usable
        return None, str(error)
    rows = getattr(model, "body", model).config["vocab_size"]
    if tokenizer.vocab_size > rows:  # fewer ids are common, since tables are padded
        problem = (f"{folder}: the tokenizer has {tokenizer.vocab_size:,} ids, but the model's embedding table has "
                   f"only {rows:,} rows: download or copy both again")
        if bare:  # tfzoo did not write the folder, and the weights are still usable
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
    """Put a task head on a loaded body: the loaded head if its task and labels match, else a newly initialized one.

    Args:
        loaded: Loaded.
        task: Task.
        dtype: str, the dtype policy for computation, or None for Keras' global policy.
        **overrides: arguments of the body that do not change the shape of a weight, such as dropout.

    Returns:
        (TaskModel, list of str, list of str): the model, the paths of its newly initialized weights, and the paths of
        the loaded weights that it does not use.

    Raises:
        ConfigError: if an override changes the shape of a weight.
    """
    loaded.check_weights()
    config = {**loaded.body.config, **task.body_arguments(loaded.body), **overrides}
    body = build_body(loaded.config["model"], dtype=dtype, **config)
    body.add_adapters({path: values for path, values in loaded.body.adapters.items() if path in body.linears})
    same = loaded.task is not None and loaded.config["labels"] == task.labels and (
        loaded.task.head_of or loaded.task.name) == (task.head_of or task.name) and (
        loaded.task.settings.get("pooling", "auto") == task.settings.get("pooling", "auto"))
    name = loaded.config["model"]
    rate = family_of(name).head_dropout(task.name, body.config["dropout"], overrides.get("dropout"))
    if same and "dropout" not in overrides:
        rate = loaded.model.head.config.get("dropout", rate)
    model = put_head(body, name, task=task, rate=rate)
    there = {variable.path: variable for variable in (loaded.model if same else loaded.body).weights}
    fresh = []
    for variable in model.weights:  # including frozen weights
        old = there.pop(variable.path, None)
        if old is None:
            fresh.append(variable.path)
        elif old.shape != variable.shape:
            raise ConfigError(f"{variable.path} has shape {tuple(old.shape)} in --init, but {tuple(variable.shape)} "
                              "in the new model: omit the --override that changes it")
        else:
            variable.assign(old)
    dropped = list(there)
    if not same and isinstance(loaded.model, TaskModel):
        dropped += [variable.path for variable in loaded.model.head.weights]
    return model, fresh, dropped
