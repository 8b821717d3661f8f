"""Folders as Hugging Face's transformers has them, read and written by each family's `REFERENCE`, without torch.

Strict: every weight of the model that config.json names must be there with its shape, and every tensor must be a
weight, a known buffer, or belong to another head of the family; all of it is checked before a model is made.
"""
import json
import re

import keras
import numpy as np

from tfzoo.checkpoints.tensors import Tensors, read_json, write_tensors
from tfzoo.errors import ConfigError, DataError
from tfzoo.models import FAMILIES, build_body, config_of, name_of
from tfzoo.layers.positions import check_scaling
from tfzoo.tasks import TaskModel, task_of

LEAVES = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
LARGEST = {"num_layers": 1000}  # beyond any model that was made; others 2 ** 24
FLOATS = {"epsilon": (0, 1), "initializer_range": (0, 10), "dropout": (0, 1), "rope_theta": (1, 1e12)}
MAY_BE_NONE = ("ffn_dim", "num_kv_heads", "head_dim", "window")  # and are 0 then
LABELLED = {"classification", "tagging"}


def family_of_type(model_type):
    """Return the family module of config.json's model_type, or None."""
    return next((family for family in FAMILIES
                 if hasattr(family, "REFERENCE") and family.REFERENCE.model_type == model_type), None)


def prefix_of(reference, head):
    """Return what stands before the body's names in a model with this head."""
    return reference.prefix if head is None or head.prefix is None else head.prefix


class Names:
    """Which tensors hold the variables of a model.

    Args:
        reference: Reference of its family.
        head: Head or None.
        prefix: str, before the body's names.
    """

    def __init__(self, reference, head, prefix):
        self.reference, self.prefix, self.gated = reference, prefix, False
        self.head = head.names if head else {}

    def tensor_of(self, path):
        """Return (name, whether it is kept as [out, in]) of the tensor that holds a variable, or (None, False)."""
        number = re.search(r"block_(\d+)/", path)
        general = path.replace(number[0], "block_{n}/") if number else path
        layer, _, leaf = general.rpartition("/")
        for names, prefix, turned in ((self.head, "", True),
                                      (self.reference.names, self.prefix, self.reference.transposed)):
            name = names.get(general) or names.get(layer)
            if name:
                name = name if isinstance(name, str) else name[0 if self.gated else 1]
                name = name if general in names else f"{name}.{LEAVES[leaf]}"
                name = name.replace("{n}", str(int(number[1]))) if number else name
                return prefix + name, turned and leaf == "kernel"
        return None, False

    def plan(self, variables):
        """Return dict of tensor name -> (list of the variables in it, whether it is kept as [out, in]).

        Raises:
            ConfigError: for a variable that no tensor holds.
        """
        plan, self.gated = {}, any("/gate/" in variable.path for variable in variables)
        for variable in variables:
            name, turned = self.tensor_of(variable.path)
            if name is None:
                raise ConfigError(f"{variable.path} has no name in Hugging Face's {self.reference.model_type}: this "
                                  "model cannot be written that way")
            plan.setdefault(name, ([], turned))[0].append(variable)
        return plan


def shape_of(variables, turned):
    """Return the shape of the tensor that holds variables side by side."""
    shape = list(variables[0].shape)
    shape[-1] = sum(variable.shape[-1] for variable in variables)
    return tuple(shape[::-1] if turned else shape)


def arguments_of(family, config, path="config.json"):
    """Return the arguments of our model for a config.json: dict.

    Raises:
        DataError: for a size that is none, and for settings that this family does not compute.
    """
    reference = family.REFERENCE
    config = {**reference.defaults, **config}
    for key, allowed in reference.fixed.items():
        if config.get(key, allowed[0]) not in allowed:
            raise DataError(f"{path}: {key} is {str(config[key])[:80]}: allowed is {' or '.join(map(str, allowed))}")
    for one, other in reference.equal:
        if config.get(one) not in (None, config.get(other)):
            raise DataError(f"{path}: {one} is {str(config[one])[:80]}: allowed is {other}'s {str(config[other])[:80]}")
    found = {key: value for key, value in next(iter(family.SIZES.values())).items()
             if key not in reference.arguments and key not in ("dropout", "window")}
    for ours, theirs in {**reference.arguments, "dropout": reference.dropouts[0]}.items():
        found[ours] = _checked(f"{path}: {theirs}", config.get(theirs), ours, reference)
    if found["ffn_dim"] == 0 or "ffn_dim" not in reference.arguments:
        found["ffn_dim"] = 4 * found["hidden_dim"]
    if not reference.projected and found.get("embedding_dim") == found["hidden_dim"]:
        found["embedding_dim"] = 0
    found["max_length"] -= found.get("position_offset", 0)
    scaling = found.get("rope_scaling")
    if scaling and scaling["rope_type"] == "yarn":
        scaling.setdefault("original_max_position_embeddings", found["max_length"])
    found = _canonical(found)
    if found["max_length"] < 1 or not found.get("head_dim") and found["hidden_dim"] % found["num_heads"]:
        raise DataError(f"{path}: {found['max_length']} positions, {found['hidden_dim']} wide, {found['num_heads']} "
                        "heads: positions must be left, and the heads divide the width")
    return found


def _canonical(config):
    """Return a config with 0 where a number is what 0 stands for."""
    config = dict(config)
    if config.get("num_kv_heads") == config["num_heads"]:
        config["num_kv_heads"] = 0
    if config.get("head_dim", 0) * config["num_heads"] == config["hidden_dim"]:
        config["head_dim"] = 0
    return config


def _checked(where, value, ours, reference):
    """Return the value of one of our arguments, or raise DataError."""
    shown = str(value)[:80]
    if ours == "activation":
        if value not in reference.activations:
            raise DataError(f"{where} is {shown!r}: allowed are {', '.join(reference.activations)}")
        return reference.activations[value]
    if ours == "tied":
        if not isinstance(value, bool):
            raise DataError(f"{where} is {shown}: allowed are true and false")
        return value
    if ours == "rope_scaling":
        return _scaling_of(where, value)
    if ours in FLOATS:
        low, high = FLOATS[ours]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value < high:
            raise DataError(f"{where} is {shown}: allowed are numbers from {low} to below {high:g}")
        return float(value)
    if value is None and ours in MAY_BE_NONE:
        return 0
    largest = LARGEST.get(ours, 2 ** 24)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
        raise DataError(f"{where} is {shown}: allowed is 1 to {largest}")
    return value


def _scaling_of(where, value):
    if value is None:
        return None
    if not isinstance(value, dict):
        raise DataError(f"{where} is {str(value)[:80]}: allowed are null and an object")
    value = {**value, "rope_type": value.get("rope_type", value.get("type"))}
    value.pop("type", None)
    if value["rope_type"] == "default":
        return None
    try:
        check_scaling({"original_max_position_embeddings": 1, **value} if value["rope_type"] == "yarn" else value)
    except ConfigError as error:
        raise DataError(f"{where}: {error}") from None
    return value


def _task_of(reference, config, path):
    """Return (task with its settings as our words have it, Head), both None for a body, from `architectures`."""
    named = config.get("architectures") or [reference.body]
    named = named[0] if isinstance(named, list) and named else named
    if named == reference.body:
        return None, None
    for task, head in reference.heads.items():
        if head.architecture == named:
            return task, head
    allowed = ", ".join([reference.body, *(head.architecture for head in reference.heads.values())])
    raise DataError(f"{path}: the architecture is {str(named)[:80]!r}: allowed are {allowed}")


def _labels_of(config, path):
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    try:
        labels = [str(names[key]) for key in sorted(names, key=int)]
        if sorted(map(int, names)) != list(range(len(names))) or len(set(labels)) != len(labels):
            raise ValueError("numbers from 0 and names, each once")
    except (ValueError, TypeError, LookupError) as error:
        raise DataError(f"{path}: id2label is damaged ({str(error)[:80]})") from None
    if len(labels) < 2:
        raise DataError(f"{path}: {len(labels)} label, a regression: allowed are two labels or more")
    return labels


def read(folder, dtype=None):
    """Read a model.

    Args:
        folder: path with config.json and safetensors.
        dtype: str, the dtype policy to compute in; None is Keras' global one.

    Returns:
        (keras.Model, dict for `Loaded.config`, list of the tensors of other heads, which were dropped).

    Raises:
        FileNotFoundError: a file is missing. DataError: a model that is unknown, damaged, or not what config.json says.
    """
    path = folder / "config.json"
    config = read_json(path)
    family = family_of_type(config.get("model_type"))
    if family is None:
        known = [family.REFERENCE.model_type for family in FAMILIES if hasattr(family, "REFERENCE")]
        raise DataError(f"{path}: model_type is {str(config.get('model_type'))[:80]!r}: allowed are {', '.join(known)}")
    reference = family.REFERENCE
    arguments = arguments_of(family, config, path)
    task, head = _task_of(reference, config, path)
    labels = _labels_of(config, path) if task in LABELLED else None
    tensors = Tensors(folder)
    prefix = prefix_of(reference, head)
    prefix = prefix if any(name.startswith(prefix) for name in tensors.shapes) else ""
    if arguments["num_layers"] > len(tensors.shapes):
        raise DataError(f"{path}: {arguments['num_layers']} layers, but {len(tensors.shapes)} tensors in all")
    if head is None and "pooler" in config_of(name_of(family), **arguments):
        arguments["pooler"] = f"{prefix}{reference.names.get('pooler')}.weight" in tensors.shapes
    elif head and head.pooler is not None:
        arguments["pooler"] = head.pooler
    rate = config.get(reference.head_dropout)
    rate = arguments["dropout"] if rate is None else _checked(f"{path}: {reference.head_dropout}", rate, "dropout",
                                                              reference)

    def make():
        body = build_body(name_of(family), dtype=dtype, **arguments)
        return _with_head(body, name_of(family), task, labels, rate)

    names = Names(reference, head, prefix)
    with keras.StatelessScope(initialize_variables=False):  # shapes alone, before anything large is made
        plan = names.plan(make().trainable_variables)
    _check(plan, tensors, folder)
    found, dropped = _match(plan, tensors, reference, head, prefix, folder)
    model = make()
    for name, (variables, turned) in names.plan(model.trainable_variables).items():
        value = tensors.get(found[name])
        value = value.T if turned else value
        for variable, part in zip(variables, np.split(value, len(variables), axis=-1)):
            variable.assign(part)
    name, _, setting = (task or "").partition(":")
    return model, {"model": _size_of(family, model), "task": name or None, "labels": labels,
                   "settings": {setting: True} if setting else {}, "max_length": arguments["max_length"]}, dropped


def _with_head(body, name, task, labels, rate):
    if task is None:
        return body
    task, _, setting = task.partition(":")
    task = task_of(task, labels, **({setting: True} if setting else {}))
    head = task.head({**body.config, "dropout": rate}, labels, body.dtype_policy)
    return TaskModel(body, head, name=f"{name}_{task.name}")


def _size_of(family, model):
    """Return the name of the size that a model has, or else its family's."""
    body = getattr(model, "body", model)
    sized = [name for name in family.SIZES if all(
        body.config[key] == value for key, value in config_of(name).items() if key not in ("pooler", "dropout"))]
    return sized[0] if sized else name_of(family)


def _check(plan, tensors, folder):
    for name, (variables, turned) in plan.items():
        shape, there = shape_of(variables, turned), tensors.shapes.get(name)
        if there is not None and there != shape:
            raise DataError(f"{folder}: {name} has shape {list(there)}, but {list(shape)} by config.json: get both "
                            "again")


def _match(plan, tensors, reference, head, prefix, folder):
    """Return (dict of the plan's names -> the tensors' own, list of the tensors that other heads have)."""
    tied = {name: _first(target, reference, prefix) for one in reference.heads.values()
            for name, target in one.tied.items()}
    found, left = {}, dict(tensors.shapes)
    for name in plan:
        own = next((one for one in (name, *_old_names(name), *(one for one, of in tied.items() if of == name))
                    if one in left), None)
        if own is None:
            raise DataError(f"{folder} lacks the tensor {name}: get the folder again, or name another architecture")
        found[name] = own
        left.pop(own)
    for name in [name for name in left if tied.get(name) in found]:
        if not np.array_equal(tensors.get(name), tensors.get(found[tied[name]])):
            raise DataError(f"{folder}: {name} is not tied to {tied[name]}: allowed are models where they are one")
        left.pop(name)
    others = [layer for one in reference.heads.values() for layer in (*one.names.values(), *one.tied)]
    others += [prefix + layer for layers in reference.names.values()
               for layer in ([layers] if isinstance(layers, str) else layers)]
    others = re.compile("|".join(re.escape(name).replace(r"\{n\}", r"\d+") for name in others) + "|"
                        + "|".join(rf"({re.escape(reference.prefix)})?{name}" for name in reference.known))
    strange = [name for name in left if not others.match(name)]
    if strange:
        raise DataError(f"{folder} has {len(strange)} tensor(s) that no {reference.model_type} has, as "
                        f"{strange[0][:80]!r}: allowed are those of the architectures that tfzoo knows")
    known = re.compile("|".join(f"({re.escape(reference.prefix)})?{name}" for name in reference.known) or "(?!)")
    return found, [name for name in left if not known.fullmatch(name)]


def _first(name, reference, prefix):
    """Return a name of the body as the folder has it, with or without the prefix."""
    return prefix + name[len(reference.prefix):] if name.startswith(reference.prefix) else name


def _old_names(name):
    """Return what a norm's tensor was called in TensorFlow 1's time, which BERT's own folders still have."""
    layer, _, leaf = name.rpartition(".")
    return [f"{layer}.{ {'weight': 'gamma', 'bias': 'beta'}[leaf]}"] if "Norm" in layer else []


def write(loaded, folder):
    """Write config.json and the tensors of a model into a folder that is there.

    Args:
        loaded: Loaded.

    Raises:
        ConfigError: where transformers has no such model.
    """
    body, name = loaded.body, loaded.config["model"]
    family = next((family for family in FAMILIES if name in family.SIZES or name == name_of(family)), None)
    reference = getattr(family, "REFERENCE", None)
    if reference is None:
        raise ConfigError(f"{name} has no form in Hugging Face's transformers: save it with format=\"tfzoo\"")
    task, head = loaded.config["task"], None
    if task is not None:
        task = ":".join([task, *(key for key, value in loaded.config["settings"].items() if value and key != "pack"
                                 and key != "whole_word")])
        head = reference.heads.get(task)
        if head is None:
            raise ConfigError(f"{name} with {task} has no form in Hugging Face's transformers: save it with "
                              "format=\"tfzoo\"")
    config = _config_of(family, body.config, head, loaded)
    again, there = arguments_of(family, config), _canonical(body.config)
    lost = [key for key, value in there.items() if key != "pooler" and again.get(key, _default(family, key)) != value]
    if lost:
        raise ConfigError(f"{name}: {lost[0]} is {there[lost[0]]!r}, which Hugging Face's {reference.model_type} "
                          "cannot say: save it with format=\"tfzoo\"")
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    names = Names(reference, head, prefix_of(reference, head) if head else "")
    tensors = []
    for tensor, (variables, turned) in names.plan(loaded.model.trainable_variables).items():
        size = 4 * sum(int(np.prod(variable.shape)) for variable in variables)
        tensors.append((tensor, size, lambda variables=variables, turned=turned: _joined(variables, turned)))
    write_tensors(folder, tensors)


def _default(family, key):
    return config_of(next(iter(family.SIZES)))[key]


def _joined(variables, turned):
    value = np.concatenate([np.asarray(variable.value) for variable in variables], axis=-1)
    return value.T if turned else value


def _config_of(family, body, head, loaded):
    reference = family.REFERENCE
    names = {ours: theirs for theirs, ours in reversed(reference.activations.items())}
    config = {"architectures": [head.architecture if head else reference.body], "model_type": reference.model_type}
    for ours, theirs in reference.arguments.items():
        value = body[ours]
        if ours == "activation":
            if value not in names:
                raise ConfigError(f"activation is {value!r}: Hugging Face's {reference.model_type} has "
                                  f"{', '.join(names)}")
            value = names[value]
        elif ours == "max_length":
            value += body.get("position_offset", 0)
        elif ours == "embedding_dim":
            value = value or body["hidden_dim"]
        elif ours == "num_kv_heads":
            value = value or body["num_heads"]
        elif ours == "head_dim":
            value = value or body["hidden_dim"] // body["num_heads"]
        elif ours == "window":
            value = value or None
        config[theirs] = value
    config.update({key: allowed[0] for key, allowed in reference.fixed.items()})
    config.update({key: body["dropout"] for key in reference.dropouts})
    if hasattr(getattr(loaded.model, "head", None), "dropout") and reference.head_dropout:
        config[reference.head_dropout] = loaded.model.head.config["dropout"]
    if loaded.tokenizer is not None and loaded.tokenizer.pad_id is not None:
        config["pad_token_id"] = loaded.tokenizer.pad_id
    if loaded.config["labels"]:
        config["id2label"] = {str(number): label for number, label in enumerate(loaded.config["labels"])}
        config["label2id"] = {label: number for number, label in enumerate(loaded.config["labels"])}
    return {**config, "torch_dtype": "float32"}
