"""tfzoo: a zoo of Transformer language models in Keras 3 on TensorFlow."""
from tfzoo import backend  # noqa: F401  first, to refuse other backends before the rest is imported
from tfzoo.checkpoints import load, save
from tfzoo.models import list_models
from tfzoo.tasks import build

__all__ = ["build", "list_models", "load", "save", "train"]


def __getattr__(name):
    if name == "train":  # imported lazily: dependencies of training only, such as TensorBoard, are slow to import
        from tfzoo.training.run import train
        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
