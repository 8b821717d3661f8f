"""Cross-entropy for a projection onto the vocabulary, without storing the logits for all rows at once."""
import tensorflow as tf

from tfzoo.layers.fusing import jitted, max_columns, sum_columns, sum_rows
from tfzoo.layers.products import multiply

CHUNK = 2 ** 26  # maximum number of logits stored at once


def projected_cross_entropy(hidden, table, bias, labels, weights, training=False, trained=(True, True), smoothing=None):
    """Sum the weighted cross-entropy of the logits `hidden @ table.T + bias`, one chunk of rows at a time.

    In training, each chunk's gradients are computed together with its logits and scaled in the backward pass.

    Args:
        hidden: float [N, D], in the dtype to use for the matrix products.
        table: float32 [V, D].
        bias: float32 [V].
        labels: int32 [N].
        weights: float32 [N].
        training: bool, whether a gradient will be needed.
        trained: (bool, bool), whether the table and the bias need gradients; frozen ones cost nothing.
        smoothing: float32 scalar tensor, the target probability to move from the label to all other words in equal
            parts (label smoothing); None: none.

    Returns:
        (loss, right, smoothed), all float32 scalars: the weighted sum of the losses in nats without label smoothing;
            the total weight of the correct rows; and the weighted sum with label smoothing. A row is correct if its
            label has the largest logit, and the lowest index if several are tied. Gradients flow from `smoothed`, or
            from either if there is no smoothing, to hidden, table and bias.

    Raises:
        ValueError: if a gradient is computed with training=False.
    """
    chunks = -(-hidden.shape[0] * table.shape[0] // CHUNK)

    @tf.custom_gradient
    def run(hidden, table, bias):
        products = tf.cast(table, hidden.dtype)
        sums, gradients = _all_rows(hidden, products, bias=bias, labels=labels, weights=weights,
                                    trained=training and tuple(trained), chunks=chunks, smoothing=smoothing)

        def scaled(loss, right, smoothed):
            if not training:
                raise ValueError("cross-entropy has no gradient with training=False; pass training=True")
            wanted = [part for part, wants in zip((hidden, table, bias), (True, *trained)) if wants]
            factor = loss + smoothed if smoothing is None else smoothed
            found = iter([tf.cast(value, like.dtype) for value, like in zip(_scale(gradients, factor), wanted)])
            return [next(found) if wants else None for wants in (True, *trained)]

        return tuple(tf.unstack(sums)), scaled

    return run(hidden, table, bias)


def _all_rows(hidden, table, bias, labels, weights, trained, chunks, smoothing):
    # Return (sums float32 [3], list of the gradients for hidden and, if trained, for table and bias).
    if chunks <= 1:
        return _rows(hidden, table, bias=bias, labels=labels, weights=weights, trained=trained, smoothing=smoothing)
    rows = -(-hidden.shape[0] // chunks)
    padding = rows * chunks - hidden.shape[0]  # rows with weight 0
    hidden, labels, weights = (tf.pad(value, [[0, padding]] + [[0, 0]] * (value.shape.rank - 1))
                               for value in (hidden, labels, weights))
    parts = [tf.reshape(value, (chunks, rows, *value.shape[1:])) for value in (hidden, labels, weights)]

    def add(number, sums, of_hidden, *totals):
        more, (part, *shared) = _rows(parts[0][number], table, bias=bias, labels=parts[1][number],
                                      weights=parts[2][number], trained=trained, smoothing=smoothing)
        return (number + 1, sums + more, of_hidden.write(number, part),
                *(total + tf.cast(value, tf.float32) for total, value in zip(totals, shared)))

    totals = [tf.zeros(value.shape) for value, wants in zip((table, bias), trained or ()) if wants]
    begin = (0, tf.zeros(3), tf.TensorArray(hidden.dtype, chunks, element_shape=(rows, hidden.shape[1])
                                            if trained else ()), *totals)
    _, sums, of_hidden, *totals = tf.while_loop(lambda number, *_: number < chunks, add, begin, parallel_iterations=1)
    return sums, [of_hidden.concat()[:rows * chunks - padding], *totals] if trained else []


def _rows(hidden, table, bias, labels, weights, trained, smoothing):
    logits = multiply(hidden, table, transpose_b=True)
    sums, slopes = _losses(logits, bias, labels, weights, bool(trained), smoothing)
    if not trained:
        return sums, [tf.zeros((), hidden.dtype)]
    of_table = [multiply(slopes, hidden, transpose_a=True)] if trained[0] else []
    return sums, [multiply(slopes, table), *of_table, *sum_rows([slopes] if trained[1] else [])]


@jitted
def _losses(logits, bias, labels, weights, training, smoothing):
    # Return (float32 [3], see projected_cross_entropy; the logits' gradient, or 0 if not training).
    values = tf.cast(logits, tf.float32) + bias
    numbers, labels = tf.range(values.shape[1])[None], labels[:, None]
    largest = max_columns(values)
    powers = tf.exp(values - largest)
    summed = sum_columns(powers)
    total = largest + tf.math.log(summed)
    own = tf.gather(values, labels, axis=1, batch_dims=1)
    earlier = sum_columns(tf.cast((values == largest) & (numbers < labels), tf.float32))
    right = tf.cast((own == largest) & (earlier == 0), tf.float32)
    losses = [total - own, right]
    if smoothing is not None:
        other = smoothing / (values.shape[1] - 1)  # target probability of each word but the label
        losses.append((1 - smoothing) * losses[0] + other * (values.shape[1] * total - sum_columns(values) - losses[0]))
    sums = [tf.tensordot(part[:, 0], weights, 1) for part in losses]
    sums = tf.stack([*sums, sums[0]][:3])
    if not training:
        return sums, tf.zeros((), logits.dtype)
    # Reuse the powers: recomputing them from the total would make this function a quarter slower.
    targets = tf.cast(numbers == labels, tf.float32) if smoothing is None else \
        tf.where(numbers == labels, 1 - smoothing, other)
    slopes = powers * (weights[:, None] / summed) - targets * weights[:, None]
    return sums, tf.cast(slopes, logits.dtype)


@jitted
def _scale(gradients, factor):
    return [tf.cast(gradient, tf.float32) * factor for gradient in gradients]
