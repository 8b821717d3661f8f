"""Generate from rows of token ids: shapes in few sizes, contexts that are full, and streaming."""
import functools
import typing

import numpy as np
import tensorflow as tf

from tfzoo.errors import ConfigError, DataError
from tfzoo.generation.decode import OneByOne, begin, decode
from tfzoo.generation.processors import History
from tfzoo.generation.speculative import Speculative
from tfzoo.layers import context

PROMPT, WHOLE = 32, 64  # prompt and cache lengths are padded to multiples of these, so that few shapes are traced
COUNTS = ("accepted", "proposed")  # of speculative decoding


def _round_up(number, multiple):
    return -(-number // multiple) * multiple


class Generated(typing.NamedTuple):
    """The answers to B prompts, num_return_sequences for each: R rows in the order of the prompts.

    Attributes:
        token_ids: int32 [R, N]; rows that have ended are filled with the first of eos_token_id.
        lengths: int32 [R], the number of tokens in each row, with the end token.
        scores: float32 [R], the scores of beam search; None without.
        log_probabilities: float32 [R, N], of each token; None unless Options ask for them.
        accepted, proposed: int32 [R], how many tokens were proposed and accepted; None without speculative decoding.
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray | None = None
    log_probabilities: np.ndarray | None = None
    accepted: np.ndarray | None = None
    proposed: np.ndarray | None = None


class Generator:
    """Generate continuations for rows of token ids; functions are traced once per shape.

    Each row's context is a window of up to max_length tokens; when it is full, decoding continues from its second half.
    Rows of different lengths are left-padded and decoded together; each gets the same result as if it were decoded
    alone (with options.seed + its index). With speculative decoding (a draft or options.prompt_lookup_num_tokens), each
    row is decoded alone.

    Args:
        body: Body that can decode with a cache (see `Traits.cached`).
        logits_of: callable (outputs of the body) -> logits, float32 [B, T, V].
        options: Options.
        draft: (Body, callable), a smaller model with the same vocabulary and its logits_of, which proposes tokens for
            `body` to check; None for none.
        xla: bool, compile with XLA; each number of rows is then compiled anew.

    Raises:
        ConfigError: if the body or the draft cannot decode, they differ in kind, vocabulary or positions, or the
            options contain ids outside the vocabulary or have no effect.

    Attributes:
        accepted, proposed: int, how many tokens were proposed and accepted so far.

    Example:
        >>> import tfzoo
        >>> from tfzoo.generation import Options
        >>> model = tfzoo.build("gpt2_tiny", task="causal_lm", vocab_size=300)
        >>> generator = Generator(model.body, model.logits, Options(temperature=0, max_new_tokens=3))
        >>> generator.generate([[5, 6], [7]]).token_ids.shape
        (2, 3)
    """

    def __init__(self, body, logits_of, options, draft=None, xla=False):
        if not body.traits.cached:
            raise ConfigError(f"{body.name} cannot decode; use a decoder or an encoder-decoder")
        options.check_ids(body.config["vocab_size"])
        self.body, self.logits_of, self.options = body, logits_of, options
        self.accepted = self.proposed = 0
        self.speculates = draft is not None or options.prompt_lookup_num_tokens > 0
        self.chooser = functools.partial(Speculative, draft=draft) if self.speculates else OneByOne
        if draft is not None:
            _check_draft(draft[0], body, options)
        if xla and self.speculates:
            raise ConfigError("--xla=on cannot compile speculative decoding, whose steps vary in length: omit it")

        def traced(function):
            def run(*inputs):
                with context.changed(compiled=xla):
                    return function(*inputs)

            def call(inputs, *others):
                return functions[tf.nest.flatten(inputs)[0].shape[0] == 1](inputs, *others)

            # Products of one row are computed differently (see `multiply`), so one row has its own function.
            functions = {one: tf.function(run, autograph=False, reduce_retracing=True, jit_compile=xla)
                         for one in (True, False)}
            return call

        self._all, self._start, self._step = map(traced, (self._all_of, self._start_of, self._step_of))

    def _all_of(self, inputs, seeds, ended, before, count, columns, length):
        # The numbers of columns are Python ints: a function that is traced once for all of them would not know them.
        return decode(self.body, self.logits_of, inputs, self.options, length=length, count=count, seeds=seeds,
                      ended=ended, before=before, chooser=self.chooser)

    def _start_of(self, inputs, seeds, ended, before, count, columns, length):
        begun = begin(self.body, self.logits_of, inputs, self.options, length=length, seeds=seeds, ended=ended,
                      before=before)
        fixed = {"first": begun.history.first, "keys": begun.keys, "end": columns + count}
        chooser = self.chooser(self.body, self.logits_of, self.options, begun.history, begun.keys, fixed["end"])
        if begun.history.source_ids is not None:
            fixed.update(source_ids=begun.history.source_ids, source_real=begun.history.source_real)
        return *chooser.first(begun, inputs), fixed

    def _step_of(self, answers, state, fixed):
        fixed = dict(fixed)
        keys, end = fixed.pop("keys"), fixed.pop("end")
        history = History(answers.token_ids, answers.real, answers.column, **fixed)
        return self.chooser(self.body, self.logits_of, self.options, history, keys, end).next(answers, state)

    def generate(self, prompts, source=None, first=0):
        """Generate tokens, with the whole decoding loop in a graph.

        Args:
            prompts: list of B non-empty lists of int, the token ids of each prompt (for an encoder-decoder, the start
                of each target); only the last max_length - 1 of each are used.
            source: dict with `encoder_token_ids` and `encoder_padding_mask`, int32 [B, S], for an encoder-decoder.
            first: int, the index of the first row, if the rows are part of a longer list: row r of the list draws with
                options.seed + r.

        Returns:
            Generated, with N <= max_new_tokens columns.

        Raises:
            ConfigError: if there are no prompts, a prompt is empty or has ids outside the vocabulary, or several
                answers per prompt do not fit the context.
            DataError: if the model's outputs are NaN.
        """
        if not self.speculates or len(prompts) < 2:
            return self._generate(prompts, source, first)
        rows = [self._generate([prompt], source and {name: ids[row:row + 1] for name, ids in source.items()},
                               first + row) for row, prompt in enumerate(prompts)]
        return _stacked(rows, self.options.fill)

    def _generate(self, prompts, source, first):
        # `generate` for rows that are decoded together, of which this is the number of the first.
        texts, wanted = _Texts(prompts, self.body.config, source, first), self.options.max_new_tokens
        parts, made, ended = [], 0, np.zeros(len(texts.known), bool)
        while made < wanted and not ended.all():
            inputs, count, length = texts.segment(wanted - made)
            self._check_room(texts, count)
            found = self._all(inputs, texts.seeds(self.options.seed), tf.constant(ended), tf.constant(made),
                              tf.constant(count), texts.columns, length)
            found = {name: value.numpy()[:, :count] if value.shape.rank > 1 else value.numpy()
                     for name, value in found.items()}
            parts.append(found)
            self._count(found)
            made += count
            if made < wanted:
                texts.extend(found["token_ids"].T)
                ended |= np.isin(found["token_ids"], self.options.eos_token_id).any(1)
            _check_numbers(found["token_ids"])
        return _joined(parts)

    def _check_room(self, texts, count):
        wanted = self.options.max_new_tokens
        if self.options.needs_whole_context and count < wanted:
            raise ConfigError(f"a prompt of {texts.longest} tokens and --max_new_tokens={wanted} exceed the model's "
                              f"{texts.window} positions: beams, several answers, stop strings, regular expressions "
                              "and choices require a context that holds both")

    def _count(self, found):
        if self.speculates:
            self.accepted += int(found["accepted"].sum())
            self.proposed += int(found["proposed"].sum())

    def stream(self, prompts, source=None):
        """Generate tokens like `generate`, but yield each column of tokens, int32 [B], as soon as it is chosen.

        Raises:
            ConfigError: as `generate`, and if the options ask for beams, several answers or, for more than one prompt,
                speculative decoding.
            DataError: as `generate`.
        """
        if self.options.num_beams > 1 or self.options.num_return_sequences > 1:
            raise ConfigError("beams and several answers per prompt cannot be streamed: omit --num_beams and "
                              "--num_return_sequences")
        if self.speculates and len(prompts) > 1:
            raise ConfigError(f"got {len(prompts)} prompts, but speculative decoding streams only one: stream them one "
                              "after another")
        texts, wanted = _Texts(prompts, self.body.config, source), self.options.max_new_tokens
        made, ended = 0, np.zeros(len(texts.known), bool)
        while made < wanted and not ended.all():
            inputs, count, length = texts.segment(wanted - made)
            self._check_room(texts, count)
            answers, state, fixed = self._start(inputs, texts.seeds(self.options.seed), tf.constant(ended),
                                                tf.constant(made), tf.constant(count), texts.columns, length)
            first, done = texts.columns, 0
            while True:
                rows, ended = answers.token_ids.numpy()[:, first + done:int(answers.column)].T, answers.ended.numpy()
                _check_numbers(rows)
                texts.extend(rows)
                yield from rows
                done += len(rows)
                if ended.all() or done == count:
                    break
                answers, state = self._step(answers, state, fixed)
            self._count({name: value.numpy() for name, value in state.items() if name in COUNTS})
            made += count


def _check_numbers(tokens):
    if (tokens < 0).any():  # BROKEN
        raise DataError("the model's outputs are NaN: its training diverged or its weights are damaged; use a "
                        "different model")


def _check_draft(draft, body, options):
    options.check_one("a draft")
    if options.prompt_lookup_num_tokens:
        raise ConfigError(f"a draft and --prompt_lookup_num_tokens={options.prompt_lookup_num_tokens} exclude each "
                          "other: omit one of them")
    if not draft.traits.cached or draft.traits.source != body.traits.source:
        raise ConfigError(f"the draft {draft.name} cannot propose tokens for {body.name}: both must be decoders or "
                          "encoder-decoders")
    for name, what, fits in (("vocab_size", "tokens", int.__eq__), ("max_length", "positions", int.__ge__)):
        if not fits(draft.config[name], body.config[name]):
            raise ConfigError(f"the draft has {draft.config[name]} {what}, but the model has {body.config[name]}: use "
                              "another draft")


def _stacked(rows, fill):
    # The Generated of single rows as one.
    width = max(row.token_ids.shape[1] for row in rows)
    wide = {name: np.concatenate([np.pad(each, ((0, 0), (0, width - each.shape[1])), constant_values=value)
                                  for each in (getattr(row, name) for row in rows)])
            for name, value in (("token_ids", int(fill)), ("log_probabilities", 0.0))
            if getattr(rows[0], name) is not None}
    return Generated(**wide, **{name: np.concatenate([getattr(row, name) for row in rows])
                                for name in ("lengths", *COUNTS)})


def _joined(parts):
    # The answers of consecutive segments as Generated, without columns after the end of all rows.
    ids = np.concatenate([part["token_ids"] for part in parts], axis=1)
    lengths = np.sum([part["length"] for part in parts], axis=0).astype(np.int32)
    width = max(1, int(lengths.max()))
    log_p = np.concatenate([part["log_probabilities"] for part in parts], axis=1)[:, :width] \
        if "log_probabilities" in parts[0] else None
    counts = {name: np.sum([part[name] for part in parts], axis=0) for name in COUNTS if name in parts[0]}
    return Generated(ids[:, :width], lengths, parts[0].get("scores"), log_p, **counts)


class _Texts:
    # The tokens in all rows; the body sees at most the last `window` of each row.

    def __init__(self, prompts, config, source, first=0):
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
        self.window, self.source, self.longest, self.first = window, source, max(map(len, rows)), first

    def seeds(self, seed):
        # int64 [B]: the seed of each row, modulo 2 ** 64.
        rows = np.arange(self.first, self.first + len(self.known), dtype=np.uint64)
        return tf.constant((np.uint64(seed) + rows).view(np.int64))

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
