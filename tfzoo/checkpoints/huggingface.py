"""Read and write Hugging Face transformers folders without torch; each family's `REFERENCE` maps the names.

Reading is strict. Every weight that the architecture in config.json requires must be present with the right shape, and
every tensor must be a weight, a known buffer, or part of another of the family's heads. All of this is checked before a
model is built.
"""
import re

import numpy as np
import tensorflow as tf

from tfzoo.checkpoints import sentence_transformers
from tfzoo.checkpoints.huggingface_config import (
    GENERATION, arguments_of, canonical, checked, end_ids_of, generation_of, generation_words, kept_words, words_of)
from tfzoo.checkpoints.tensors import Tensors, read_json, write_json, write_tensors
from tfzoo.checkpoints.writing import writes_text
from tfzoo.errors import ConfigError, DataError, reason_of, shown
from tfzoo.layers import blank_weights, shapes_only
from tfzoo.models import FAMILIES, build_body, config_of, family_of
from tfzoo.models.reference import PROBLEMS, name_in
from tfzoo.tasks import task_of, tasks
from tfzoo.tasks.build import put_head

LEAVES = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
NOT_THE_SIZE = ("pooler", "dropout", "max_length", "initializer_range")
PIECE = 2 ** 22  # elements per assignment


def family_of_type(model_type):
    """Return the Family for a config.json's model_type, or None if it is unknown."""
    return next((family for family in FAMILIES if family.reference and family.reference.model_type == model_type), None)


def prefix_of(reference, head):
    """Return the prefix of the body's tensor names in a model with this head: str."""
    return reference.prefix if head is None or head.prefix is None else head.prefix


class Names:
    """Map a model's variables to the tensors in which they are stored.

    Args:
        reference: Reference of the model's family.
        head: Head or None.
        prefix: str, the prefix of the body's tensor names.
    """

    def __init__(self, reference, head, prefix):
        self.reference, self.prefix, self.gated = reference, prefix, False
        self.head = head.names if head else {}

    def tensor_of(self, path):
        """Return (name of a variable's tensor, whether it is stored as [out, in]); (None, False) if there is none."""
        for names, prefix, turned in ((self.head, "", True),
                                      (self.reference.names, self.prefix, self.reference.transposed)):
            name, leaf = name_in(names, path)
            if name:
                name = name if isinstance(name, str) else name[0 if self.gated else 1]
                return prefix + (f"{name}.{LEAVES[leaf]}" if leaf else name), turned and leaf == "kernel"
        return None, False

    def plan(self, variables):
        """Return a dict of tensor name -> (list of the variables it contains, whether it is stored as [out, in]).

        Raises:
            ConfigError: if a variable has no corresponding tensor.
        """
        plan, self.gated = {}, any("/gate/" in variable.path for variable in variables)
        for variable in variables:
            name, turned = self.tensor_of(variable.path)
            if name is None:
                raise ConfigError(f"{variable.path} has no counterpart in Hugging Face's {self.reference.model_type}: "
                                  "the model cannot be saved in that format")
            plan.setdefault(name, ([], turned))[0].append(variable)
        return plan


def shape_of(variables, turned):
    """Return the shape of variables concatenated along the last axis, transposed if `turned`: tuple of int."""
    shape = list(variables[0].shape)
    shape[-1] = sum(variable.shape[-1] for variable in variables)
    return tuple(shape[::-1] if turned else shape)


def _task_of(reference, config, path):
    # Returns (TASK or TASK:SETTING, Head) for the config's `architectures`; both are None for a bare body.
    named = config.get("architectures") or [reference.body]
    named = named if isinstance(named, list) else [named]
    named = list(dict.fromkeys(re.sub("^(TF|Flax)", "", name) if isinstance(name, str) else shown(name)
                               for name in named))
    if named == [reference.body]:
        return None, None
    for task, head in reference.heads.items():
        if named == [head.architecture]:
            return task, head
    allowed = ", ".join([reference.body, *(head.architecture for head in reference.heads.values())])
    if len(named) > 1:
        raise DataError(f"{path}: architectures is {shown(named)}, but must be exactly one of {allowed}")
    raise DataError(f"{path}: the architecture is {shown(named[0])}, but must be one of {allowed}")


def _labels_of(config, path):
    names, count = config.get("id2label"), config.get("num_labels")
    if names is None:  # transformers reads num_labels only in this case, and never reads the names from label2id
        count = checked(f"{path}: num_labels", 2 if count is None else count, ours="num_labels", reference=None)
        names = {str(number): f"LABEL_{number}" for number in range(count)}
    try:
        labels = [str(names[key]) for key in sorted(names, key=int)]
        if sorted(map(int, names)) != list(range(len(names))) or len(set(labels)) != len(labels) or any(
                type(name) not in (str, int, float) for name in names.values()):
            raise ValueError("names must be unique and numbered from 0")
    except (ValueError, TypeError, LookupError) as error:
        raise DataError(f"{path}: id2label is damaged ({reason_of(error, 80)})") from None
    return labels


def _problem_of(config, task, labels, path):
    # Returns the task of a model, given that of its class and its labels.
    if task == "classification":
        kind = config.get("problem_type") or PROBLEMS["regression" if len(labels) == 1 else task]
        task = next((ours for ours, theirs in PROBLEMS.items() if kind == theirs), None)
        if task is None:
            raise DataError(f"{path}: problem_type is {shown(kind)}, but must be {' or '.join(PROBLEMS.values())}")
    if len(labels) != 1 if task == "regression" else len(labels) < 2:
        raise DataError(f"{path}: {task} with {len(labels)} label(s), but a regression has one, and other tasks have "
                        "at least two")
    return task


def _family_of(config, path):
    family = family_of_type(config.get("model_type"))
    if family is None:
        known = [family.reference.model_type for family in FAMILIES if family.reference]
        raise DataError(f"{path}: model_type is {shown(config.get('model_type'))}, but must be one of "
                        f"{', '.join(known)}")
    return family


def read(folder, dtype=None, bare=False):
    """Read a model from a transformers folder.

    Args:
        folder: path of a folder with config.json and with weights in safetensors files or tf_model.h5.
        dtype: str, the dtype policy for computation, or None for Keras' global policy.
        bare: bool, whether to read only the body, regardless of the architecture in config.json.

    Returns:
        (keras.Model, dict, list of str): the model, the values for `Loaded.config`, and the names of the tensors that
        were ignored because they belong to other heads.

    Raises:
        FileNotFoundError: if a file is missing.
        DataError: if the model is not supported, or if it is damaged or does not match config.json.
    """
    path = folder / "config.json"
    config = read_json(path)
    family = _family_of(config, path)
    reference = family.reference
    arguments = arguments_of(family, config, path)
    task, head = (None, None) if bare else _task_of(reference, config, path)
    labels = _labels_of(config, path) if task in tasks() and tasks()[task].labelled else None
    task = _problem_of(config, task, labels, path) if labels is not None else task
    labels = None if task == "regression" else labels
    if head and head.activation not in (None, arguments["activation"]):
        raise DataError(f"{path}: the activation is {arguments['activation']}, but the head of {head.architecture} "
                        f"always uses {head.activation}, and tfzoo requires the same activation in body and head")
    tensors = Tensors(folder)
    prefix = prefix_of(reference, head)
    prefix = prefix if any(name.startswith(prefix) for name in tensors.shapes) else ""
    if arguments["num_layers"] > len(tensors.shapes):
        raise DataError(f"{path}: {arguments['num_layers']} layers, but only {len(tensors.shapes)} tensors in total")
    pooled = head.pooler if head else f"{prefix}{reference.names.get('pooler')}.weight" in tensors.shapes
    if pooled is not None:
        arguments.update(family.body.pooled_arguments(pooled))
    rate = _rate_of(reference, task, config=config, arguments=arguments, path=path)

    kind, _, setting = (task or "").partition(":")
    settings = {setting: True} if setting else {}

    def make():
        with blank_weights():
            body = build_body(family.name, dtype=dtype, **arguments)
            return put_head(body, family.name, task_of(kind, labels, **settings), rate) if kind else body

    names = Names(reference, head, prefix)
    try:
        with shapes_only():  # before anything large is allocated
            plan = names.plan(make().weights)
    except ConfigError as error:  # inconsistent sizes
        raise DataError(f"{path}: {reason_of(error, 200)}") from None
    found, dropped = _match(plan, tensors, reference=reference, prefix=prefix, folder=folder)
    _check(plan, found, tensors=tensors, folder=folder)
    model = make()
    for name, (variables, turned) in names.plan(model.weights).items():
        value = tensors.get(found[name])
        value = value.T if turned else value
        for variable, part in zip(variables, np.split(value, len(variables), axis=-1)):
            _fill(variable, part)
    cached = getattr(model, "body", model).traits.cached
    ends = {"end_ids": end_ids_of(folder, config, arguments["vocab_size"]),
            "generation": generation_of(folder, config)} if cached else {}
    return model, {**ends, "model": _size_of(family, model), "task": kind or None, "labels": labels,
                   "settings": settings, "max_length": arguments["max_length"],
                   "kept": kept_words(config)}, dropped


def _fill(variable, value):
    # Assign the value in pieces, since an assignment allocates three copies of its value.
    rows = max(1, PIECE * len(value) // value.size)
    if rows >= len(value) or tf.distribute.has_strategy():
        variable.assign(np.array(value, np.float32))
        return
    for first in range(0, len(value), rows):
        variable.value[first:first + rows].assign(np.array(value[first:first + rows], np.float32))
    # After a sliced assignment, TensorFlow copies the whole variable on every read unless this is disabled.
    tf.raw_ops.DisableCopyOnRead(resource=variable.value.handle)


def _rate_of(reference, task, config, arguments, path):
    # Returns the dropout rate to use before the projection in a task's head.
    word, default = reference.dropout_of(task)
    given = [rate for rate in (config.get(word), default) if rate is not None]
    return checked(f"{path}: {word}", given[0], ours="dropout", reference=reference) if given else arguments["dropout"]


def _size_of(family, model):
    # Returns the name of the matching size, or the family's name if none matches.
    body = getattr(model, "body", model)
    sized = [name for name in family.sizes if all(
        body.config[key] == value for key, value in config_of(name).items() if key not in NOT_THE_SIZE)]
    return sized[0] if sized else family.name


def _check(plan, found, tensors, folder):
    for name, (variables, turned) in plan.items():
        shape, there = shape_of(variables, turned), tensors.shapes[found[name]]
        if there != shape:
            raise DataError(f"{folder}: {found[name]} has shape {shown(list(there))}, but config.json requires "
                            f"{list(shape)}: download or copy both again")
        tensors.check(found[name])


def _match(plan, tensors, reference, prefix, folder):
    # Returns (dict of tensor names in the plan -> names in the folder, list of tensors that belong to other heads).
    tied = {name: _first(target, reference, prefix) for one in reference.heads.values()
            for name, target in one.tied.items()}
    found, left = {}, dict(tensors.shapes)
    for name in plan:
        own = next((one for one in (name, *_old_names(name), *(one for one, of in tied.items() if of == name))
                    if one in left), None)
        if own is None:
            raise DataError(f"{folder} lacks the tensor {name}: download or copy the folder again, or set another "
                            "architecture in config.json")
        found[name] = own
        left.pop(own)
    for name in [name for name in left if tied.get(name) in found]:
        if not np.array_equal(tensors.get(name), tensors.get(found[tied[name]])):
            raise DataError(f"{folder}: {name} differs from {tied[name]}, but tfzoo only supports models that tie them")
        left.pop(name)
    others = {layer for one in reference.heads.values() for layer in (*one.names.values(), *one.tied)}
    others |= {prefix + reference.names["pooler"]} if "pooler" in reference.names else set()
    others |= {f"{layer}.{leaf}" for layer in others for leaf in ("weight", "bias", "gamma", "beta")}
    known = re.compile("|".join(f"({re.escape(reference.prefix)})?({name})" for name in reference.known) or "(?!)")
    strange = [name for name in left if name not in others and not known.fullmatch(name)]
    if strange:
        raise DataError(f"{folder} has {len(strange)} tensor(s) that no {reference.model_type} model has, such as "
                        f"{shown(strange[0])}: only tensors from architectures that tfzoo supports are allowed")
    return found, [name for name in left if not known.fullmatch(name)]


def _first(name, reference, prefix):
    # Returns the name that a tensor of the body has in the folder, with or without the prefix.
    return prefix + name[len(reference.prefix):] if name.startswith(reference.prefix) else name


def _old_names(name):
    # Returns the TensorFlow 1 name for a norm's tensor, which the original BERT folders still use.
    layer, _, leaf = name.rpartition(".")
    return [f"{layer}.{ {'weight': 'gamma', 'bias': 'beta'}[leaf]}"] if "Norm" in layer else []


def write(loaded, folder):
    """Write a model's config.json and tensors into an existing folder.

    Args:
        loaded: Loaded.
        folder: path.

    Raises:
        ConfigError: if transformers has no equivalent model.
    """
    body, name = loaded.body, loaded.config["model"]
    if body.adapters:
        raise ConfigError(f"{name} has {len(body.adapters)} low-rank adapters, which Hugging Face's format cannot "
                          "store: merge them first (model.body.merge_adapters()), or save with format=\"tfzoo\"")
    family = family_of(name)
    reference = family.reference
    if reference is None:
        raise ConfigError(f"{name} has no counterpart in Hugging Face's transformers: save with format=\"tfzoo\"")
    task, head, model, how = loaded.config["task"], None, loaded.model, loaded.embedding
    if loaded.task is not None and loaded.task.embedding:  # its head only trains
        task, model = None, body
    if task is not None:
        pooling = loaded.config["settings"].get("pooling", "auto")
        if pooling != "auto":
            raise ConfigError(f"{name} with pooling={pooling} has no counterpart in Hugging Face's transformers: save "
                              "with format=\"tfzoo\"")
        task = loaded.task.head_of or ":".join([
            task, *(key for key, value in loaded.config["settings"].items()
                    if value is True and key not in ("pack", "whole_word", "strict"))])
        head = reference.head_of(task)
        if head is None:
            raise ConfigError(f"{name} with {task} has no counterpart in Hugging Face's transformers: save with "
                              "format=\"tfzoo\"")
    if head and head.activation not in (None, body.config["activation"]):
        raise ConfigError(f"{name}: the activation is {body.config['activation']}, but the head of Hugging Face's "
                          f"{head.architecture} always uses {head.activation}: save with format=\"tfzoo\"")
    if task in PROBLEMS and loaded.tokenizer is not None and body.traits.causal and \
            loaded.tokenizer.pad_id in loaded.tokenizer.around[2]:
        raise ConfigError(f"{name}: the class is predicted at the end-of-text token, which Hugging Face's "
                          f"{head.architecture} treats as padding: save with format=\"tfzoo\", or fine-tune the model "
                          "again")
    if how and how["problem"]:
        raise ConfigError(f"{how['problem']}: save with format=\"tfzoo\"")
    config = words_of(family, body.config, head=head, loaded=loaded)
    again, there = config_of(family.name, **arguments_of(family, config)), canonical(body.config)
    lost = [key for key, value in there.items() if key != "pooler" and again[key] != value]
    if lost:
        raise ConfigError(f"{name}: {lost[0]} is {there[lost[0]]!r}, which Hugging Face's {reference.model_type} "
                          "cannot express: save with format=\"tfzoo\"")
    write_json(folder / "config.json", config)
    if writes_text(loaded):
        write_json(folder / GENERATION, generation_words(loaded, config))
    names = Names(reference, head, prefix_of(reference, head) if head else "")
    tensors = []
    for tensor, (variables, turned) in names.plan(model.weights).items():
        size = 4 * sum(int(np.prod(variable.shape)) for variable in variables)
        tensors.append((tensor, size, lambda variables=variables, turned=turned: _joined(variables, turned)))
    if how:
        sentence_transformers.write(how, folder, width=body.config["hidden_dim"],
                                    max_length=loaded.config["max_length"])
    write_tensors(folder, tensors)


def _joined(variables, turned):
    value = np.concatenate([np.asarray(variable.value) for variable in variables], axis=-1)
    return value.T if turned else value
