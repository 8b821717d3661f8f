"""Save models with their tokenizers and settings to folders, and load them again."""
from tfzoo.checkpoints.folder import load, save
from tfzoo.checkpoints.loaded import Loaded

__all__ = ["Loaded", "load", "save"]
