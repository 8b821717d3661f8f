"""The interface of a training method: hooks around one training loop. The default one, `full`, trains all weights.

A method prepares a model before its optimizer is created, so that it allocates no slots for frozen weights; the
trainer calls the hooks; `merge` leaves the model that the family's config describes.
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
        about: str, the text of --help.
        pretrained: bool, whether it needs --init.
        learning_rate: float, its default peak learning rate; None for the task's.
    """

    name, learning_rate, pretrained = "full", None, False
    about = "train all weights."

    @property
    def settings(self):
        """Return the arguments of the class: dict of plain values."""
        return {}

    def prepare(self, model):
        """Add what the method needs to a built TaskModel, and freeze what does not train.

        Call it once, in the scope of the strategy, before the optimizer is created for `model.trainable_variables`, and
        inside `initial_weights` to initialize added weights from a seed.
        """

    def objective(self, inner):
        """Return the objective to train with: a callable like `inner`, which it may call several times.

        Args:
            inner: callable (forward, batch) like Task.objective: returns its terms, not divided by their counts, and
                its sums.
        """
        return inner

    def after_gradients(self, gradients, step):
        """Return the gradients to clip and apply.

        Called once per update, on each replica, with the same values.

        Args:
            gradients: list of float32 tensors, one for each of `model.trainable_variables`, summed over the global
                batch.
            step: int64 scalar tensor, updates so far.
        """
        return gradients

    def merge(self, model):
        """Convert a trained model to the family's own form, in float32, with all weights trainable again."""
        unfreeze(model)

    def report(self, model):
        """Summarize a prepared model in one line: what was added, what trains, what is frozen."""
        trained, frozen = (count_weights(weights) for weights in split(model))
        return f"{self.name}: {trained:,} weights train, {frozen:,} are frozen"


def split(model):
    """Return (list of the trainable weights of a model, list of the frozen ones)."""
    return ([weight for weight in model.weights if weight.trainable],
            [weight for weight in model.weights if not weight.trainable])


def count_weights(variables):
    """Return the total number of elements of variables: int."""
    return sum(math.prod(variable.shape) for variable in variables)


def freeze(model, trains):
    """Freeze the weights of a model for whose path the callable `trains` returns a false value."""
    for variable in model.trainable_variables:
        variable.trainable = bool(trains(variable.path))


def unfreeze(model):
    """Make trainable again all weights that were created trainable."""
    for layer in model._flatten_layers():
        for variable in layer._trainable_variables:
            variable.trainable = True


def hash_weights(weights):
    """Return the SHA-256, in hexadecimal, of the paths, dtypes, shapes and values of variables, in path order."""
    digest = hashlib.sha256()
    for weight in sorted(weights, key=lambda weight: weight.path):
        value = np.ascontiguousarray(weight.numpy())
        digest.update(f"{weight.path} {value.dtype} {value.shape}\n".encode())
        digest.update(memoryview(value.reshape(-1).view(np.uint8)))
    return digest.hexdigest()


def hash_base(model):
    """Return the SHA-256 of the frozen weights of a model, on which the trained ones depend; None if all train."""
    frozen = split(model)[1]
    return hash_weights(frozen) if frozen else None


def compiled(name, pattern):
    """Compile the regular expression of a setting; raise ConfigError if it is not a valid one."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(f"{name} is {pattern!r}: allowed is a regular expression ({error})") from None
