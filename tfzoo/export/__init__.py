"""Export models with their tokenizers as SavedModels, which need only TensorFlow and tensorflow_text to serve."""
from tfzoo.export.saved_model import export, serving_function

__all__ = ["export", "serving_function"]
