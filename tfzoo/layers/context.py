"""The context of a forward pass: a thread-local value, so that threads do not interfere with each other.

It determines the random numbers (from the seed, the step, the first row, the index of the pass, and how often a shared
layer was called before) and the initial weights, and enables fused kernels and rematerialization. The library has no
other global state.
"""
import contextlib
import dataclasses
import hashlib
import threading

import tensorflow as tf
from keras import ops


@dataclasses.dataclass(frozen=True)
class Context:
    """The context of one thread.

    Attributes:
        seed: int, the run's seed in a training step; None elsewhere.
        step: int or integer scalar tensor, index of the step.
        first_row: int or integer scalar tensor, index of this slice's first row in the global batch.
        draw: int, index of the forward pass in the step; each pass has its own dropout masks.
        reuse: int, index of the block in the stack if its layers are shared, else 0; each use has its own dropout
            masks.
        fused: bool, use fused kernels (see kernels.py).
        compiled: bool, whether the pass is compiled by XLA, which has no ops that write in place.
        prepared: Prepared, the weights prepared before a decoding loop; Stored, those of an exported graph; None
            elsewhere.
        remat: bool, store only each block's inputs, and recompute its activations in the backward pass.
        initial: int, seed of the initial weights; None uses Keras' global seed generator.
        lookup: callable (table, ids) -> rows that replaces looking up embeddings; None elsewhere.
        blank: bool, initialize weights with zeros because they will be read from a file.
    """

    seed: int | None = None
    step: object = 0
    first_row: object = 0
    draw: int = 0
    reuse: int = 0
    fused: bool = False
    compiled: bool = False
    prepared: object = None
    lookup: object = None
    remat: bool = False
    initial: int | None = None
    blank: bool = False


class Prepared:
    """Weights cast or concatenated in the graph in which this is created, so that a loop in it need not do so."""

    def __init__(self):
        self.graph, self.tensors = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph(), {}

    def find(self, key, prepare):
        if self.graph is None and not tf.executing_eagerly():
            return prepare()  # an eager loop's function keeps its trace, which must not hold the loop's tensors
        if key not in self.tensors:
            with contextlib.nullcontext() if self.graph is None else self.graph.as_default():
                self.tensors[key] = prepare()
        return self.tensors[key]


class Stored:
    """Weights cast or concatenated now, and stored as variables of their own, so that no call of a graph need do so."""

    def __init__(self):
        self.variables = {}

    def find(self, key, prepare):
        if key not in self.variables:
            with tf.init_scope():
                self.variables[key] = tf.Variable(prepare(), trainable=False)
        return tf.convert_to_tensor(self.variables[key])


class _Thread(threading.local):
    value = Context()


_thread = _Thread()


def current():
    """Return this thread's Context."""
    return _thread.value


@contextlib.contextmanager
def entered(value):
    """Make a Context current in the `with` block, for example to retrace a function in its original context."""
    before, _thread.value = _thread.value, value
    try:
        yield
    finally:
        _thread.value = before


def changed(**values):
    """Replace fields of the current Context in the `with` block."""
    return entered(dataclasses.replace(_thread.value, **values))


def decodes():
    """Return whether this is a decoding loop with prepared weights."""
    return isinstance(_thread.value.prepared, Prepared)


def stores():
    """Return whether weights are stored in the form in which they are used."""
    return isinstance(_thread.value.prepared, Stored)


def prepared(key, prepare):
    """Return what `prepare` makes of weights: in a decoding loop, before the loop (see Prepared, Stored).

    Args:
        key: hashable, names the result.
        prepare: callable () -> tensor.
    """
    known = _thread.value.prepared
    return prepare() if known is None else known.find(key, prepare)


def cast(variable, dtype):
    """Cast a Keras variable (see `prepared`)."""
    return prepared((id(variable), str(dtype)), lambda: ops.cast(variable, dtype))


def training_step(seed, step, first_row=0, remat=False):
    """Derive dropout masks in the `with` block from the seed, step and row, and use fused kernels.

    Args:
        seed: int, seed of the run.
        step: int or integer scalar tensor, index of the step.
        first_row: int or integer scalar tensor, index of this slice's first row in the global batch.
        remat: bool, as in Context (Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174).
    """
    return changed(seed=seed, step=step, first_row=first_row, fused=True, remat=remat)


def initial_weights(seed):
    """Derive initial weights in the `with` block from the seed and each variable's path, without a random generator."""
    return changed(initial=seed)


def blank_weights():
    """Initialize weights with zeros in the `with` block, because they will be read from a file."""
    return changed(blank=True)


def key_of(*parts):
    """Return a 64-bit hash of the values in `parts` as a list of two 32-bit ints."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return [int.from_bytes(digest[place:place + 4], "little") for place in (0, 4)]


def randomness_of(path):
    """Return the key, step and first row for a layer's dropout mask, or None outside a training step.

    Args:
        path: str, the layer's path.

    Returns:
        [key uint32 [2], step, first_row] (see `keep_mask`), or None.
    """
    value = _thread.value
    if value.seed is None:
        return None
    suffix = (f"#{value.reuse}" if value.reuse else "") + (f"@{value.draw}" if value.draw else "")
    return [tf.constant(key_of(value.seed, path + suffix), tf.uint32), tf.convert_to_tensor(value.step),
            tf.convert_to_tensor(value.first_row)]
