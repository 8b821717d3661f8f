"""tfzoo: a zoo of Transformer language models in Keras 3 on TensorFlow."""
import importlib.util

__all__ = ["build", "list_models", "load", "save", "train"]
_HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None

if _HAS_TENSORFLOW:
    from tfzoo import backend  # noqa: F401  first, to refuse other backends before the rest is imported
    from tfzoo.checkpoints import load, save
    from tfzoo.models import list_models
    from tfzoo.tasks import build


def __getattr__(name):
    if not _HAS_TENSORFLOW and name in __all__:
        raise ImportError(f"tfzoo.{name} requires TensorFlow, which is not installed: pip install tfzoo; without it, "
                          "only tfzoo.litert works")
    if name == "train":  # imported lazily: dependencies of training only, such as TensorBoard, are slow to import
        from tfzoo.training.run import train
        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
