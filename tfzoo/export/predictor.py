"""A live classifier over batches of texts, padded so that few shapes are traced."""
import numpy as np
import tensorflow as tf

from tfzoo.errors import ConfigError

MULTIPLE = 16


def check_classifier(loaded):
    """Raise ConfigError where a Loaded is no classifier or has no tokenizer."""
    if loaded.config["task"] != "classification":
        task = loaded.config["task"]
        raise ConfigError("the model " + (f"was trained for {task}" if task else "has no head") + ": needed here is "
                          "classification, which experiments.finetune --init teaches it")
    if loaded.tokenizer is None:
        raise ConfigError("this model has no tokenizer: load a folder that has one")


class Predictor:
    """Classify texts with a loaded model.

    Args:
        loaded: Loaded with a classifier and a tokenizer.
        xla: bool, compile.

    Attributes:
        cut: int, texts so far that were longer than max_length.

    Raises:
        ConfigError: where the model is no classifier or has no tokenizer.
    """

    def __init__(self, loaded, xla=False):
        check_classifier(loaded)
        self.loaded, self.cut = loaded, 0
        self._probabilities = tf.function(lambda inputs: tf.nn.softmax(loaded.model(inputs)["logits"]),
                                          reduce_retracing=not xla, jit_compile=xla)

    def __call__(self, texts, pairs=None):
        """Return the probabilities float32 [B, C] of texts (and pairs), lists of str."""
        tokenizer, length = self.loaded.tokenizer, self.loaded.config["max_length"]
        parts = [tokenizer.encode(part) for part in (texts, pairs) if part is not None]
        lengths = sum(part.row_lengths().numpy() for part in parts)
        self.cut += int((lengths > tokenizer.room(length, len(parts))).sum())
        inputs = {key: value.numpy() for key, value in tokenizer.join(parts, length).items()}
        columns = inputs["token_ids"].shape[1]
        wide = min(length, -(-columns // MULTIPLE) * MULTIPLE)
        inputs = {key: tf.constant(np.pad(value, ((0, 0), (0, wide - columns)))) for key, value in inputs.items()}
        return self._probabilities(inputs).numpy()
