"""Attention of long texts for a block of query rows at a time, made again for the gradients.

Rabe & Staats 2021, arXiv:2112.05682, without their blocks of keys: memory grows with the length, not with its square.
"""
import math

import tensorflow as tf

from tfzoo.layers import context

LARGE = 2 ** 26  # more scores [B, H, T, S] than these (256 MB in float32) are made in blocks
BLOCK = 64  # query rows in a block: with heads 64 wide its scores have as many elements as one of [B, S, D]


def is_large(queries, keys):
    """Return whether the scores of queries [B, H, T, K] and keys [B, G, S, K] are better made in blocks."""
    shape = (*queries.shape[:3], keys.shape[2])
    return None not in shape and math.prod(shape) > LARGE


def attend_in_blocks(mix, queries, keys, values, visible):
    """Attend from one block of query rows after the other; the gradients compute each block again.

    Args:
        mix: callable (queries float [B, H, C, K], keys, values, visible bool or None, first row) -> float [B, H, C, K].
        queries: float [B, H, T, K], of static shape; keys, values: float [B, G, S, K].
        visible: bool broadcastable to [B, H, T, S], or None.

    Returns:
        float [B, H, T, K].
    """
    batch, heads, length, width = queries.shape
    count = math.ceil(length / BLOCK)
    rows = math.ceil(length / count)  # C
    padded = tf.pad(queries, ((0, 0), (0, 0), (0, count * rows - length), (0, 0)))
    blocks = tf.transpose(tf.reshape(padded, (batch, heads, count, rows, width)), (2, 0, 1, 3, 4))
    here = context.current()

    def mix_block(number, queries, keys, values):
        seen = visible
        if visible is not None and visible.shape[2] != 1:  # what the padding sees is cut off, and no mask is padded
            seen = tf.gather(visible, tf.minimum(number * rows + tf.range(rows), length - 1), axis=2)
        with context.entered(here):  # the gradients may be traced elsewhere
            return mix(queries, keys, values, seen, number * rows)

    @tf.custom_gradient
    def run(*inputs):
        blocks, keys, values = map(tf.stop_gradient, inputs)  # or an eager tape would keep what is inside

        def gradients(upstream):
            def add(number, of_blocks, *sums):
                inputs = [blocks[number], keys, values]
                with tf.GradientTape() as tape:
                    tape.watch(inputs)
                    mixed = mix_block(number, *inputs)
                of_block, *more = tape.gradient(mixed, inputs, upstream[number])
                sums = [total + tf.cast(part, total.dtype) for total, part in zip(sums, more)]
                return number + 1, of_blocks.write(number, of_block), *sums

            start = (tf.constant(0), tf.TensorArray(blocks.dtype, count, element_shape=blocks.shape[1:]),
                     tf.zeros(keys.shape), tf.zeros(values.shape))  # float32: many blocks add to them
            _, of_blocks, *sums = tf.while_loop(lambda number, *_: number < count, add, start, parallel_iterations=1,
                                                maximum_iterations=count)
            return of_blocks.stack(), *(tf.cast(total, keys.dtype) for total in sums)

        # One after the other, or the blocks would share the memory that they are there to save.
        return tf.map_fn(lambda given: mix_block(*given, keys, values), (tf.range(count), blocks),
                         fn_output_signature=blocks.dtype, parallel_iterations=1), gradients

    mixed = tf.transpose(run(blocks, keys, values), (1, 2, 0, 3, 4))  # [B, H, T / C, C, K]
    return tf.reshape(mixed, (batch, heads, count * rows, width))[:, :, :length]
