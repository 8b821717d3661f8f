"""The decoding loop: one pass over the prompts, then one column at a time, with a key/value cache, in a graph."""
import typing

import tensorflow as tf

from tfzoo.generation import beam
from tfzoo.generation.processors import History, columns_of, ends, last_logits, process
from tfzoo.generation.sampling import draw, row_keys
from tfzoo.layers import context

BROKEN = -1  # stands for a token where the model's outputs are NaN


class Begin(typing.NamedTuple):
    """R rows after their prompts.

    Attributes:
        logits: float32 [R, V], for the first token.
        broken: bool [R], where the largest logit is NaN or infinite.
        ended: bool [R], rows that are not decoded.
        history: History.
        keys: uint32 [R], see `row_keys`; for beam search [B].
        state: the state of the body, for R rows; for beam search B.
        prompt: int32 [B, P], 1 where the prompts have tokens.
    """

    logits: object
    broken: object
    ended: object
    history: History
    keys: object
    state: object
    prompt: object


class Answers(typing.NamedTuple):
    """The answers of R rows so far.

    Attributes:
        tokens: int32 [R], the tokens chosen last.
        ended: bool [R].
        token_ids, real, column: see History.
        log_p: float32 [R, L], the log-probability of each token; () if it is not wanted.
        states: int32 [R], the states of options.constraint; () without.
    """

    tokens: object
    ended: object
    token_ids: object
    real: object
    column: object
    log_p: object
    states: object


def begin(body, logits_of, inputs, options, *, length, seeds=None, ended=None, before=0):
    """Run the prompts, and repeat each row for its beams or answers; for arguments, see `decode`. Returns Begin."""
    side = "decoder_" if "encoder_token_ids" in inputs else ""
    prompt, mask = inputs[f"{side}token_ids"], inputs.get(f"{side}padding_mask")
    rows, columns = tf.shape(prompt)[0], columns_of(prompt)
    real = tf.ones_like(prompt, tf.bool) if mask is None else tf.cast(mask, tf.bool)
    source = (inputs["encoder_token_ids"], tf.cast(inputs["encoder_padding_mask"], tf.bool)) if side else ()
    if seeds is None:  # the seed's 64 bits as a signed number, plus the row
        seeds = tf.constant(options.seed - (options.seed >> 63 << 64), tf.int64) + tf.range(tf.cast(rows, tf.int64))
    # The branches of beam search share the prompt and have columns of their own.
    reserved = length if options.num_beams == 1 else columns + (length - columns) * options.num_beams
    outputs, state = body.start(inputs, reserved)
    logits, broken = last_logits(logits_of, outputs)
    room = [[0, 0], [0, length - columns]]
    parts = [logits, broken, tf.zeros([rows], tf.bool) if ended is None else ended, tf.pad(prompt, room),
             tf.pad(real, room), *source]
    copies, answers = (options.num_beams, 1) if options.num_beams > 1 else (options.num_return_sequences,) * 2
    if copies > 1:
        order = tf.repeat(tf.range(rows), copies)
        parts = [tf.gather(part, order) for part in parts]
        state = state if options.num_beams > 1 else body.reorder(state, order)
    logits, broken, ended, *texts = parts
    history = History(*texts[:2], tf.convert_to_tensor(columns), columns - before, *texts[2:])
    return Begin(logits, broken, ended, history, row_keys(seeds, answers), state, tf.cast(real, tf.int32))


class OneByOne:
    """Choose tokens greedily or by sampling, each row by itself.

    Args:
        body, logits_of, options: see `decode`.
        history: History, of which Answers replace what changes.
        keys: uint32 [R].
        end: int32 scalar, the column after the last that may be decoded.
    """

    def __init__(self, body, logits_of, options, history, keys, end):
        self.body, self.logits_of, self.options = body, logits_of, options
        self.history, self.keys, self.end = history, keys, end

    def first(self, begun, inputs):
        """Return the Answers of one token after Begin, and the state for `next`."""
        texts = begun.history.token_ids
        log_p = tf.zeros_like(texts, tf.float32) if self.options.log_probabilities else ()
        states = () if self.options.constraint is None else tf.zeros_like(texts[:, 0])
        return self._chosen(begun.logits, begun.broken, Answers(
            texts[:, 0], begun.ended, texts, begun.history.real, begun.history.column, log_p, states)), begun.state

    def next(self, answers, state):
        """Return the Answers with one more token, and the new state."""
        outputs, state = self.body.step(tf.maximum(answers.tokens, 0)[:, None], state)
        return self._chosen(*last_logits(self.logits_of, outputs), answers), state

    def found(self, state):
        """Return what else `decode` returns: dict, empty unless a subclass counts something in its state."""
        return {}

    def _chosen(self, logits, broken, answers):
        logits = self.processed(logits, answers)
        tokens = draw(logits, self.options, self.keys, answers.column - self.history.first)
        return self.extended(answers, tokens, logits, broken)

    def processed(self, logits, answers):
        """Return the processed logits, float32 [R, V], of the token after Answers."""
        history, constraint = self.history._replace(
            token_ids=answers.token_ids, real=answers.real, column=answers.column), self.options.constraint
        logits = process(logits, history, self.options)
        return logits if constraint is None else constraint.mask(logits, answers.states, self.options.end_ids)

    def extended(self, answers, tokens, logits, broken):
        """Return the Answers with `tokens`, int32 [R], chosen by processed logits, where these are not broken."""
        constraint = self.options.constraint
        log_p, here = answers.log_p, tf.range(columns_of(answers.token_ids)) == answers.column
        if self.options.log_probabilities:
            each = tf.gather(logits, tokens, batch_dims=1) - tf.reduce_logsumexp(logits, -1)
            log_p = tf.where(here & ~answers.ended[:, None], each[:, None], log_p)
        tokens = tf.where(answers.ended, self.options.fill, tf.where(broken, BROKEN, tokens))
        ended, states = answers.ended | broken | ends(tokens, self.options.end_ids), answers.states
        if constraint is not None:
            states, final = constraint.move(states, tf.maximum(tokens, 0))
            ended |= final
        if tf.is_tensor(self.options.max_new_tokens):
            ended |= answers.column - self.history.first + 1 >= self.options.max_new_tokens[:, 0]
        return Answers(tokens, ended,
                       token_ids=tf.where(here, tokens[:, None], answers.token_ids),
                       real=answers.real | (here & ~answers.ended[:, None]),
                       column=answers.column + 1, log_p=log_p, states=states)


def _one_by_one(chooser, begun, inputs, options):
    first = begun.history.column
    answers, state = tf.while_loop(
        lambda answers, _: (answers.column < chooser.end) & ~tf.reduce_all(answers.ended), chooser.next,
        chooser.first(begun, inputs), parallel_iterations=1)
    columns = tf.range(columns_of(answers.token_ids))
    found = {"token_ids": tf.where(columns < answers.column, answers.token_ids, options.fill),
             "length": tf.reduce_sum(tf.cast(answers.real & (columns >= first), tf.int32), axis=1),
             **chooser.found(state)}
    return {**found, "log_probabilities": answers.log_p} if options.log_probabilities else found


def decode(body, logits_of, inputs, options, *, length, count, seeds=None, ended=None, before=0, chooser=OneByOne):
    """Continue prompts, in a graph.

    Args:
        body: Body that can decode with a cache (see `Traits.cached`).
        logits_of: callable (outputs of the body) -> logits, float32 [B, T, V].
        inputs: dict of tensors with P columns of left-padded prompts, or starts of targets (see `Body.start`).
        options: Options.
        length: int or int32 scalar tensor, the number of columns to reserve for prompts and answers.
        count: int or int32 scalar tensor, the maximum number of tokens per row, up to length - P; or, for beams,
            int32 [B, 1].
        seeds: int64 [B], or None to use options.seed + the index of the row.
        ended: bool [B], rows that are not decoded; None for none.
        before: int or int32 scalar, the number of tokens at the end of each prompt that belong to its answer.
        chooser: OneByOne, or a callable with its arguments; unused with beams.

    Returns:
        dict with `token_ids` int32 [R, length - P] for R = B x num_return_sequences rows, filled with the first of
        eos_token_id after the end, and -1 where the model's outputs are NaN or infinite; `length` int32 [R], the
        number of tokens, with the end token; for beam search `scores` float32 [R]; with options.log_probabilities
        `log_probabilities` float32 [R, length - P]; and what `chooser.found` adds.
    """
    with context.changed(prepared=context.Prepared()):
        return _decode(body, logits_of, inputs, options, length=length, count=count, seeds=seeds, ended=ended,
                       before=before, chooser=chooser)


def _decode(body, logits_of, inputs, options, *, length, count, chooser, **rows):
    begun = begin(body, logits_of, inputs, options, length=length, **rows)
    columns = columns_of(inputs["decoder_token_ids" if "encoder_token_ids" in inputs else "token_ids"])
    if options.num_beams > 1:
        found = beam.search(body, logits_of, begun, options, count)
    else:
        chooser = chooser(body, logits_of, options, begun.history, begun.keys, columns + count)
        found = _one_by_one(chooser, begun, inputs, options)
    return {name: value[:, columns:] if value.shape.rank > 1 else value for name, value in found.items()}


def decode_answers(body, logits_of, inputs, options, *, count, ended):
    """Generate one answer per row, in a graph of static shape, for a task's predictions.

    Args:
        body, logits_of, inputs, options, ended: see `decode`; options.num_return_sequences is 1.
        count: int, the maximum number of tokens per row.

    Returns:
        dict of `token_ids` int32 [B, count], -1 where the model's outputs are NaN or infinite; and `length` int32 [B],
        the number of tokens before the end.
    """
    columns = inputs["decoder_token_ids" if "encoder_token_ids" in inputs else "token_ids"].shape[1]
    found = decode(body, logits_of, inputs, options, length=columns + count, count=count, ended=ended)
    ending = ends(found["token_ids"], options.end_ids) & (tf.range(count) < found["length"][:, None])
    return {"token_ids": found["token_ids"],
            "length": found["length"] - tf.reduce_sum(tf.cast(ending, tf.int32), axis=1)}
