"""Matrix products with correctly rounded results.

On a CPU without bfloat16 instructions, TensorFlow multiplies in float32 and then truncates instead of rounding, which
doubles the error and saves no time. On such a CPU, this module also multiplies in float32, but rounds.
"""
import functools
import os

import numpy as np
import tensorflow as tf

from tfzoo.layers import context

FROZEN = "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"  # of TensorFlow, in the environment


@functools.lru_cache(maxsize=1)
def rounds_bfloat16():
    """Return whether TensorFlow rounds bfloat16 products on this machine instead of truncating them."""
    if tf.config.list_logical_devices("CPU") != tf.config.list_logical_devices():
        return True  # all accelerators round
    left, right = np.zeros((16, 16), np.float32), np.zeros((16, 16), np.float32)
    left[:, :2], right[:2] = (1, 0.75 * 2 ** -7), 1  # product: 3/4 of the way from 1 to the next bfloat16
    with tf.init_scope():
        product = tf.matmul(tf.constant(left, tf.bfloat16), tf.constant(right, tf.bfloat16))
        return bool(product.numpy()[0, 0] > 1)


def fuses(values):
    """Return whether to add a product's bias, and compute what follows, in its own dtype.

    In graphs on a CPU, TensorFlow fuses a product with a bias, then an activation or a sum, computes them in float32
    and rounds once. Elsewhere, bfloat16 would be rounded after each of these.

    Args:
        values: float, the left input of the product: [N, D] if it can be fused.
    """
    here = context.current()
    return values.shape.rank == 2 and not here.fused and (values.dtype != tf.bfloat16 or not (
        tf.executing_eagerly() or here.compiled) and rounds_bfloat16() and
        tf.config.list_logical_devices("CPU") == tf.config.list_logical_devices())


def _rounded(left, right, *, transpose_a, transpose_b):
    # Do not cast either input until both are ready. Since kernels have no dependencies, a training step would otherwise
    # cast all of them at the start and keep the copies for the backward pass.
    with tf.control_dependencies([left, right]):
        wide = [tf.cast(each, tf.float32) for each in (left, right)]
    return tf.cast(tf.matmul(*wide, transpose_a=transpose_a, transpose_b=transpose_b), tf.bfloat16)


def _biased(left):
    # Whether a product with weights is faster with a bias, because another kernel of TensorFlow 2.21 then computes it
    # on a CPU: for one bfloat16 row in half the time, and for all rows if that kernel may keep the weights in its own
    # layout (see docs/serving.md).
    if not context.decodes() or context.current().compiled or left.shape.rank != 2:
        return False
    return left.shape[0] == 1 and left.dtype == tf.bfloat16 or os.environ.get(FROZEN) == "1"


def _with_zeros(product):
    # Empty is stateful, so the zeros are not optimized away.
    return tf.nn.bias_add(product, tf.raw_ops.Empty(shape=[product.shape[-1]], dtype=product.dtype, init=True))


def multiply(left, right, transpose_a=False, transpose_b=False, bias=None):
    """Multiply matrices like tf.matmul, but always round the result.

    Args:
        left: float [..., N, K], or [..., K, N] with `transpose_a`.
        right: float [..., K, M], or [..., M, K] with `transpose_b`, with the same dtype and leading axes.
        transpose_a, transpose_b: bool.
        bias: float [M], added to each row, or None.

    Returns:
        float [..., N, M].
    """
    if left.dtype != tf.bfloat16 or rounds_bfloat16():
        product = tf.matmul(left, right, transpose_a=transpose_a, transpose_b=transpose_b)
        if bias is not None:  # on a CPU, TensorFlow computes both in one kernel
            return tf.nn.bias_add(product, bias)
        return _with_zeros(product) if _biased(left) else product

    @tf.custom_gradient
    def run(left, right):  # the inputs are stored in bfloat16 for the backward pass
        def gradients(upstream):
            if transpose_a:
                of_left = _rounded(right, upstream, transpose_a=transpose_b, transpose_b=True)
            else:
                of_left = _rounded(upstream, right, transpose_a=False, transpose_b=not transpose_b)
            if transpose_b:
                of_right = _rounded(upstream, left, transpose_a=True, transpose_b=transpose_a)
            else:
                of_right = _rounded(left, upstream, transpose_a=not transpose_a, transpose_b=False)
            return of_left, of_right

        return _rounded(left, right, transpose_a=transpose_a, transpose_b=transpose_b), gradients

    product = run(left, right)
    return product if bias is None else tf.nn.bias_add(product, bias)
