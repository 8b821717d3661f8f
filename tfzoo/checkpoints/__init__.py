"""Models with their tokenizer and settings, saved to and loaded from folders."""
from tfzoo.checkpoints.folder import load, save
from tfzoo.checkpoints.loaded import Loaded

__all__ = ["Loaded", "load", "save"]
