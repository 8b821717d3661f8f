"""What stands between the matrix products of a training step, each compiled into one pass over memory.

Without it every addition, cast and mask of a GELU or a norm is a pass of its own, and all of their results are kept for
the backward pass. Here the backward pass computes them again from what went in. Used while training by the trainer
(`step_randomness`); everything else runs the plain layers, which a test holds equal.
"""
import functools
import math

import tensorflow as tf


def fused(function):
    """Compile an element-wise function into one kernel, and its gradient into another that starts from the inputs.

    Args:
        function: callable of (list of float tensors, list of other tensors, *plain values) -> float tensor.

    Returns:
        Callable of the same; gradients flow to the float tensors.
    """
    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def forward(inputs, others, *plain):
        return function([tf.cast(value, tf.float32) if value.shape.rank == 1 else value for value in inputs], others,
                        *plain)

    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def backward(upstream, inputs, others, *plain):
        # Vectors are spread out, and their gradients summed by another op: XLA's sums over rows are slow on a CPU.
        spread = [tf.broadcast_to(tf.cast(value, tf.float32), upstream.shape) if value.shape.rank == 1 else value
                  for value in inputs]
        with tf.GradientTape() as tape:
            tape.watch(spread)
            result = function(spread, others, *plain)
        return [tf.cast(gradient, upstream.dtype) for gradient in tape.gradient(result, spread, upstream)]

    @functools.wraps(function)
    def call(inputs, others, *plain):
        @tf.custom_gradient
        def run(*inputs):
            def gradients(upstream):
                wide = backward(upstream, list(inputs), others, *plain)
                return [_sum_rows(gradient, value) if value.shape.rank == 1 else gradient
                        for gradient, value in zip(wide, inputs)]
            return forward(list(inputs), others, *plain), gradients
        return run(*inputs)

    return call


def _sum_rows(gradient, vector):
    flat = tf.reshape(gradient, (-1, vector.shape[0]))
    return tf.cast(tf.raw_ops.BiasAddGrad(out_backprop=flat), vector.dtype)


def _mix(bits):
    """Scramble uint32 so that each bit of the input moves half of the output's (the finalizer `lowbias32`)."""
    shift, times = tf.bitwise.right_shift, tf.constant
    bits = (bits ^ shift(bits, times(16, tf.uint32))) * times(0x7FEB352D, tf.uint32)
    bits = (bits ^ shift(bits, times(15, tf.uint32))) * times(0x846CA68B, tf.uint32)
    return bits ^ shift(bits, times(16, tf.uint32))


def keep_mask(shape, rate, key, step, first_row):
    """Decide which elements of a slice of a global batch survive dropout, as a function of key, step, row and place.

    Args:
        shape: static shape, rows first.
        rate: float, the share to drop, exact to 2 ** -32.
        key: uint32 [2], of the run and the layer.
        step: integer scalar; first_row: integer scalar, where the slice begins in the global batch.

    Returns:
        bool of that shape.
    """
    key = _mix(key ^ _mix(tf.cast(step, tf.uint32) + tf.constant(0x9E3779B9, tf.uint32)))
    row = tf.cast(tf.cast(first_row, tf.int32) + tf.range(shape[0]), tf.uint32)
    one, other = (tf.reshape(_mix(_mix(row) ^ key[number]), (-1,) + (1,) * (len(shape) - 1)) for number in (0, 1))
    place = tf.reshape(tf.cast(tf.range(math.prod(shape[1:])), tf.uint32), (1, *shape[1:]))
    # Two words a row: rows whose sequences overlapped by the one would still differ by the other.
    return _mix(place ^ one) ^ other >= tf.constant(round(rate * 2 ** 32), tf.uint32)


def _drop(values, rate, randomness):
    if not rate:
        return values
    return tf.where(keep_mask(values.shape, rate, *randomness), values * (1 / (1 - rate)), 0.0)


@fused
def dropout(inputs, randomness, rate):
    """Drop [values]; randomness: (key, step, first_row), see keep_mask."""
    return _drop(inputs[0], rate, randomness)


@fused
def bias_activation(inputs, others, activation):
    """Add a bias and activate: [float [..., F], bias float32 [F]] -> float [..., F]."""
    values, bias = inputs
    return tf.cast(activation(tf.cast(values, tf.float32) + bias), values.dtype)


@fused
def masked_softmax(inputs, others, rate, masked):
    """Give the dropped attention probabilities of [scores float [B, H, T, S]].

    others: visible, bool broadcastable to the scores, or a 0-d True; key, step, first_row, see keep_mask.
    """
    scores = inputs[0]
    visible, *randomness = others
    values = tf.cast(scores, tf.float32) + tf.where(visible, 0.0, masked)
    return tf.cast(_drop(tf.nn.softmax(values), rate, randomness), scores.dtype)


@fused
def add_dropped(inputs, randomness, rate):
    """Add [hidden float [B, T, D], result [B, T, D], bias float32 [D]]: hidden + dropped(result + bias)."""
    hidden, result, bias = inputs
    return tf.cast(_sum(hidden, result, bias, rate, randomness), hidden.dtype)


@fused
def add_normalized(inputs, randomness, rate, epsilon):
    """Normalize what add_dropped gives: [hidden, result, bias, gamma float32 [D], beta float32 [D]]."""
    hidden, result, bias, gamma, beta = inputs
    total = _sum(hidden, result, bias, rate, randomness)
    return tf.cast(_normalize(total, epsilon) * gamma + beta, hidden.dtype)


@fused
def normalized(inputs, others, epsilon):
    """Normalize [hidden float [B, T, D], gamma float32 [D], beta float32 [D]] over the last axis."""
    hidden, gamma, beta = inputs
    return tf.cast(_normalize(tf.cast(hidden, tf.float32), epsilon) * gamma + beta, hidden.dtype)


def _sum(hidden, result, bias, rate, randomness):
    return tf.cast(hidden, tf.float32) + _drop(tf.cast(result, tf.float32) + bias, rate, randomness)


def _normalize(values, epsilon):
    centred = values - tf.reduce_mean(values, -1, keepdims=True)
    return centred * tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + epsilon)
