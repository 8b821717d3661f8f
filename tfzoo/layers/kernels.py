"""All computations between matrix products, each in a plain and a fused form; tests check that both give equal results.

Layers call the functions in this module, which use the fused form in a training step. Elsewhere, they use the plain
form, because a SavedModel must not require XLA and shapes may be unknown. Both forms compute in float32 and round once.
"""
import functools
import math
import typing

import keras
import tensorflow as tf

from tfzoo.layers import context
from tfzoo.layers.fusing import fused, max_columns, sum_columns

ADDED = object()  # a bias that a product has added, in a kernel into which TensorFlow fuses what follows
MASKED = -1e9  # finite, so that the probabilities of a fully masked row are finite


class Drop(typing.NamedTuple):
    """The dropout settings for one call.

    Attributes:
        rate: float, the fraction of elements to drop.
        randomness: [key, step, first_row] (see `keep_mask`), or [] if the rate is 0.
    """

    rate: float = 0.0
    randomness: list = []


NOTHING = Drop()


def _fused():
    return context.current().fused


def _vector(values):
    if isinstance(values, keras.Variable):
        return context.cast(values, "float32")
    return tf.cast(values, tf.float32)


def _plus(values, bias):  # the gradient of bias_add is twice as fast as that of `+`
    values = tf.cast(values, tf.float32)
    return values if bias is None or bias is ADDED else tf.nn.bias_add(values, _vector(bias))


def scramble(bits):
    """Hash uint32 with the finalizer lowbias32, in which each input bit flips half of the output bits."""
    shift, times = tf.bitwise.right_shift, tf.constant
    bits = (bits ^ shift(bits, times(16, tf.uint32))) * times(0x7FEB352D, tf.uint32)
    bits = (bits ^ shift(bits, times(15, tf.uint32))) * times(0x846CA68B, tf.uint32)
    return bits ^ shift(bits, times(16, tf.uint32))


@functools.partial(tf.function, autograph=False)  # otherwise, each kernel and its gradient retrace it
def keep_mask(shape, rate, key, step, first_row, offset=None):
    """Compute the dropout mask for a slice of the global batch from key, step, row and position in the row.

    Args:
        shape: list of int or integer scalar tensors, starting with the number of rows.
        rate: float, the fraction to drop, accurate to 2 ** -32.
        key: uint32 [2], a key for the run and the layer.
        step: integer scalar.
        first_row: integer scalar, index of the slice's first row in the global batch.
        offset: uint32 broadcastable to the shape, added to the positions if the slice contains only part of each row;
            None if it contains whole rows. Positions wrap around modulo 2 ** 32.

    Returns:
        bool of the given shape, True for elements to keep.
    """
    key = scramble(key ^ scramble(tf.cast(step, tf.uint32) + tf.constant(0x9E3779B9, tf.uint32)))
    row = tf.cast(tf.cast(first_row, tf.int32) + tf.range(shape[0]), tf.uint32)
    one, other = (tf.reshape(scramble(scramble(row) ^ key[number]), (-1,) + (1,) * (len(shape) - 1))
                  for number in (0, 1))
    place = tf.reshape(tf.cast(tf.range(math.prod(shape[1:])), tf.uint32), (1, *shape[1:]))
    if offset is not None:
        place += offset
    # Two hashes per row: rows whose positions collide under one still differ under the other.
    return scramble(place ^ one) ^ other >= tf.constant(round(rate * 2 ** 32), tf.uint32)


def shape_of(values):
    """Return the shape of a tensor: list of int for known sizes, else scalar tensors."""
    known, dynamic = values.shape, None
    if None in known.as_list():
        dynamic = tf.shape(values)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(known)]


def _drop(values, rate, randomness, offset=None):
    if not rate:
        return values
    return tf.where(keep_mask(shape_of(values), rate, *randomness, offset), values * (1 / (1 - rate)), 0.0)


def dropout(values, drop):
    """Apply `drop` to `values`, float [B, ...]: set a fraction of the elements to zero and scale up the rest."""
    if _fused() and drop.rate:
        return _fused_dropout([values], drop.randomness, drop.rate)
    return _drop(values, *drop)


@fused({})
def _fused_dropout(inputs, randomness, rate):
    return _drop(inputs[0], rate, randomness)


def activate(values, bias, activation):
    """Return activation(values + bias) for `values`, float [..., F]; bias: a Keras variable [F], None or ADDED."""
    if _fused():
        return _fused_activate([values, bias], [], activation)
    if bias is ADDED:
        return activation(values)
    return tf.cast(activation(_plus(values, bias)), values.dtype)


@fused({1: 0})
def _fused_activate(inputs, others, activation):
    values, bias = inputs
    return tf.cast(activation(tf.cast(values, tf.float32) + bias), values.dtype)


def gate(gates, gate_bias, values, bias, activation):
    """Return activation(gates + gate_bias) x (values + bias) (Shazeer 2020, arXiv:2002.05202).

    For shapes and dtypes, see `activate`.
    """
    if _fused():
        return _fused_gate([gates, gate_bias, values, bias], [], activation)
    return tf.cast(activation(_plus(gates, gate_bias)) * _plus(values, bias), gates.dtype)


@fused({1: 0, 3: 2})
def _fused_gate(inputs, others, activation):
    gates, gate_bias, values, bias = inputs
    return tf.cast(activation(tf.cast(gates, tf.float32) + gate_bias) * (tf.cast(values, tf.float32) + bias),
                   gates.dtype)


def split_heads(values, bias, heads, rows=None, trained=True):
    """Add a bias and split projections into heads.

    Args:
        values: float [B, T, sum of H x K], the concatenated projections, or [B x T, sum of H x K] with `rows`.
        bias: Keras variable or float tensor [sum of H x K], or None.
        heads: tuple of int, the number of heads H in each projection.
        rows: Rows or None.
        trained: bool, whether a bias given as a tensor needs a gradient.

    Returns:
        List of float [B, H, T, K].
    """
    if _fused():
        return _fused_split_heads([values, bias], [], heads) if trained else _fused_split_heads([values], [bias], heads)
    return _split(values if bias is None or bias is ADDED else tf.cast(_plus(values, bias), values.dtype), heads, rows)


def _split(values, heads, rows=None):
    width = values.shape[-1] // sum(heads)
    parts = [values] if len(heads) == 1 else tf.split(values, [count * width for count in heads], -1)
    batch, length = shape_of(values)[:2] if rows is None else (rows.batch, rows.length)
    return [transpose_heads(tf.reshape(part, (batch, length, count, width))) for part, count in zip(parts, heads)]


def transpose_heads(values):
    """Swap axes 1 and 2 of `values`, float [B, T, H, K]: float [B, H, T, K]."""
    if _fused() or context.current().compiled:
        return tf.transpose(values, (0, 2, 1, 3))
    return _transposed(values)


@tf.custom_gradient
def _transposed(values):
    # For few values, the overhead of oneDNN's transpose makes it up to eight times as slow as TensorFlow's, which
    # integers use. A bitcast has no gradient of its own.
    bits = {2: tf.int16, 4: tf.int32, 8: tf.int64}[values.dtype.size]
    result = tf.bitcast(tf.transpose(tf.bitcast(values, bits), (0, 2, 1, 3)), values.dtype)
    return result, lambda upstream: tf.transpose(upstream, (0, 2, 1, 3))


@fused({1: 0})
def _fused_split_heads(inputs, others, heads):
    values, bias = [*inputs, *others]
    return _split(tf.cast(tf.cast(values, tf.float32) + tf.cast(bias, tf.float32), values.dtype), heads)


def rotate(heads, table):
    """Rotate `heads`, float [B, H, T, K], by the (cosines, sines) from `rotary_table`; None leaves them unchanged."""
    if table is None:
        return heads
    if _fused():
        return _fused_rotate([heads], list(table))
    return _rotated(heads, table)


def _rotated(heads, table):  # Keras may have cast the table to the compute dtype
    return tf.cast(_turned(*(tf.cast(each, tf.float32) for each in (heads, *table))), heads.dtype)


def _turned(heads, cosines, sines):
    half = heads.shape[-1] // 2
    return heads * cosines + tf.concat([-heads[..., half:], heads[..., :half]], -1) * sines


@fused({})
def _fused_rotate(inputs, table):
    return _rotated(inputs[0], table)


def softmax(scores, scale, visible=None, bias=None, drop=NOTHING, first=0, length=None):
    """Return the attention probabilities for `scores`, after dropout.

    Args:
        scores: float [B, H, C, S], the scores for a block of C query rows.
        scale: float, factor applied to the scores first.
        visible: bool broadcastable to the scores, True where a key may be attended to; None for everywhere.
        bias: float [1, H, C, S], added to the scaled scores, or None.
        drop: Drop.
        first: int or integer scalar tensor, index of the block's first query row.
        length: int, total number of query rows in all blocks; None if there is only this block.

    Returns:
        float [B, H, C, S], in the dtype of the scores.
    """
    if _fused():
        others = [tf.constant(True) if visible is None else visible, tf.convert_to_tensor(first), *drop.randomness]
        inputs = [scores] if bias is None else [scores, bias]
        return _fused_softmax(inputs, others, scale, drop.rate, length or scores.shape[2])
    values = tf.cast(scores, tf.float32) * scale
    if bias is not None:
        values += tf.cast(bias, tf.float32)
    if visible is not None:
        values += tf.where(visible, 0.0, MASKED)
    return tf.cast(_drop_rows(tf.nn.softmax(values), drop, first=first, length=length), scores.dtype)


def _drop_rows(values, drop, first, length):
    if not drop.rate:
        return values
    # Use this block's part of the mask for [H, T, S]: skip the rows before the block and, from one head to the next,
    # the rows of the other blocks.
    _, heads, rows, columns = shape_of(values)
    skipped = tf.range(heads) * ((length or rows) - rows) + first
    offset = tf.reshape(tf.cast(skipped, tf.uint32) * tf.cast(columns, tf.uint32), (1, -1, 1, 1))
    return _drop(values, drop.rate, randomness=drop.randomness, offset=offset)


@fused({})
def _fused_softmax(inputs, others, scale, rate, length):
    scores = inputs[0]
    visible, first, *randomness = others
    values = tf.cast(scores, tf.float32) * scale + tf.where(visible, 0.0, MASKED)
    if len(inputs) > 1:
        values += tf.cast(inputs[1], tf.float32)
    return tf.cast(_drop_rows(_softmax(values), Drop(rate, randomness), first=first, length=length), scores.dtype)


@tf.custom_gradient
def _softmax(values):
    powers = tf.exp(values - max_columns(values))
    result = powers / sum_columns(powers)

    def gradient(upstream):
        return result * (upstream - sum_columns(result * upstream))

    return result, gradient


def add(hidden, result, bias, drop):
    """Add a residual connection: hidden + dropout(result + bias).

    Args:
        hidden, result: float [B, T, D].
        bias: Keras variable [D], None or ADDED.
        drop: Drop.

    Returns:
        float [B, T, D], in the dtype of `hidden`.
    """
    if _fused():
        return _fused_add([hidden, result, bias], drop.randomness, drop.rate)
    total = _total(hidden, result, bias=bias, drop=drop)
    return total if total.dtype == hidden.dtype else tf.cast(total, hidden.dtype)


def _total(hidden, result, bias, drop):
    if bias is ADDED and not drop.rate:
        return hidden + result
    return tf.cast(hidden, tf.float32) + _drop(_plus(result, bias), *drop)


@fused({2: 1})
def _fused_add(inputs, randomness, rate):
    return tf.cast(_sum(*inputs, rate, randomness), inputs[0].dtype)


def _sum(hidden, result, bias, rate, randomness):
    return tf.cast(hidden, tf.float32) + _drop(tf.cast(result, tf.float32) + bias, rate, randomness)


def add_normalize(hidden, result, bias, drop, gamma, beta, epsilon):
    """Normalize the result of `add`; see `add` and `normalize` for the arguments."""
    if _fused():
        return _fused_add_normalize([hidden, result, bias, gamma, beta], drop.randomness, drop.rate, epsilon)
    total = _total(hidden, result, bias=bias, drop=drop)
    return tf.cast(normalize(total, gamma=gamma, beta=beta, epsilon=epsilon), hidden.dtype)


@fused({2: 1, 4: None})
def _fused_add_normalize(inputs, randomness, rate, epsilon):
    hidden, result, bias, gamma, beta = inputs
    total = _sum(hidden, result, bias=bias, rate=rate, randomness=randomness)
    return tf.cast(_normalized(total, epsilon) * gamma + beta, hidden.dtype)


def normalize(hidden, gamma, beta, epsilon):
    """Normalize `hidden`, float [..., D], over the last axis; scale by gamma and shift by beta, Keras variables [D]."""
    if _fused():
        return _fused_normalize([hidden, gamma, beta], [], epsilon)
    values = tf.cast(hidden, tf.float32)
    centred = values - tf.reduce_mean(values, -1, keepdims=True)
    factor = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + epsilon)
    return tf.cast(centred * factor * _vector(gamma) + _vector(beta), hidden.dtype)


@fused({2: None})
def _fused_normalize(inputs, others, epsilon):
    hidden, gamma, beta = inputs
    return tf.cast(_normalized(tf.cast(hidden, tf.float32), epsilon) * gamma + beta, hidden.dtype)


def _normalized(values, epsilon):
    @tf.custom_gradient
    def run(values):
        size = values.shape[-1]
        centred = values - sum_columns(values) / size
        factor = tf.math.rsqrt(sum_columns(tf.square(centred)) / size + epsilon)
        result = centred * factor

        def gradient(upstream):
            return factor * (upstream - (sum_columns(upstream) + result * sum_columns(upstream * result)) / size)

        return result, gradient

    return run(values)


def rms_normalize(hidden, gamma, epsilon):
    """Divide `hidden`, float [..., D], by its root mean square over the last axis; scale by gamma, a variable [D]."""
    if _fused():
        return _fused_rms_normalize([hidden, gamma], [], epsilon)
    values = tf.cast(hidden, tf.float32)
    values *= tf.math.rsqrt(tf.reduce_mean(tf.square(values), -1, keepdims=True) + epsilon)
    return tf.cast(values * _vector(gamma), hidden.dtype)


@fused({})
def _fused_rms_normalize(inputs, others, epsilon):
    hidden, gamma = inputs
    return tf.cast(_divided(tf.cast(hidden, tf.float32), epsilon) * gamma, hidden.dtype)


def _divided(values, epsilon):
    @tf.custom_gradient
    def run(values):
        size = values.shape[-1]
        factor = tf.math.rsqrt(sum_columns(tf.square(values)) / size + epsilon)
        result = values * factor

        def gradient(upstream):
            return factor * (upstream - result * sum_columns(upstream * result) / size)

        return result, gradient

    return run(values)
