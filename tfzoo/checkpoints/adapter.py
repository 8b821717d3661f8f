"""Adapter folders: the weights that a method trained on top of a frozen base model.

`adapter.safetensors` contains all trained weights (the adapters and the head) by path. `adapter_config.json` contains
the method and its settings, the task, and the SHA-256 hash of the base model's weights. The format differs from PEFT's.
"""
import json

import numpy as np
from safetensors.numpy import save_file

from tfzoo import files, folders
from tfzoo.checkpoints.folder import with_head
from tfzoo.checkpoints.loaded import Loaded
from tfzoo.checkpoints.tensors import TensorFile, check_keys, read_json
from tfzoo.errors import ConfigError, DataError, reason_of, shown
from tfzoo.methods import hash_base, method_of
from tfzoo.methods.method import split
from tfzoo.tasks import task_of

FORMAT_VERSION = 1
TENSORS, CONFIG = "adapter.safetensors", "adapter_config.json"
KEYS = ("method", "settings", "base_sha256", "model", "task", "labels", "task_settings", "max_length")


def write_adapter(loaded, method, folder, base=None):
    """Write the trained weights of a model to an adapter folder.

    Args:
        loaded: Loaded, whose model has been prepared by the method but not merged.
        method: Method.
        folder: str or path; must be new, empty, or written by this function. Files that tfzoo did not write are kept.
        base: str, the SHA-256 hash of the frozen weights from `hash_base`, or None to compute it.

    Raises:
        ConfigError: if no weight is frozen (so there is no base model), or if the folder has other content.
        OSError: if writing fails; the previous content is kept.
    """
    trained, frozen = split(loaded.model)
    if not frozen:
        raise ConfigError(f"{method.name} trains all weights, but an adapter requires a frozen base: save the whole "
                          "model")
    config = {key: loaded.config[key] for key in ("model", "task", "labels", "max_length")}
    config = {"format_version": FORMAT_VERSION, "method": method.name, "settings": method.settings,
              "base_sha256": base or hash_base(loaded.model), "task_settings": loaded.config["settings"], **config}
    folder, ours = folders.target_folder(files.local_path(folder, "folder"), _written_in)
    with folders.new_folder(folder, ours) as temporary:
        save_file({weight.path: np.ascontiguousarray(weight.numpy()) for weight in trained}, temporary / TENSORS)
        text = json.dumps(config, indent=2, ensure_ascii=False)
        (temporary / CONFIG).write_text(text + "\n", encoding="utf-8")


def _written_in(folder):
    try:
        ours = "base_sha256" in read_json(folder / CONFIG)  # PEFT uses the same file name
    except (OSError, DataError):
        return None
    return (CONFIG, TENSORS) if ours else None


def read_adapter(base, folder, dtype=None):
    """Load an adapter onto its base model.

    Args:
        base: Loaded, the model that training started from; it is not modified.
        folder: str or path of a folder written by `write_adapter`.
        dtype: str, the dtype policy for computation, or None for Keras' global policy.

    Returns:
        (Loaded, Method): the model in its training form (prepared, not merged) with the base's tokenizer, and the
        method.

    Raises:
        FileNotFoundError: if a file is missing.
        DataError: if the folder is damaged, or the adapter was trained on a different base model.
    """
    folder = files.local_path(folder, "the adapter's folder")
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: pass the adapter/ folder of a finished run")
    config = read_json(folder / CONFIG)
    check_keys(config, folder / CONFIG, FORMAT_VERSION, KEYS)
    if config["model"] != base.config["model"]:
        raise DataError(f"{folder} was trained on {shown(config['model'])}, but the base model is "
                        f"{base.config['model']}: pass the model that the adapter was trained on")
    try:
        method = method_of(config["method"], **config["settings"])
        task = task_of(config["task"], config["labels"], **config["task_settings"])
        model, *_ = with_head(base, task, dtype)
        method.prepare(model)
    except (ConfigError, TypeError, KeyError) as error:  # TypeError, KeyError: unknown or missing settings
        raise DataError(f"{folder / CONFIG} does not match {config['model']} ({reason_of(error)}): download or copy "
                        "the folder again") from None
    _fill(model, TensorFile(folder / TENSORS), folder)
    if hash_base(model) != config["base_sha256"]:
        raise DataError(f"{folder} was trained on different weights of {config['model']}: pass the model that "
                        "training started from")
    settings = {"task": config["task"], "labels": config["labels"], "settings": config["task_settings"],
                "max_length": config["max_length"]}
    config = {key: value for key, value in base.config.items() if key != "embedding"}  # applies only to a bare body
    return Loaded(model, base.tokenizer, {**config, **settings}, tokenizer_problem=base.tokenizer_problem), method


def _fill(model, tensors, folder):
    trained = {weight.path: weight for weight in split(model)[0]}
    strange = sorted(trained.keys() ^ tensors.shapes.keys())
    if strange:
        raise DataError(f"{folder / TENSORS} {'lacks' if strange[0] in trained else 'has'} {shown(strange[0])}, but "
                        f"must contain exactly the {len(trained)} weights that its method trains: download or copy "
                        "the folder again")
    for path, weight in trained.items():
        if tensors.shapes[path] != tuple(weight.shape):
            raise DataError(f"{folder / TENSORS}: {path} has shape {list(tensors.shapes[path])}, but the model "
                            f"expects {list(weight.shape)}: download or copy the folder again")
        weight.assign(np.asarray(tensors.get(path), np.float32))
