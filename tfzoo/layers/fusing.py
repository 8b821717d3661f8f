"""Kernel fusion: compile an element-wise function into one pass over memory, and its gradient into another.

Without fusion, every addition, cast and mask of a GELU or a norm is a separate pass, and all intermediate results are
stored for the backward pass. Here, the backward pass recomputes them from the inputs.
"""
import functools
import math

import tensorflow as tf


def jitted(function):
    """Compile a function of tensors with XLA."""
    return tf.function(function, jit_compile=True, autograph=False)


def fused(sums):
    """Return a decorator that compiles an element-wise function into one kernel and its gradient into another.

    The gradient recomputes the function from its inputs. Vectors are broadcast over all rows, so their gradients are
    summed over the rows. No gradients are computed for frozen Keras variables.

    Args:
        sums: dict of vector index -> input index or None, for vectors that are added to an input. The gradient for such
            a vector is that input's gradient (or, for None, the upstream gradient), summed over the rows. For any other
            vector, a separate gradient is computed for each row, then summed.

    Returns:
        A decorator for functions with the signature (list of float tensors, list of other tensors, *plain values) ->
        float tensor or list of float tensors, which receive vectors in float32. The decorated function takes the same
        arguments, but also accepts a Keras variable or None (zeros) for a vector. Gradients flow to the float tensors
        and the trainable variables.
    """
    def decorate(function):
        @jitted
        def forward(inputs, others, *plain):
            return function([_widen(value) for value in inputs], others, *plain)

        @jitted
        def backward(wanted, upstream, inputs, others, *plain):
            spread = [tf.broadcast_to(_widen(value), inputs[0].shape) if value.shape.rank == 1 else value
                      for value in inputs]
            own = [spread[place] for place in wanted]
            dtypes = [inputs[0 if inputs[place].shape.rank == 1 else place].dtype for place in wanted]
            with tf.GradientTape() as tape:
                tape.watch(own)
                results = tf.nest.flatten(function(spread, others, *plain))
            return [tf.cast(gradient, dtype)
                    for gradient, dtype in zip(tape.gradient(results, own, list(upstream)), dtypes)]

        def call(inputs, others, *plain):
            trained = [place for place, value in enumerate(inputs)
                       if value is not None and getattr(value, "trainable", True)]
            inputs = [tf.zeros(inputs[0].shape[-1], inputs[0].dtype) if value is None else tf.convert_to_tensor(value)
                      for value in inputs]
            vectors = [place for place in trained if inputs[place].shape.rank == 1]
            sources = [sums.get(place, place) for place in vectors]
            wanted = sorted({place for place in trained if place not in sums} | set(sources) - {None})

            @tf.custom_gradient
            def run(*inputs):
                def gradients(*upstream):
                    found = dict(zip(wanted, backward(tuple(wanted), upstream, list(inputs), others, *plain)))
                    rows = sum_rows([upstream[0] if source is None else found[source] for source in sources])
                    found.update({place: tf.cast(row, inputs[place].dtype) for place, row in zip(vectors, rows)})
                    return [found.get(place) for place in range(len(inputs))]
                return forward(list(inputs), others, *plain), gradients
            return run(*inputs)

        return functools.wraps(function)(call)

    return decorate


def _widen(value):
    return tf.cast(value, tf.float32) if value.shape.rank == 1 else value


@jitted
def _sum_rows(tensors):
    def summed(tensor):
        flat = tf.cast(tf.reshape(tensor, (-1, tensor.shape[-1])), tf.float32)
        parts = math.gcd(8, flat.shape[0])  # added up first: XLA on a CPU takes five times as long to sum cast rows
        return tf.reduce_sum(functools.reduce(tf.add, tf.unstack(tf.reshape(flat, (parts, -1, flat.shape[1])))), 0)
    return [summed(tensor) for tensor in tensors]


def sum_rows(tensors):
    """Sum each tensor, [..., N], over all axes except the last: list of float32 [N]."""
    return _sum_rows(tensors) if tensors else []


def sum_columns(values):
    """Sum `values`, float32 [..., N], over the last axis: float32 [..., 1]."""
    if tf.config.list_logical_devices("CPU") != tf.config.list_logical_devices():
        return tf.reduce_sum(values, -1, keepdims=True)  # on an accelerator, a product might round its inputs
    ones = tf.ones((values.shape[-1], 1))  # on a CPU, XLA sums a row element by element
    return tf.reshape(tf.matmul(tf.reshape(values, (-1, values.shape[-1])), ones), (*values.shape[:-1], 1))


def max_columns(values):
    """Return the maximum of `values`, float32 [..., N], over the last axis: float32 [..., 1]."""
    whole = values.shape[-1] // 16 * 16
    if not whole:
        return tf.reduce_max(values, -1, keepdims=True)
    lanes = tf.reshape(values[..., :whole], (*values.shape[:-1], whole // 16, 16))  # for speed, as in sum_columns
    lanes = tf.concat([tf.reduce_max(lanes, -2), values[..., whole:]], -1)
    return tf.reduce_max(lanes, -1, keepdims=True)
