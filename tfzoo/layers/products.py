"""Matrix products that round as the dtype says.

A CPU without bfloat16 instructions multiplies in float32, and TensorFlow then cuts digits off where it should round:
twice the error, for no time saved. There the same is done here with rounding.
"""
import functools

import numpy as np
import tensorflow as tf


@functools.lru_cache(maxsize=1)
def rounds_bfloat16():
    """Return whether TensorFlow rounds products of bfloat16 on this machine."""
    if tf.config.list_logical_devices("CPU") != tf.config.list_logical_devices():
        return True  # of accelerators all do
    left, right = np.zeros((16, 16), np.float32), np.zeros((16, 16), np.float32)
    left[:, :2], right[:2] = (1, 0.75 * 2 ** -7), 1  # three quarters of the way from 1 to the next number
    with tf.init_scope():
        product = tf.matmul(tf.constant(left, tf.bfloat16), tf.constant(right, tf.bfloat16))
        return bool(product.numpy()[0, 0] > 1)


def _widen(matrices, *before):
    """Return matrices in float32, but not before all are there, and `before`: or a step would widen all its kernels,
    which wait for nothing, at its beginning, and keep them for the backward pass."""
    with tf.control_dependencies([*matrices, *before]):
        return [tf.cast(each, tf.float32) for each in matrices]


def multiply(left, right, transpose_a=False, transpose_b=False):
    """Multiply matrices as tf.matmul does, float [..., N, K] and [..., K, M] of one dtype -> [..., N, M]."""
    if left.dtype != tf.bfloat16 or rounds_bfloat16():
        return tf.matmul(left, right, transpose_a=transpose_a, transpose_b=transpose_b)

    @tf.custom_gradient
    def run(left, right):  # so that the inputs are kept in bfloat16
        def gradients(upstream):
            wide = _widen((left, right), upstream)
            with tf.GradientTape() as tape:
                tape.watch(wide)
                product = tf.matmul(*wide, transpose_a=transpose_a, transpose_b=transpose_b)
            found = tape.gradient(product, wide, tf.cast(upstream, tf.float32))
            return [tf.cast(each, tf.bfloat16) for each in found]

        product = tf.matmul(*_widen((left, right)), transpose_a=transpose_a, transpose_b=transpose_b)
        return tf.cast(product, tf.bfloat16), gradients

    return run(left, right)
