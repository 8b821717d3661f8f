"""Cached decoding: the prompt in one pass, then one position at a time."""
import numpy as np
import tensorflow as tf

from tfzoo.errors import ConfigError
from tfzoo.generation.sampling import draw

CHUNK = 64  # lengths of prompt and cache are multiples of it, so that few shapes are traced


def _round_up(number):
    return -(-number // CHUNK) * CHUNK


class Generator:
    """Continue token ids with a model, one way of sampling, and functions that are traced once.

    The model sees up to its max_length tokens; when they are full it goes on from the last half of them.

    Args:
        model: TaskModel over a Decoder.
        sampling: Sampling.

    Example:
        >>> import tfzoo
        >>> from tfzoo.generation import Sampling
        >>> model = tfzoo.build("gpt2_tiny", task="causal_lm", vocab_size=300)
        >>> write = Generator(model, Sampling(temperature=0))
        >>> len([int(token[0]) for token in write([[5, 6]], 3)])
        3
    """

    def __init__(self, model, sampling):
        self.model, self.sampling = model, sampling
        self._prefill = tf.function(self._prefill, reduce_retracing=True)
        self._next = tf.function(self._next, reduce_retracing=True)

    def _draw(self, outputs, column, number):
        last = outputs["sequence"][:, column:column + 1]
        logits = self.model.head({"sequence": last}, inputs={}, body=self.model.body)["logits"]
        return draw(logits[:, 0], self.sampling, number)

    def _prefill(self, token_ids, used, cache, number):
        # What stands after the `used` columns of the prompt is written over before it is ever seen.
        outputs = self.model.body({"token_ids": token_ids}, cache=cache, cache_index=tf.constant(0))
        return self._draw(outputs, used - 1, number), outputs["cache"]

    def _next(self, tokens, column, cache, number):
        outputs = self.model.body({"token_ids": tokens[:, None]}, cache=cache, cache_index=column)
        return self._draw(outputs, 0, number), outputs["cache"]

    def __call__(self, prompt, max_new_tokens, end_id=None):
        """Generate.

        Args:
            prompt: int [T] or [B, T], one or more ids a row, rows of one length; the last max_length - 1 are seen.
            max_new_tokens: int.
            end_id: int, the generation ends when all rows have drawn it; None never ends early.

        Yields:
            int32 [B], the next token of each row, without waiting for the rest; rows that ended give end_id on.

        Raises:
            ConfigError: for an empty prompt or max_new_tokens below 1.
        """
        prompt = np.atleast_2d(np.asarray(prompt, np.int32))
        if not prompt.shape[1]:
            raise ConfigError("the prompt is empty: allowed is one token or more")
        if max_new_tokens < 1:
            raise ConfigError(f"--max_new_tokens={max_new_tokens}: allowed is 1 or more")
        window = self.model.body.config["max_length"]
        known, ended, made = prompt[:, -max(1, window - 1):], np.zeros(len(prompt), bool), 0
        size = min(window, _round_up(known.shape[1] + max_new_tokens))
        while made < max_new_tokens and not ended.all():
            used = known.shape[1]
            padded = np.pad(known, ((0, 0), (0, min(size, _round_up(used)) - used)))
            tokens, cache = self._prefill(tf.constant(padded), tf.constant(used),
                                          self.model.body.init_cache(len(known), size), tf.constant(made))
            while True:
                row = np.where(ended, end_id if end_id is not None else 0, tokens.numpy()).astype(np.int32)
                made += 1
                yield row
                known = np.concatenate([known, row[:, None]], axis=1)
                ended |= False if end_id is None else row == end_id
                if made >= max_new_tokens or ended.all():
                    return
                if used == size:
                    break
                tokens, cache = self._next(tf.constant(row), tf.constant(used), cache, tf.constant(made))
                used += 1
            known = known[:, -max(1, window // 2):]
