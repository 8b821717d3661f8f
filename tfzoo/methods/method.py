"""The interface of a training method: hooks in the training loop. The default method, `full`, trains all weights.

A method prepares a model before the optimizer is created, so that the optimizer allocates no slots for frozen weights.
The trainer calls the hooks. `merge` turns the model back into the one that the family's config describes.
"""
import hashlib
import math
import re

import numpy as np

from tfzoo.errors import ConfigError


class Method:
    """Train all weights.

    Attributes:
        name: str.
        about: str, description for --help.
        pretrained: bool, whether it requires --init.
        learning_rate: float, default peak learning rate; None uses that of the task.
    """

    name, learning_rate, pretrained = "full", None, False
    about = "train all weights."

    @property
    def settings(self):
        """Return the constructor arguments: dict of plain values."""
        return {}

    def prepare(self, model):
        """Add the weights that the method needs to a built TaskModel, and freeze those that it does not train.

        Call this once, in the scope of the strategy, before the optimizer is created for `model.trainable_variables`.
        To initialize added weights from a seed, call it in a `with initial_weights(seed)` block.
        """

    def objective(self, inner):
        """Return the objective to train with: a callable like `inner`, which it may call several times.

        Args:
            inner: callable (forward, batch) that returns (terms, sums) like Task.objective; the terms are not divided
                by their counts.
        """
        return inner

    def after_gradients(self, gradients, step):
        """Return the gradients to clip and apply.

        This is called once per update on each replica, with the same values.

        Args:
            gradients: list of float32 tensors, one for each of `model.trainable_variables`, summed over the global
                batch.
            step: int64 scalar tensor, number of updates so far.
        """
        return gradients

    def merge(self, model):
        """Convert a trained model back to the family's own form, in float32, and make all weights trainable."""
        unfreeze(model)

    def report(self, model):
        """Summarize a prepared model in one line: weights added, trained and frozen."""
        trained, frozen = (count_weights(weights) for weights in split(model))
        return f"{self.name}: {trained:,} weights are trained, {frozen:,} are frozen"


def split(model):
    """Return (trainable weights, frozen weights) of a model, both lists."""
    return ([weight for weight in model.weights if weight.trainable],
            [weight for weight in model.weights if not weight.trainable])


def count_weights(variables):
    """Return the total number of elements in variables: int."""
    return sum(math.prod(variable.shape) for variable in variables)


def freeze(model, trains):
    """Freeze the weights of a model, except those for whose path `trains`, a callable, returns a true value."""
    for variable in model.trainable_variables:
        variable.trainable = bool(trains(variable.path))


def unfreeze(model):
    """Undo `freeze`: make all weights trainable that were created as trainable."""
    for layer in model._flatten_layers():
        for variable in layer._trainable_variables:
            variable.trainable = True


def hash_weights(weights):
    """Return the hexadecimal SHA-256 of the paths, dtypes, shapes and values of variables, sorted by path."""
    digest = hashlib.sha256()
    for weight in sorted(weights, key=lambda weight: weight.path):
        value = np.ascontiguousarray(weight.numpy())
        digest.update(f"{weight.path} {value.dtype} {value.shape}\n".encode())
        digest.update(memoryview(value.reshape(-1).view(np.uint8)))
    return digest.hexdigest()


def hash_base(model):
    """Return the SHA-256 of a model's frozen weights, on which the trained ones depend; None if none are frozen."""
    frozen = split(model)[1]
    return hash_weights(frozen) if frozen else None


def compiled(name, pattern):
    """Compile the regular expression `pattern` of the setting `name`; raise ConfigError if it is invalid."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(f"{name} must be a valid regular expression, got {pattern!r} ({error})") from None
