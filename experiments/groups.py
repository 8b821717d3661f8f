"""The flags that several scripts share: the same word with the same meaning everywhere.

Those of training are the library's settings, with its defaults and its text.
"""
import dataclasses
import importlib.util
import pathlib


def _read_settings():
    """Return the module tfzoo.training.settings, without its packages: they would import TensorFlow."""
    package = pathlib.Path(importlib.util.find_spec("tfzoo").origin).parent
    spec = importlib.util.spec_from_file_location("settings", package / "training" / "settings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SETTINGS = _read_settings()
PRECISIONS = list(SETTINGS.POLICIES)


def training(script, tasks, default):
    """Add the settings of training that these tasks have, one of which is the script's default."""
    for field in dataclasses.fields(SETTINGS.Settings):
        own, title = field.metadata["tasks"], field.metadata["begins"]
        if title:
            script.group(title)
        if field.name == "task":
            script.add("enum", "task", default, f"{field.metadata['meaning'][:-1]}: {', '.join(tasks)}.",
                       allowed=list(tasks))
        elif own is None or set(own) & set(tasks):
            _add(script, field, required=field.name in ("data", "output_dir"))


def shared(script, *names):
    """Add settings of training that mean the same in another script."""
    for name in names:
        _add(script, SETTINGS.Settings.__dataclass_fields__[name])


def _add(script, field, required=False):
    limits = {f"{name}_bound": field.metadata[name] for name in ("lower", "upper") if name in field.metadata}
    kind = {int: "integer", float: "float", bool: "bool", str: "string", tuple: "multi_string"}[field.type]
    if "allowed" in field.metadata:
        kind, limits = "enum", {"allowed": list(field.metadata["allowed"])}
    default = list(field.default) if field.type is tuple else field.default
    script.add(kind, field.name, default, field.metadata["meaning"], required, **limits)


def precision(script):
    """Add what numbers a saved model computes with."""
    script.add("enum", "precision", "auto", "auto: what it was trained with; or float32, bfloat16.",
               allowed=PRECISIONS)


def computing(script):
    """Add how a saved model computes."""
    precision(script)
    script.add("enum", "xla", "auto", "Compile the forward pass. auto: on a GPU or TPU.", allowed=["auto", "on", "off"])


def loading(script, about="The folder of a finished run, or its model/; or one of Hugging Face's transformers with "
            "safetensors, hf:ID of their hub, or keras_nlp:PRESET."):
    """Add the model to use."""
    script.group("what")
    script.add("string", "init", None, about, required=True)
