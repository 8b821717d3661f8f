"""Models that answer strings, as SavedModels that need TensorFlow and tensorflow_text only."""
from tfzoo.export.saved_model import export, serving_function

__all__ = ["export", "serving_function"]
