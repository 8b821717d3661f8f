"""Memory-efficient attention for long texts, computed one block of query rows at a time.

Each block is recomputed in the backward pass, so memory grows linearly with the length instead of quadratically. Rabe &
Staats 2021 (arXiv:2112.05682) describe the method, but also divide the keys into blocks.
"""
import math

import tensorflow as tf

from tfzoo.layers import context

LARGE = 2 ** 26  # scores [B, H, T, S] with more elements (256 MB in float32) are computed in blocks
BLOCK = 64  # query rows per block; if the head width is 64, the scores of a block are as large as [B, S, D]


def is_large(queries, keys):
    """Return whether the scores for queries [B, H, T, K] and keys [B, G, S, K] must be computed in blocks."""
    shape = (*queries.shape[:3], keys.shape[2])
    return None not in shape and math.prod(shape) > LARGE


def attend_in_blocks(mix, queries, keys, values, visible):
    """Compute attention for one block of query rows at a time, and recompute each block in the backward pass.

    Args:
        mix: callable (queries float [B, H, C, K], keys, values, visible bool or None, index of the first query row) ->
            float [B, H, C, K].
        queries: float [B, H, T, K], with a static shape.
        keys, values: float [B, G, S, K].
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
        if visible is not None and visible.shape[2] != 1:  # padding rows, removed below, reuse the last mask row
            seen = tf.gather(visible, tf.minimum(number * rows + tf.range(rows), length - 1), axis=2)
        with context.entered(here):  # the backward pass may be traced in a different context
            return mix(queries, keys, values, seen, number * rows)

    @tf.custom_gradient
    def run(*inputs):
        blocks, keys, values = map(tf.stop_gradient, inputs)  # or an eager tape would store the blocks' activations

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
                     tf.zeros(keys.shape), tf.zeros(values.shape))  # float32, because every block adds to them
            _, of_blocks, *sums = tf.while_loop(lambda number, *_: number < count, add, start, parallel_iterations=1,
                                                maximum_iterations=count)
            return of_blocks.stack(), *(tf.cast(total, keys.dtype) for total in sums)

        # Run the blocks sequentially: in parallel, they would use the memory that they are meant to save.
        return tf.map_fn(lambda given: mix_block(*given, keys, values), (tf.range(count), blocks),
                         fn_output_signature=blocks.dtype, parallel_iterations=1), gradients

    mixed = tf.transpose(run(blocks, keys, values), (1, 2, 0, 3, 4))  # [B, H, T / C, C, K]
    return tf.reshape(mixed, (batch, heads, count * rows, width))[:, :, :length]
