"""What a forward pass depends on besides its inputs: one thread-local value, so that threads do not interfere.

It keys the randomness (seed, step, first row, number of the pass, reuse of a shared layer), selects fused kernels and
rematerialization, and keys the initial weights. Nothing else in the library is process-wide.
"""
import contextlib
import dataclasses
import hashlib
import threading

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Context:
    """The context of one thread.

    Attributes:
        seed: int, of the run, inside a training step; None elsewhere.
        step, first_row: int or integer scalar tensor, the step and the index of this slice's first row in the global
            batch.
        draw: int, number of the pass in the step; each pass has its own dropout masks.
        reuse: int, index of the block in the stack if its layers are shared, else 0; gives each reuse its own masks.
        fused: bool, compute in fused kernels, see kernels.py.
        remat: bool, rematerialize: store block inputs, recompute activations in the backward pass.
        initial: int, seed of the initial weights; None uses Keras' global seed generator.
        blank: bool, initialize weights with zeros, as they will be read from a file.
    """

    seed: int | None = None
    step: object = 0
    first_row: object = 0
    draw: int = 0
    reuse: int = 0
    fused: bool = False
    remat: bool = False
    initial: int | None = None
    blank: bool = False


class _Thread(threading.local):
    value = Context()


_thread = _Thread()


def current():
    """Return the Context of this thread."""
    return _thread.value


@contextlib.contextmanager
def entered(value):
    """Make a Context current inside, such as the one that was current when a function that is retraced was created."""
    before, _thread.value = _thread.value, value
    try:
        yield
    finally:
        _thread.value = before


def changed(**values):
    """Replace fields of the current Context in the `with` block."""
    return entered(dataclasses.replace(_thread.value, **values))


def training_step(seed, step, first_row=0, remat=False):
    """Key the dropout inside by seed, step and row, and compute in fused kernels.

    Args:
        seed: int, of the run.
        step: int or integer scalar tensor.
        first_row: int or integer scalar tensor, index of this slice's first row in the global batch.
        remat: bool, see Context (Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174).
    """
    return changed(seed=seed, step=step, first_row=first_row, fused=True, remat=remat)


def initial_weights(seed):
    """Key the initial weights of layers built inside by (seed, variable path); no random generator is used."""
    return changed(initial=seed)


def blank_weights():
    """Initialize the weights of layers built inside with zeros, as they will be read from a file."""
    return changed(blank=True)


def key_of(*parts):
    """Return a 64-bit hash of some values as a list of two 32-bit ints."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return [int.from_bytes(digest[place:place + 4], "little") for place in (0, 4)]


def randomness_of(path):
    """Return the randomness of a layer's dropout inside a training step; None elsewhere.

    Args:
        path: str, of the layer.

    Returns:
        [key uint32 [2], step, first_row], see keep_mask, or None.
    """
    value = _thread.value
    if value.seed is None:
        return None
    suffix = (f"#{value.reuse}" if value.reuse else "") + (f"@{value.draw}" if value.draw else "")
    return [tf.constant(key_of(value.seed, path + suffix), tf.uint32), tf.convert_to_tensor(value.step),
            tf.convert_to_tensor(value.first_row)]
