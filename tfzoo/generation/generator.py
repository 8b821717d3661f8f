"""Generate from rows of token ids: shapes in few sizes, contexts that are full, and streaming."""
import typing

import numpy as np
import tensorflow as tf

from tfzoo.errors import ConfigError, DataError
from tfzoo.generation.decode import OneByOne, begin, decode
from tfzoo.generation.processors import History

PROMPT, WHOLE = 32, 64  # prompt and cache lengths are padded to multiples of these, so that few shapes are traced


def _round_up(number, multiple):
    return -(-number // multiple) * multiple


class Generated(typing.NamedTuple):
    """The answers to B prompts, num_return_sequences for each: R rows in the order of the prompts.

    Attributes:
        token_ids: int32 [R, N]; rows that have ended are filled with the first of eos_token_id.
        lengths: int32 [R], the number of tokens in each row, with the end token.
        scores: float32 [R], the scores of beam search; None without.
        log_probabilities: float32 [R, N], of each token; None unless Options ask for them.
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray | None = None
    log_probabilities: np.ndarray | None = None


class Generator:
    """Generate continuations for rows of token ids; functions are traced once per shape.

    Each row's context is a window of up to max_length tokens; when it is full, decoding continues from its second half.
    Rows of different lengths are left-padded and decoded together; each gets the same result as if it were decoded
    alone (with options.seed + its index).

    Args:
        body: Body that can decode with a cache (see `Traits.cached`).
        logits_of: callable (outputs of the body) -> logits, float32 [B, T, V].
        options: Options.

    Raises:
        ConfigError: if the body cannot decode, or the options contain ids outside the vocabulary.

    Example:
        >>> import tfzoo
        >>> from tfzoo.generation import Options
        >>> model = tfzoo.build("gpt2_tiny", task="causal_lm", vocab_size=300)
        >>> generator = Generator(model.body, model.logits, Options(temperature=0, max_new_tokens=3))
        >>> generator.generate([[5, 6], [7]]).token_ids.shape
        (2, 3)
    """

    def __init__(self, body, logits_of, options):
        if not body.traits.cached:
            raise ConfigError(f"{body.name} cannot decode; use a decoder or an encoder-decoder")
        options.check_ids(body.config["vocab_size"])
        self.body, self.logits_of, self.options = body, logits_of, options
        function = {"autograph": False, "reduce_retracing": True}
        self._all, self._start, self._step = (tf.function(one, **function) for one in (
            self._all_of, self._start_of, self._step_of))

    def _all_of(self, inputs, seeds, ended, before, count, columns, length):
        # The numbers of columns are Python ints: a function that is traced once for all of them would not know them.
        return decode(self.body, self.logits_of, inputs, self.options, length=length, count=count, seeds=seeds,
                      ended=ended, before=before)

    def _start_of(self, inputs, seeds, ended, before, columns, length):
        begun = begin(self.body, self.logits_of, inputs, self.options, length=length, seeds=seeds, ended=ended,
                      before=before)
        chooser = OneByOne(self.body, self.logits_of, self.options, begun.history, begun.keys)
        fixed = {"first": begun.history.first, "keys": begun.keys}
        if begun.history.source_ids is not None:
            fixed.update(source_ids=begun.history.source_ids, source_real=begun.history.source_real)
        return chooser.first(begun), begun.state, fixed

    def _step_of(self, answers, state, fixed):
        fixed = dict(fixed)
        keys = fixed.pop("keys")
        history = History(answers.token_ids, answers.real, answers.column, **fixed)
        return OneByOne(self.body, self.logits_of, self.options, history, keys).next(answers, state)

    def generate(self, prompts, source=None):
        """Generate tokens, with the whole decoding loop in a graph.

        Args:
            prompts: list of B non-empty lists of int, the token ids of each prompt (for an encoder-decoder, the start
                of each target); only the last max_length - 1 of each are used.
            source: dict with `encoder_token_ids` and `encoder_padding_mask`, int32 [B, S], for an encoder-decoder.

        Returns:
            Generated, with N <= max_new_tokens columns.

        Raises:
            ConfigError: if there are no prompts, a prompt is empty or has ids outside the vocabulary, or several
                answers per prompt do not fit the context.
            DataError: if the model's outputs are NaN.
        """
        texts, wanted = _Texts(prompts, self.body.config, source), self.options.max_new_tokens
        several = self.options.num_beams > 1 or self.options.num_return_sequences > 1 or self.options.constraint
        parts, made, ended = [], 0, np.zeros(len(texts.known), bool)
        while made < wanted and not ended.all():
            inputs, count, length = texts.segment(wanted - made)
            if several and count < wanted:
                raise ConfigError(f"a prompt of {texts.longest} tokens and --max_new_tokens={wanted} exceed the "
                                  f"model's {texts.window} positions: beams, several answers, stop strings, regular "
                                  "expressions and choices require a context that holds both")
            found = self._all(inputs, texts.seeds(self.options.seed), tf.constant(ended), tf.constant(made),
                              tf.constant(count), texts.columns, length)
            found = {name: value.numpy()[:, :count] if value.shape.rank > 1 else value.numpy()
                     for name, value in found.items()}
            parts.append(found)
            made += count
            if made < wanted:
                texts.extend(found["token_ids"].T)
                ended |= np.isin(found["token_ids"], self.options.eos_token_id).any(1)
            _check_numbers(found["token_ids"])
        return _joined(parts)

    def stream(self, prompts, source=None):
        """Generate tokens like `generate`, but yield each step's tokens, int32 [B], as soon as they are chosen.

        Raises:
            ConfigError: as `generate`, and if the options ask for beams or several answers.
            DataError: as `generate`.
        """
        if self.options.num_beams > 1 or self.options.num_return_sequences > 1:
            raise ConfigError("beams and several answers per prompt cannot be streamed: omit --num_beams and "
                              "--num_return_sequences")
        texts, wanted = _Texts(prompts, self.body.config, source), self.options.max_new_tokens
        made, ended = 0, np.zeros(len(texts.known), bool)
        while made < wanted and not ended.all():
            inputs, count, length = texts.segment(wanted - made)
            answers, state, fixed = self._start(inputs, texts.seeds(self.options.seed), tf.constant(ended),
                                                tf.constant(made), texts.columns, length)
            for number in range(1, count + 1):
                row, ended = answers.tokens.numpy(), answers.ended.numpy()
                _check_numbers(row)
                texts.extend(row[None])
                yield row
                if ended.all() or number == count:
                    break
                answers, state = self._step(answers, state, fixed)
            made += count


def _check_numbers(tokens):
    if (tokens < 0).any():  # BROKEN
        raise DataError("the model's outputs are NaN: its training diverged or its weights are damaged; use a "
                        "different model")


def _joined(parts):
    # The answers of consecutive segments as Generated, without columns after the end of all rows.
    ids = np.concatenate([part["token_ids"] for part in parts], axis=1)
    lengths = np.sum([part["length"] for part in parts], axis=0).astype(np.int32)
    width = max(1, int(lengths.max()))
    log_p = np.concatenate([part["log_probabilities"] for part in parts], axis=1)[:, :width] \
        if "log_probabilities" in parts[0] else None
    return Generated(ids[:, :width], lengths, parts[0].get("scores"), log_p)


class _Texts:
    # The tokens in all rows; the body sees at most the last `window` of each row.

    def __init__(self, prompts, config, source):
        window, vocab_size = config["max_length"], config["vocab_size"]
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
        self.window, self.source, self.longest = window, source, max(map(len, rows))

    def seeds(self, seed):
        # int64 [B]: the seed of each row, modulo 2 ** 64.
        return tf.constant((np.uint64(seed) + np.arange(len(self.known), dtype=np.uint64)).view(np.int64))

    def segment(self, left):
        # Return (inputs for Body.start, how many of `left` tokens can be drawn before a row is full, cache length).
        self.known = [row[-max(1, self.window // 2):] if len(row) > self.window else row for row in self.known]
        longest = max(map(len, self.known))
        self.columns = columns = _round_up(longest, PROMPT)
        count = min(left, self.window - longest + 1)
        token_ids, real = np.zeros((2, len(self.known), columns), np.int32)
        for number, row in enumerate(self.known):
            token_ids[number, columns - len(row):], real[number, columns - len(row):] = row, 1
        before = "" if self.source is None else "decoder_"
        inputs = {f"{before}token_ids": token_ids, f"{before}padding_mask": real, **(self.source or {})}
        return {key: tf.constant(value) for key, value in inputs.items()}, count, _round_up(columns + count, WHOLE)

    def extend(self, tokens):
        # tokens: int32 [n, B]
        self.known = [np.concatenate([row, more]) for row, more in zip(self.known, tokens.T)]
