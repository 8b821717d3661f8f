"""Check Keras' backend before anything else of tfzoo is imported."""
import os

_ASKED = os.environ.get("KERAS_BACKEND") or "the one in Keras' keras.json"

try:
    import keras
    _backend = keras.config.backend()
except (ImportError, ValueError) as error:
    if getattr(error, "name", None) in ("keras", "tensorflow") or _ASKED == "tensorflow":
        raise
    _backend = _ASKED  # not installed, or not the name of a backend

if _backend != "tensorflow":
    raise ImportError(f"Keras' backend is {_backend}: tfzoo computes with TensorFlow; set KERAS_BACKEND=tensorflow "
                      "before Keras is imported")
