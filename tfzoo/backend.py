"""Check the Keras backend before the rest of tfzoo is imported."""
import os

_ASKED = os.environ.get("KERAS_BACKEND") or "the one set in keras.json"

try:
    import keras
    _backend = keras.config.backend()
except (ImportError, ValueError) as error:
    if getattr(error, "name", None) in ("keras", "tensorflow") or _ASKED == "tensorflow":
        raise
    _backend = _ASKED  # the backend is unknown or not installed

if _backend != "tensorflow":
    raise ImportError(f"the Keras backend is {_backend}, but tfzoo requires TensorFlow: set KERAS_BACKEND=tensorflow "
                      "before importing Keras")
