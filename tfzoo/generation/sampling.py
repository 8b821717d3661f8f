"""How the next token is drawn: greedy, by temperature, of the k likeliest (Fan et al. 2018, arXiv:1805.04833), of the
nucleus (Holtzman et al. 2019, arXiv:1904.09751).
"""
import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfzoo.errors import ConfigError

NEVER = -1e30
LEAST = float(np.finfo(np.float32).tiny)  # smaller numbers are zero on devices that flush them
SEEDS = 2 ** 64 - 1


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of the draw.

    Args:
        temperature: float; 0 takes the likeliest token, 1 the model's own distribution.
        top_k: int; only the k likeliest tokens, 0 for all.
        top_p: float; only the fewest likeliest tokens whose probabilities reach p together, 1 for all.
        seed: int, from 0 to SEEDS.

    Raises:
        ConfigError: for a value out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"--temperature={self.temperature}: allowed is a finite number from 0")
        if self.top_k < 0:
            raise ConfigError(f"--top_k={self.top_k}: allowed is 0 (all) or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"--top_p={self.top_p}: allowed is above 0, up to 1 (all)")
        if not 0 <= self.seed <= SEEDS:
            raise ConfigError(f"--seed={self.seed}: allowed is an integer from 0 to {SEEDS}")


def keep_likeliest(logits, top_k, top_p):
    """Set all but the allowed logits to a number that is never drawn.

    Args:
        logits: float32 [B, V]; top_k, top_p: see Sampling.

    Returns:
        float32 [B, V].
    """
    if top_k and top_k < logits.shape[-1]:
        least = tf.math.top_k(logits, top_k).values[:, -1:]
        logits = tf.where(logits < least, NEVER, logits)
    if top_p < 1:
        ordered = tf.sort(logits, direction="DESCENDING")
        probabilities = tf.nn.softmax(ordered)
        before = tf.cumsum(probabilities, axis=-1, exclusive=True)
        least = tf.reduce_min(tf.where(before < max(top_p, LEAST), ordered, tf.float32.max), axis=-1, keepdims=True)
        logits = tf.where(logits < least, NEVER, logits)
    return logits


def draw(logits, sampling, number):
    """Draw the next tokens.

    Args:
        logits: float32 [B, V].
        sampling: Sampling.
        number: integer scalar tensor, counts the draws; with the seed it decides the draw.

    Returns:
        int32 [B]; -1 where the logits of a row are no numbers.
    """
    broken = tf.reduce_any(tf.math.is_nan(logits), -1)
    if sampling.temperature < LEAST:
        return tf.where(broken, -1, tf.argmax(logits, -1, output_type=tf.int32))
    logits -= tf.reduce_max(logits, -1, keepdims=True)  # the likeliest one is 0 at any temperature, no other overflows
    logits = keep_likeliest(logits / sampling.temperature, sampling.top_k, sampling.top_p)
    seed = tf.stack([tf.constant(np.uint64(sampling.seed).view(np.int64)), tf.cast(number, tf.int64)])
    return tf.where(broken, -1, tf.random.stateless_categorical(logits, 1, seed, dtype=tf.int32)[:, 0])
