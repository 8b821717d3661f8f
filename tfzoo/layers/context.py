"""What a forward pass depends on beside its inputs: one thread-local value, so that threads do not disturb each other.

It keys the randomness (seed, step, first row, number of the pass, reuse of a shared layer), chooses the form of the
kernels and of rematerialization, and keys the initial weights. Nothing else in the library is process-wide.
"""
import contextlib
import dataclasses
import hashlib
import threading

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Context:
    """The value of one thread.

    Attributes:
        seed: int of the run, inside a training step; None elsewhere.
        step, first_row: int or integer scalar tensor, the step and where this slice begins in the global batch.
        draw: int, the number of the pass in the step: passes of another number drop other elements.
        reuse: int, how often the layers that run now, which are shared, have run before in the pass.
        fused: bool, compute in fused kernels, see kernels.py.
        remat: bool, rematerialize: keep only what goes into a block and compute its inside again for the gradients.
        initial: int or None, the seed of initial weights; None draws from Keras' own generator.
        blank: bool, initial weights are zeros, as they will be read from a file.
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
    """Let a Context hold inside, as one that was `current` when a function was made that is traced again later."""
    before, _thread.value = _thread.value, value
    try:
        yield
    finally:
        _thread.value = before


def changed(**values):
    """Let the fields of these names have other values inside."""
    return entered(dataclasses.replace(_thread.value, **values))


def training_step(seed, step, first_row=0, remat=False):
    """Key the dropout of the calls inside by step and row, and compute in fused kernels.

    Args:
        seed: int of the run.
        step: int or integer scalar tensor.
        first_row: int or integer scalar tensor, where this slice begins in the global batch.
        remat: bool, see Context (Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174).
    """
    return changed(seed=seed, step=step, first_row=first_row, fused=True, remat=remat)


def initial_weights(seed):
    """Key the initial weights of what is built inside by (seed, variable path); no generator is asked or moved."""
    return changed(initial=seed)


def blank_weights():
    """Let the weights of what is built inside begin as zeros: they will be read from a file."""
    return changed(blank=True)


def key_of(*parts):
    """Return 64 bits that are a function of some values, as two int of 32 bits."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return [int.from_bytes(digest[place:place + 4], "little") for place in (0, 4)]


def randomness_of(path):
    """Return what keys the dropout of a layer inside a training step, as keep_mask takes it, else None.

    Args:
        path: str, the layer's.

    Returns:
        [uint32 [2], step, first_row] or None.
    """
    value = _thread.value
    if value.seed is None:
        return None
    suffix = (f"#{value.reuse}" if value.reuse else "") + (f"@{value.draw}" if value.draw else "")
    return [tf.constant(key_of(value.seed, path + suffix), tf.uint32), tf.convert_to_tensor(value.step),
            tf.convert_to_tensor(value.first_row)]
