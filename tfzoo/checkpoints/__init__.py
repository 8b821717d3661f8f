"""Models with their tokenizer and settings, saved to and loaded from folders."""
from tfzoo.checkpoints.folder import Loaded, load, save

__all__ = ["Loaded", "load", "save"]
