"""Decoding with a key/value cache: one pass over the prompts, then one column at a time."""
import numpy as np
import tensorflow as tf

from tfzoo.errors import ConfigError, DataError
from tfzoo.generation.sampling import Sampling, draw

PROMPT, WHOLE = 32, 64  # prompt and cache lengths are padded to multiples of these, so that few shapes are traced


def _round_up(number, multiple):
    return -(-number // multiple) * multiple


def decode(tokens, state, step, *, count, end_ids, ended):
    """Draw tokens until each row has ended, in a graph.

    Args:
        tokens: int32 [B], the first tokens drawn.
        state: nest of tensors, the decoding state before `tokens`.
        step: callable (tokens int32 [B], state, number of tokens drawn so far) -> (next tokens int32 [B], state).
        count: int or integer scalar tensor, the maximum number of tokens per row; an int gives the output a static
            shape, as XLA requires.
        end_ids: int32 [E], E > 0; a row ends when one of them is drawn.
        ended: bool [B], the rows that have ended before.

    Returns:
        (int32 [count, B], or [N, B] if count is a tensor; int32 scalar N, the number of tokens drawn before all rows
        had ended). Rows that have ended are filled with the first of end_ids; what follows the first N is undefined.
    """
    def ends(tokens):
        return tf.reduce_any(tokens[:, None] == end_ids, axis=1)

    def more(made, ended, *_):
        return (made < count) & ~tf.reduce_all(ended)

    def go_on(made, ended, tokens, drawn, state):
        tokens, state = step(tokens, state, made)
        tokens = tf.where(ended, end_ids[0], tokens)
        return made + 1, ended | ends(tokens), tokens, drawn.write(made, tokens), state

    tokens, fixed = tf.where(ended, end_ids[0], tokens), isinstance(count, int)
    drawn = tf.TensorArray(tf.int32, count if fixed else 1, dynamic_size=not fixed, element_shape=tokens.shape)
    begin = tf.constant(1), ended | ends(tokens), tokens, drawn.write(0, tokens), state
    made, *_, drawn, _ = tf.while_loop(more, go_on, begin, parallel_iterations=1)
    return drawn.stack(), made


def decode_greedily(body, logits_of, inputs, *, count, end_ids, ended):
    """Continue prompts with the most likely tokens, in a graph of static shape.

    Args:
        body, logits_of: see `Generator`.
        inputs: dict of tensors with T columns of tokens to continue (see `Body.start`).
        count: int, the maximum number of tokens per row.
        end_ids, ended: see `decode`.

    Returns:
        (int32 [B, count], the tokens; int32 [B], the number of tokens before the first of end_ids). Tokens are -1 where
        the model's outputs are NaN or infinite.
    """
    def drawn_from(outputs, state):
        return draw(logits_of(outputs)[:, -1], Sampling(temperature=0), 0), state

    prompt = next(value for key, value in inputs.items() if key.endswith("token_ids") and "encoder" not in key)
    tokens, state = drawn_from(*body.start(inputs, prompt.shape[1] + count - 1))
    drawn, made = decode(tokens, state, lambda tokens, state, _: drawn_from(*body.step(tokens[:, None], state)),
                         count=count, end_ids=end_ids, ended=ended)
    drawn = tf.transpose(drawn)
    ending = tf.reduce_any(drawn[:, :, None] == end_ids, axis=2) | (tf.range(count) >= made)
    return drawn, tf.reduce_sum(tf.cast(tf.cumsum(tf.cast(ending, tf.int32), axis=1) == 0, tf.int32), axis=1)


class Generator:
    """Generate continuations for rows of token ids; functions are traced once per shape.

    Each row's context is a window of up to max_length tokens; when it is full, decoding continues from its second half.
    Rows of different lengths are left-padded and decoded together. Greedy decoding gives each row the same result as if
    it were decoded separately; random draws also depend on the row's position in the batch.

    Args:
        body: Body that can decode with a cache (see `Traits.cached`).
        logits_of: callable (outputs of the body) -> logits, float32 [B, T, V].
        sampling: Sampling.

    Raises:
        ConfigError: if the body cannot decode.

    Example:
        >>> import tfzoo
        >>> from tfzoo.generation import Sampling
        >>> model = tfzoo.build("gpt2_tiny", task="causal_lm", vocab_size=300)
        >>> generator = Generator(model.body, model.logits, Sampling(temperature=0))
        >>> generator.generate([[5, 6], [7]], 3).shape
        (2, 3)
    """

    def __init__(self, body, logits_of, sampling):
        if not body.traits.cached:
            raise ConfigError(f"{body.name} cannot decode; use a decoder or an encoder-decoder")
        self.body, self.logits_of, self.sampling = body, logits_of, sampling
        self._start = tf.function(self._start_of, autograph=False, reduce_retracing=True)
        self._step = tf.function(self._step_of, autograph=False, reduce_retracing=True)
        self._all = tf.function(self._all_of, autograph=False, reduce_retracing=True)

    def _draw(self, outputs, number):
        return draw(self.logits_of(outputs)[:, -1], self.sampling, number)

    def _start_of(self, inputs, number, length):
        outputs, state = self.body.start(inputs, length)
        return self._draw(outputs, number), state

    def _step_of(self, tokens, state, number):
        outputs, state = self.body.step(tokens[:, None], state)
        return self._draw(outputs, number), state

    def _all_of(self, inputs, number, count, end_ids, ended, length):
        # Return the next tokens, int32 [count, B], or fewer than `count` rows if all texts end earlier.
        tokens, state = self._start_of(inputs, number, length)

        def step(tokens, state, made):
            return self._step_of(tokens, state, number + made)

        drawn, made = decode(tokens, state, step, count=count, end_ids=end_ids, ended=ended)
        return drawn[:made]

    def generate(self, prompts, max_new_tokens, end_ids=(), source=None):
        """Generate tokens, with the whole decoding loop in a graph.

        Args:
            prompts: list of B non-empty lists of int, the token ids of each prompt (for an encoder-decoder, the start
                of each target); only the last max_length - 1 of each are used.
            max_new_tokens: int, maximum number of tokens to generate per row.
            end_ids: tuple of int; a row ends when one of them is drawn, and generation ends when all rows have ended.
            source: dict with `encoder_token_ids` and `encoder_padding_mask`, int32 [B, S], for an encoder-decoder.

        Returns:
            int32 [B, N], N <= max_new_tokens; rows that have ended are filled with the first of end_ids.

        Raises:
            ConfigError: if there are no prompts, a prompt is empty or has ids outside the vocabulary, or max_new_tokens
                is below 1.
            DataError: if the model's outputs are NaN.
        """
        texts = self._open(prompts, max_new_tokens, source)
        parts, made, ended = [], 0, np.zeros(len(texts.known), bool)
        end = tf.constant(end_ids or (-1,))
        while made < max_new_tokens and not ended.all():
            inputs, count, length = texts.segment(max_new_tokens - made)
            found = self._all(inputs, tf.constant(made), tf.constant(count), end, tf.constant(ended), length).numpy()
            texts.extend(found)
            parts.append(found)
            made += len(found)
            ended |= np.isin(found, end_ids).any(0)
        return np.concatenate(parts).T

    def stream(self, prompts, max_new_tokens, end_ids=(), source=None):
        """Generate tokens like `generate`, but yield each step's tokens, int32 [B], as soon as they are drawn."""
        texts = self._open(prompts, max_new_tokens, source)
        made, ended = 0, np.zeros(len(texts.known), bool)
        while made < max_new_tokens and not ended.all():
            inputs, count, length = texts.segment(max_new_tokens - made)
            tokens, state = self._start(inputs, tf.constant(made), length)
            for number in range(made + 1, made + count + 1):
                row = np.where(ended, next(iter(end_ids), 0), tokens.numpy()).astype(np.int32)
                ended |= np.isin(row, end_ids)
                texts.extend(row[None])
                yield row
                if ended.all() or number == made + count:
                    break
                tokens, state = self._step(tf.constant(row), state, tf.constant(number))
            made = number

    def _open(self, prompts, max_new_tokens, source):
        if max_new_tokens < 1:
            raise ConfigError(f"--max_new_tokens must be 1 or more, got {max_new_tokens}")
        return _Texts(prompts, self.body.config["max_length"], self.body.config["vocab_size"], source)


class _Texts:
    # The tokens in all rows; the body sees at most the last `window` of each row.

    def __init__(self, prompts, window, vocab_size, source):
        if not len(prompts):
            raise ConfigError("there is no prompt; pass at least one")
        rows = [np.asarray(prompt) for prompt in prompts]
        if not all(row.size if row.ndim else 1 for row in rows):
            raise ConfigError("the prompt is empty; pass at least one token")
        if not all(row.ndim == 1 and row.dtype.kind in "iu" for row in rows):
            raise ConfigError("a prompt is not a row of ids; prompts must be a list of lists of int")
        if not all(0 <= row.min() <= row.max() < vocab_size for row in rows):
            raise ConfigError("the prompt has ids outside the vocabulary; they must be integers from 0 to "
                              f"{vocab_size - 1}")
        self.known = [row[-max(1, window - 1):].astype(np.int32) for row in rows]
        self.window, self.source = window, source

    def segment(self, left):
        # Return (inputs for Body.start, how many of `left` tokens can be drawn before a row is full, cache length).
        self.known = [row[-max(1, self.window // 2):] if len(row) > self.window else row for row in self.known]
        longest = max(map(len, self.known))
        columns, count = _round_up(longest, PROMPT), min(left, self.window - longest + 1)
        token_ids, real = np.zeros((2, len(self.known), columns), np.int32)
        for number, row in enumerate(self.known):
            token_ids[number, columns - len(row):], real[number, columns - len(row):] = row, 1
        before = "" if self.source is None else "decoder_"
        inputs = {f"{before}token_ids": token_ids, f"{before}padding_mask": real, **(self.source or {})}
        return {key: tf.constant(value) for key, value in inputs.items()}, count, _round_up(columns + count, WHOLE)

    def extend(self, tokens):
        # tokens: int32 [n, B]; -1 stands for NaN logits.
        if (tokens < 0).any():
            raise DataError("the model's outputs are NaN: its training diverged or its weights are damaged; use a "
                            "different model")
        self.known = [np.concatenate([row, more]) for row, more in zip(self.known, tokens.T)]
