"""Choose the next token: the most likely one, or a random one from a distribution that `warp` narrows as transformers'
warpers do, in their order.
"""
import numpy as np
import tensorflow as tf

from tfzoo.generation.processors import NEVER, is_on
from tfzoo.layers.kernels import scramble

LEAST = float(np.finfo(np.float32).tiny)  # devices that flush subnormals treat smaller numbers as zero
FEW = 1024  # tokens that are sorted first: usually they hold the total probability top_p


def _sorted(logits, top_p):
    # Descending logits [R, N], with N < V if the first hold the probability top_p; tf.sort takes long for all of V.
    width = logits.shape[-1]
    if width <= FEW:
        return tf.sort(logits, direction="DESCENDING")
    few = tf.math.top_k(logits, FEW).values
    mass = tf.reduce_sum(tf.exp(few - tf.reduce_logsumexp(logits, -1, keepdims=True)), -1, keepdims=True)
    rest = lambda: tf.sort(logits, direction="DESCENDING")  # noqa: E731
    return tf.cond(tf.reduce_all(mass > top_p + 1e-5),
                   lambda: tf.pad(few, [[0, 0], [0, width - FEW]], constant_values=NEVER), rest)


def _top_k(logits, top_k, keep):
    width = logits.shape[-1]
    if tf.is_tensor(top_k):
        few = tf.math.top_k(logits, min(FEW, width)).values
        place = tf.clip_by_value(top_k, keep, min(FEW, width)) - 1
        return tf.where((top_k > 0) & (logits < tf.gather(few, place, batch_dims=1)), NEVER, logits)
    return tf.where(logits < tf.math.top_k(logits, min(max(top_k, keep), width)).values[:, -1:], NEVER, logits)


def _top_p(logits, top_p, keep):
    ordered = _sorted(logits, top_p)
    probabilities = tf.exp(ordered - tf.reduce_logsumexp(logits, -1, keepdims=True))
    before = tf.cumsum(probabilities, axis=-1, exclusive=True)
    kept = (before < tf.maximum(top_p, LEAST)) | (tf.range(tf.shape(ordered)[1]) < keep)
    return tf.where(logits < tf.reduce_min(tf.where(kept, ordered, tf.float32.max), axis=-1, keepdims=True), NEVER,
                    logits)


def _typical(logits, mass, keep):
    log_p = tf.nn.log_softmax(logits)
    p = tf.exp(log_p)
    shifted = tf.abs(-log_p - _entropy(log_p, p))
    order = tf.argsort(shifted, stable=True)
    before = tf.cumsum(tf.gather(p, order, batch_dims=1), axis=-1, exclusive=True)
    kept = (before < mass) | (tf.range(tf.shape(p)[1]) < keep)
    back = tf.argsort(order)
    return tf.where(tf.gather(kept, back, batch_dims=1), logits, NEVER)


def _entropy(log_p, p):
    return -tf.reduce_sum(tf.where(p > 0, p * log_p, 0.0), -1, keepdims=True)


def _at_least(logits, least, keep):
    # Keep the tokens with a probability of at least `least`, and always the `keep` likeliest.
    small = tf.nn.softmax(logits) < least
    return tf.where(small & (logits < tf.math.top_k(logits, keep).values[:, -1:]), NEVER, logits)


def warp(logits, options, keep=1):
    """Narrow the distribution from which the next token is drawn.

    Args:
        logits: float32 [R, V].
        options: Options with a temperature above 0.
        keep: int, the number of tokens that are always kept.

    Returns:
        float32 [R, V]; -inf for tokens that are never drawn. As in transformers, top-k keeps tokens that tie with the
        last, and so does top-p here.
    """
    if is_on(options.temperature, 1):
        logits /= tf.maximum(options.temperature, LEAST)
    if is_on(options.top_k, 0):
        logits = _top_k(logits, options.top_k, keep)
    if is_on(options.top_p, 1):
        logits = _top_p(logits, options.top_p, keep)
    if is_on(options.min_p, 0):
        largest = tf.reduce_max(tf.nn.softmax(logits), -1, keepdims=True)
        logits = _at_least(logits, options.min_p * largest, keep)
    if is_on(options.typical_p, 1):
        logits = _typical(logits, options.typical_p, keep)
    if is_on(options.epsilon_cutoff, 0):
        logits = _at_least(logits, options.epsilon_cutoff, keep)
    if is_on(options.eta_cutoff, 0):
        log_p = tf.nn.log_softmax(logits)
        entropy = _entropy(log_p, tf.exp(log_p))
        least = tf.minimum(options.eta_cutoff, options.eta_cutoff ** 0.5 * tf.exp(-entropy))
        logits = _at_least(logits, least, keep)
    return logits


def row_keys(seeds, copies):
    """Return the keys of the random numbers for rows with these seeds: uint32 [B x copies].

    Args:
        seeds: int64 [B], seeds of 64 bits.
        copies: int, the number of rows with each seed, which draw different numbers.
    """
    low, high = tf.unstack(tf.bitcast(seeds, tf.uint32), axis=-1)
    key = scramble(low + tf.constant(0x9E3779B9, tf.uint32)) ^ scramble(scramble(high + tf.constant(1, tf.uint32)))
    copy = scramble(tf.cast(tf.range(copies), tf.uint32) + tf.constant(0x85EBCA6B, tf.uint32))
    return tf.reshape(scramble(key[:, None] ^ copy[None]), [-1])


def gumbel(keys, number, width):
    """Return random numbers of the standard Gumbel distribution: float32 [R, width].

    Args:
        keys: uint32 [R], from `row_keys`.
        number: int32 scalar, the index of the draw.
        width: int.
    """
    one = scramble(keys ^ scramble(tf.cast(number, tf.uint32) + tf.constant(0x9E3779B9, tf.uint32)))
    other = scramble(one + tf.constant(0xC2B2AE35, tf.uint32))
    place = tf.cast(tf.range(width), tf.uint32)[None]
    bits = scramble(place ^ one[:, None]) ^ other[:, None]
    uniform = (tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) + 0.5) * 2.0 ** -24
    return -tf.math.log(-tf.math.log(uniform))


def draw(logits, options, keys, number):
    """Choose the next token for each row.

    Args:
        logits: float32 [R, V], processed.
        options: Options.
        keys: uint32 [R], from `row_keys`; unused with a temperature of 0.
        number: int32 scalar, the index of the draw.

    Returns:
        int32 [R].
    """
    likeliest = tf.argmax(logits, -1, output_type=tf.int32)
    if options.greedy:
        return likeliest
    if tf.is_tensor(options.temperature):
        cold = options.temperature[:, 0] < LEAST
        return tf.cond(tf.reduce_all(cold), lambda: likeliest, lambda: tf.where(cold, likeliest, _drawn(
            logits, options, keys, number)))
    return _drawn(logits, options, keys, number)


def _drawn(logits, options, keys, number):
    # The largest logit becomes 0, so that none overflows at a low temperature.
    warped = warp(logits - tf.reduce_max(logits, -1, keepdims=True), options)
    return tf.argmax(warped + gumbel(keys, number, logits.shape[-1]), -1, output_type=tf.int32)
