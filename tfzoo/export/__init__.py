"""Models that answer strings: live, and as SavedModels that need TensorFlow and tensorflow_text only."""
from tfzoo.export.predictor import Predictor
from tfzoo.export.saved_model import export_classifier

__all__ = ["Predictor", "export_classifier"]
