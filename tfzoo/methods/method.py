"""The interface for training methods: hooks in the training loop. The default method, `full`, trains all weights.

A method prepares a model before the optimizer is created, so that the optimizer allocates no slots for frozen weights.
The trainer calls the hooks. `merge` converts the model back to the architecture that the family's config describes.
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
        pretrained: bool, whether the method requires --init.
        learning_rate: float, default peak learning rate; None uses the task's default.
    """

    name, learning_rate, pretrained = "full", None, False
    about = "train all weights."

    @property
    def settings(self):
        """Return the constructor arguments: dict of plain values."""
        return {}

    def prepare(self, model):
        """Add the weights that the method needs to a built TaskModel, and freeze the weights that it does not train.

        Call this once, in the strategy's scope, before the optimizer is created for `model.trainable_variables`.
        To initialize added weights from a seed, call it in a `with initial_weights(seed)` block.
        """

    def objective(self, inner):
        """Return the objective to train with: a callable like `inner` that calls `inner` once or several times.

        Args:
            inner: callable (forward, batch) that returns (terms, sums) like `Task.objective`. The terms are not divided
                by their counts.
        """
        return inner

    def after_gradients(self, gradients, step):
        """Return the gradients to clip and apply.

        The method is called once per update on each replica, with the same values on all replicas.

        Args:
            gradients: list of float32 tensors, one per variable in `model.trainable_variables`, summed over the global
                batch.
            step: int64 scalar tensor, number of updates so far.
        """
        return gradients

    def merge(self, model):
        """Convert a trained model back to its family's own architecture, in float32, and make all weights trainable."""
        unfreeze(model)

    def report(self, model):
        """Return a one-line summary of a prepared model: the numbers of added, trained and frozen weights."""
        trained, frozen = (count_weights(weights) for weights in split(model))
        return f"{self.name}: {trained:,} weights are trained, {frozen:,} are frozen"


def split(model):
    """Return the trainable weights and the frozen weights of a model, as two lists."""
    return ([weight for weight in model.weights if weight.trainable],
            [weight for weight in model.weights if not weight.trainable])


def count_weights(variables):
    """Return the total number of elements in variables: int."""
    return sum(math.prod(variable.shape) for variable in variables)


def freeze(model, trains):
    """Freeze a model's weights, except those for which `trains`, a callable that takes a path (str), returns True."""
    for variable in model.trainable_variables:
        variable.trainable = bool(trains(variable.path))


def unfreeze(model):
    """Undo `freeze`: make all weights trainable again, except those that were created as non-trainable."""
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
    """Return the SHA-256 of a model's frozen weights, on which its trained weights depend; None if none are frozen."""
    frozen = split(model)[1]
    return hash_weights(frozen) if frozen else None


def compiled(name, pattern):
    """Compile the regular expression `pattern` of the setting `name`; raise ConfigError if it is invalid."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(f"{name} must be a valid regular expression, got {pattern!r} ({error})") from None
