"""tfzoo: a zoo of Transformer language models in Keras 3 on TensorFlow."""
from tfzoo.checkpoints import load, save
from tfzoo.models import list_models
from tfzoo.tasks import build

__all__ = ["build", "list_models", "load", "save"]
