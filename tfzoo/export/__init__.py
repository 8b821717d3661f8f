"""Export models with their tokenizers as SavedModels, which require only TensorFlow and tensorflow_text."""
from tfzoo.export.saved_model import export, live_function, serving_function

__all__ = ["export", "live_function", "serving_function"]
