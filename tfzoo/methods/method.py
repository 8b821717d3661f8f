"""The contract of a method: hooks around one training loop. The method of this file, `full`, trains all weights.

A method prepares a model before its optimizer is made, so that what is frozen has no slot there; the trainer calls the
hooks; `merge` leaves the model that the family's config describes.
"""
import hashlib
import math
import re

import numpy as np

from tfzoo.errors import ConfigError


class Method:
    """Train all weights.

    Attributes:
        name: str. about: str, the text of --help. pretrained: bool, it needs --init.
        learning_rate: float, the peak that suits it where the task's own does not; None for the task's.
    """

    name, learning_rate, pretrained = "full", None, False
    about = "all weights train."

    @property
    def settings(self):
        """Return the arguments of the class: dict of plain values."""
        return {}

    def prepare(self, model):
        """Add to a built TaskModel what the method needs, and freeze what does not train.

        To be called once, in the scope of the strategy, before the optimizer is made for `model.trainable_variables`;
        entered `initial_weights`, what is added begins as the seed says.
        """

    def objective(self, inner):
        """Return what takes the place of the task's objective: a callable as `inner`, which it may call more often.

        Args:
            inner: callable (forward, batch) as Task.objective; gives its terms, not divided by their counts, and sums.
        """
        return inner

    def after_gradients(self, gradients, step):
        """Return the gradients that are clipped and applied.

        Called on each replica with the same values, once an update.

        Args:
            gradients: list of float32 tensors, one for each of `model.trainable_variables`, summed over the global
                batch.
            step: int64 scalar tensor, updates done.
        """
        return gradients

    def merge(self, model):
        """Turn a trained model into one of the family's own form, in float32, all of which trains again."""
        unfreeze(model)

    def report(self, model):
        """Return one line about a prepared model: what was added, what trains, what is frozen."""
        trained, frozen = (count_weights(weights) for weights in split(model))
        return f"{self.name}: {trained:,} weights train, {frozen:,} are frozen"


def split(model):
    """Return (list of the weights of a model that train, list of the frozen ones)."""
    return ([weight for weight in model.weights if weight.trainable],
            [weight for weight in model.weights if not weight.trainable])


def count_weights(variables):
    """Return how many numbers variables hold: int."""
    return sum(math.prod(variable.shape) for variable in variables)


def freeze(model, trains):
    """Freeze the weights of a model for whose path `trains`, a callable, gives False."""
    for variable in model.trainable_variables:
        variable.trainable = bool(trains(variable.path))


def unfreeze(model):
    """Let all weights of a model train that were made to."""
    for layer in model._flatten_layers():
        for variable in layer._trainable_variables:
            variable.trainable = True


def hash_weights(weights):
    """Return the SHA-256 of Keras variables, by path: their paths, dtypes, shapes and values, in hexadecimal."""
    digest = hashlib.sha256()
    for weight in sorted(weights, key=lambda weight: weight.path):
        value = np.ascontiguousarray(weight.numpy())
        digest.update(f"{weight.path} {value.dtype} {value.shape}\n".encode())
        digest.update(memoryview(value.reshape(-1).view(np.uint8)))
    return digest.hexdigest()


def hash_base(model):
    """Return the SHA-256 of the frozen weights of a model, on which what trains depends; None where all train."""
    frozen = split(model)[1]
    return hash_weights(frozen) if frozen else None


def compiled(name, pattern):
    """Return the compiled regular expression of a setting, or raise ConfigError."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(f"{name} is {pattern!r}: allowed is a regular expression ({error})") from None
