"""Flags shared by several scripts, so that a name has the same meaning in all of them.

The training flags are the library's settings, with the same defaults and descriptions.
"""
import dataclasses
import importlib.util
import pathlib


def _read_fields():
    # Load tfzoo.training.fields by its path: importing its packages would import TensorFlow.
    package = pathlib.Path(importlib.util.find_spec("tfzoo").origin).parent
    spec = importlib.util.spec_from_file_location("fields", package / "training" / "fields.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FIELDS = _read_fields()
PRECISIONS = list(FIELDS.POLICIES)


def training(script, tasks, default):
    """Add the training settings that apply to any of the given tasks.

    Args:
        script: app.Flags.
        tasks: tuple of str, the tasks that the script allows.
        default: str, the default of --task.
    """
    for field in dataclasses.fields(FIELDS.Fields):
        own, title = field.metadata["tasks"], field.metadata["begins"]
        if title:
            script.group(title)
        if field.name == "task":
            script.add("enum", "task", default, f"{field.metadata['meaning'][:-1]}: {', '.join(tasks)}.",
                       allowed=list(tasks))
        elif own is None or set(own) & set(tasks):
            _add(script, field, required=field.name in ("data", "output_dir"))


def shared(script, *names):
    """Add the named training settings to a script that does not train."""
    for name in names:
        _add(script, FIELDS.Fields.__dataclass_fields__[name])


def _add(script, field, required=False):
    limits = {f"{name}_bound": field.metadata[name] for name in ("lower", "upper") if name in field.metadata}
    kind = {int: "integer", float: "float", bool: "bool", str: "string", tuple: "multi_string"}[field.type]
    if "allowed" in field.metadata:
        kind, limits = "enum", {"allowed": list(field.metadata["allowed"])}
    default = list(field.default) if field.type is tuple else field.default
    script.add(kind, field.name, default, field.metadata["meaning"], required, **limits)


def searching(script):
    """Add the training settings of generation to a script that does not train; None: as in training."""
    for name, kind, lower in (("num_beams", "integer", 1), ("length_penalty", "float", None),
                              ("no_repeat_ngram_size", "integer", 0)):
        script.add(kind, name, None, FIELDS.Fields.__dataclass_fields__[name].metadata["meaning"] +
                   " Default: as in training.", lower_bound=lower)


def precision(script):
    """Add --precision, the floating-point type in which a saved model computes."""
    script.add("enum", "precision", "auto", "Floating-point type to compute in. auto: the type used in training.",
               allowed=PRECISIONS)


def computing(script):
    """Add --precision and --xla."""
    precision(script)
    script.add("enum", "xla", "auto", "Compile the forward pass with XLA. auto: only on a GPU or TPU.",
               allowed=["auto", "on", "off"])


def loading(script, about="Model to use: the folder of a finished run, or one written by tfzoo.save; a transformers or "
            "sentence-transformers folder; hf:ID from the Hugging Face hub; or keras_nlp:PRESET."):
    """Add --init, the model to use."""
    script.group("model")
    script.add("string", "init", None, about, required=True)
