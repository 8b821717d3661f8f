"""Logits processors, in the order and to the letter of transformers 4.57.1.

Unlike there, padding never counts as a repeated token, so that a row's answer does not depend on its batch. The
presence and frequency penalties are OpenAI's, as in vLLM.
"""
import math
import typing

import tensorflow as tf

NEVER = -math.inf


def ends(tokens, end_ids):
    """Return where `tokens`, int32 of any shape, are one of `end_ids`, int32 [E]: bool."""
    return tf.reduce_any(tokens[..., None] == end_ids, axis=-1)


def last_logits(logits_of, outputs):
    """Return (float32 [R, V], bool [R]): the logits of the last column, and where the largest is NaN or infinite."""
    logits = logits_of(outputs)[:, -1]
    return logits, is_broken(logits)


def is_broken(logits):
    """Return where the largest of the logits [R, V] is NaN or infinite: bool [R]."""
    largest = tf.reduce_max(logits, -1)
    return tf.math.is_nan(largest - largest)


class History(typing.NamedTuple):
    """What the processors know about R rows.

    Attributes:
        token_ids: int32 [R, L], prompts and answers.
        real: bool [R, L], False for padding and for columns that are not decoded yet.
        column: int32 scalar, the next column.
        first: int32 scalar, the first column of the answers.
        source_ids, source_real: int32 and bool [R, S], the sources of an encoder-decoder, or None.
    """

    token_ids: object
    real: object
    column: object
    first: object
    source_ids: object = None
    source_real: object = None


def is_on(value, neutral):
    """Return whether a setting has an effect: bool; a tensor may have one."""
    return tf.is_tensor(value) or value != neutral


def columns_of(ids):
    """Return the number of columns of a tensor [R, L]: int, or int32 scalar if it is unknown in a graph."""
    return tf.shape(ids)[1] if ids.shape[1] is None else ids.shape[1]


def _counts(ids, real, size):
    # int32 [R, V]: how often each token occurs.
    rows = tf.range(tf.shape(ids)[0])[:, None] + tf.zeros_like(ids)
    return tf.scatter_nd(tf.stack([rows, ids], axis=-1), tf.cast(real, tf.int32), [tf.shape(ids)[0], size])


def _penalized(logits, seen, penalty):
    return tf.where(seen, tf.where(logits < 0, logits * penalty, logits / penalty), logits)


def _last(history, count):
    # (int32 [R, count], bool [R]): the last `count` tokens, and whether the row has as many.
    columns = tf.maximum(history.column - count + tf.range(count), 0)
    ids, real = tf.gather(history.token_ids, columns, axis=1), tf.gather(history.real, columns, axis=1)
    return ids, tf.reduce_all(real, axis=1) & (history.column >= count)


def _lengths(history):
    return tf.reduce_sum(tf.cast(history.real, tf.int32), axis=1)  # [R]


def _banned_by_ngrams(history, size, width):
    # bool [R, V]: tokens that followed an earlier occurrence of the last size - 1 tokens.
    last, whole = _last(history, size - 1)
    room = [[0, 0], [0, size]]  # so that there is a window to compare, however short the texts are
    ids, real = tf.pad(history.token_ids, room), tf.pad(history.real, room)
    length = columns_of(history.token_ids) + 1
    same = whole[:, None] & real[:, size - 1:size - 1 + length]
    for place in range(size - 1):
        part = slice(place, place + length)
        same &= (ids[:, part] == last[:, place:place + 1]) & real[:, part]
    return _counts(ids[:, size - 1:size - 1 + length], same, width) > 0


def _banned_words(history, words, width):
    # bool [R, V]: tokens that would complete a sequence.
    rows = tf.shape(history.token_ids)[0]
    banned = tf.zeros([rows, width], tf.bool)
    single = sorted({word[0] for word in words if len(word) == 1})
    if single:
        banned |= _at(single, width)
    for word in words:
        if len(word) > 1:
            last, whole = _last(history, len(word) - 1)
            whole &= _lengths(history) >= len(word)  # as in transformers, which asks for one token more
            met = whole & tf.reduce_all(last == tf.constant(word[:-1]), axis=1)
            banned |= met[:, None] & _at(word[-1:], width)
    return banned


def _at(ids, width):
    # bool [1, V], True at these ids.
    return tf.reduce_any(tf.one_hot(ids, width, on_value=True, off_value=False), axis=0)[None]


def process(logits, history, options):
    """Apply the processors that hold for greedy decoding and beams as well.

    Args:
        logits: float32 [R, V], logits or, in beam search, log-probabilities.
        history: History.
        options: Options.

    Returns:
        float32 [R, V]; -inf for tokens that must not be chosen.
    """
    width, made = logits.shape[-1], history.column - history.first
    alone = (_lengths(history) - made == 1)[:, None]  # prompts of one token
    if is_on(options.encoder_repetition_penalty, 1):
        source = (history.source_ids, history.source_real) if history.source_ids is not None else (  # or the prompt
            history.token_ids, history.real & (tf.range(columns_of(history.token_ids)) < history.first))
        seen = _counts(*source, width) > 0
        logits = _penalized(logits, seen, 1 / options.encoder_repetition_penalty)
    if is_on(options.repetition_penalty, 1):
        seen = _counts(history.token_ids, history.real, width) > 0
        logits = _penalized(logits, seen, options.repetition_penalty)
    if is_on(options.presence_penalty, 0) or is_on(options.frequency_penalty, 0):
        answered = history.real & (tf.range(columns_of(history.token_ids)) >= history.first)
        counts = tf.cast(_counts(history.token_ids, answered, width), tf.float32)
        logits -= options.frequency_penalty * counts + options.presence_penalty * tf.cast(counts > 0, tf.float32)
    if options.no_repeat_ngram_size:
        logits = tf.where(_banned_by_ngrams(history, options.no_repeat_ngram_size, width), NEVER, logits)
    words = tuple(word for word in options.bad_words_ids if len(word) > 1 or word[0] not in options.eos_token_id)
    if words:
        logits = tf.where(_banned_words(history, words, width), NEVER, logits)
    if is_on(options.min_new_tokens, 0) and options.num_ends:
        logits = tf.where((made < options.min_new_tokens) & _at(options.end_ids, width), NEVER, logits)
    for token, when in ((options.forced_bos_token_id, alone & (made == 0)),
                        (options.forced_eos_token_id, made == options.max_new_tokens - 1)):
        if token is not None:
            logits = tf.where(when, tf.where(_at([token], width), 0.0, NEVER), logits)
    if options.suppress_tokens:
        logits = tf.where(_at(options.suppress_tokens, width), NEVER, logits)
    if options.begin_suppress_tokens:
        late = tf.cast(alone & (options.forced_bos_token_id is not None), tf.int32)  # the forced token is the first
        logits = tf.where((made == late) & _at(options.begin_suppress_tokens, width), NEVER, logits)
    return logits
