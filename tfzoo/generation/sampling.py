"""Choose the next token: greedily, or by sampling with a temperature, top-k or top-p.

Top-k is from Fan et al. 2018, arXiv:1805.04833; top-p (nucleus) sampling is from Holtzman et al. 2019,
arXiv:1904.09751.
"""
import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfzoo.errors import ConfigError

NEVER = -1e30
LEAST = float(np.finfo(np.float32).tiny)  # devices that flush subnormals treat smaller numbers as zero
SEEDS = 2 ** 64 - 1


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings for sampling.

    Args:
        temperature: float; 0 always takes the most likely token, and 1 samples from the model's own distribution.
        top_k: int; keep only the k most likely tokens; 0 keeps all.
        top_p: float; keep the smallest set of most likely tokens with a total probability of at least p; 1 keeps all.
        seed: int, from 0 to SEEDS.

    Raises:
        ConfigError: if a value is out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"--temperature must be a finite number, 0 or more, got {self.temperature}")
        if self.top_k < 0:
            raise ConfigError(f"--top_k must be 0 (all) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"--top_p must be above 0 and at most 1 (all), got {self.top_p}")
        if not 0 <= self.seed <= SEEDS:
            raise ConfigError(f"--seed must be an integer from 0 to {SEEDS}, got {self.seed}")


def keep_likeliest(logits, top_k, top_p):
    """Set the logits excluded by top-k or top-p to a value that is never drawn.

    Args:
        logits: float32 [B, V].
        top_k, top_p: see Sampling.

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
    """Draw the next token for each row.

    Args:
        logits: float32 [B, V].
        sampling: Sampling.
        number: integer scalar tensor, index of the draw; together with the seed, it determines the random numbers.

    Returns:
        int32 [B]; -1 for rows whose largest logit is NaN or infinite.
    """
    logits -= tf.reduce_max(logits, -1, keepdims=True)  # the largest is 0 at any temperature, so no logit overflows
    broken = tf.reduce_any(tf.math.is_nan(logits), -1)  # the largest was NaN or infinite
    if sampling.temperature < LEAST:
        return tf.where(broken, -1, tf.argmax(logits, -1, output_type=tf.int32))
    logits = keep_likeliest(logits / sampling.temperature, sampling.top_k, sampling.top_p)
    seed = tf.stack([tf.constant(np.uint64(sampling.seed).view(np.int64)), tf.cast(number, tf.int64)])
    return tf.where(broken, -1, tf.random.stateless_categorical(logits, 1, seed, dtype=tf.int32)[:, 0])
