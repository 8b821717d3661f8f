"""Logits processors and sampling in NumPy, for decoding on the host: the numbers of tfzoo.generation's (a test).

See tfzoo.generation.processors and tfzoo.generation.sampling, of which each function here has the name.
"""
import math

import numpy as np

NEVER = -math.inf
LEAST = float(np.finfo(np.float32).tiny)
BITS = 0xFFFFFFFF


def _counts(ids, real, size):
    # int32 [R, V]: how often each token occurs.
    found = np.zeros((len(ids), size), np.int32)
    rows, columns = np.nonzero(real)
    np.add.at(found, (rows, ids[rows, columns]), 1)
    return found


def _penalized(logits, seen, penalty):
    penalty = np.float32(penalty)
    return np.where(seen, np.where(logits < 0, logits * penalty, logits / penalty), logits)


def _banned(ids, real, column, options, width):
    # bool [R, V]: tokens that would repeat an n-gram or complete a sequence of bad_words_ids.
    banned, size = np.zeros((len(ids), width), bool), options.no_repeat_ngram_size
    words = [word for word in options.bad_words_ids if len(word) > 1 or word[0] not in options.eos_token_id]
    for row, (tokens, there) in enumerate(zip(ids[:, :column], real[:, :column])):
        tokens = tokens[there].tolist()
        if size:
            last = tokens[len(tokens) - size + 1:] if len(tokens) >= size - 1 else None
            for place in range(len(tokens) - size + 1):
                if tokens[place:place + size - 1] == last:
                    banned[row, tokens[place + size - 1]] = True
        for word in words:
            # As in transformers, a sequence of several tokens is only completed in a longer text.
            if len(word) == 1 or len(tokens) >= len(word) and tuple(tokens[1 - len(word):]) == tuple(word[:-1]):
                banned[row, word[-1]] = True
    return banned


def process(logits, ids, real, column, first, options, source=None):
    """Apply the processors that hold for greedy decoding and beams as well.

    Args:
        logits: float32 [R, V].
        ids: int32 [R, L], prompts and answers.
        real: bool [R, L], False for padding and for columns that are not decoded yet.
        column, first: int, the next column, and the first one of the answers.
        options: Options without tensors.
        source: (int32 [R, S], bool [R, S]), the sources of an encoder-decoder, or None.

    Returns:
        float32 [R, V]; -inf for tokens that must not be chosen.
    """
    width, made, columns = logits.shape[-1], column - first, np.arange(ids.shape[1])
    alone = real.sum(1) - made == 1  # prompts of one token
    if options.encoder_repetition_penalty != 1:
        given = source or (ids, real & (columns < first))
        logits = _penalized(logits, _counts(*given, width) > 0, 1 / options.encoder_repetition_penalty)
    if options.repetition_penalty != 1:
        logits = _penalized(logits, _counts(ids, real, width) > 0, options.repetition_penalty)
    if options.presence_penalty or options.frequency_penalty:
        counts = _counts(ids, real & (columns >= first), width).astype(np.float32)
        logits = logits - (np.float32(options.frequency_penalty) * counts
                           + np.float32(options.presence_penalty) * (counts > 0))
    if options.no_repeat_ngram_size or options.bad_words_ids:
        logits = np.where(_banned(ids, real, column, options, width), NEVER, logits)
    logits = logits.astype(np.float32)  # a copy, to be changed in place
    if made < options.min_new_tokens:
        logits[:, list(options.eos_token_id)] = NEVER
    for token, rows in ((options.forced_bos_token_id, alone & (made == 0)),
                        (options.forced_eos_token_id, np.full(len(ids), made == options.max_new_tokens - 1))):
        if token is not None:
            logits[rows] = NEVER
            logits[rows, token] = 0
    logits[:, list(options.suppress_tokens)] = NEVER
    if options.begin_suppress_tokens:
        late = alone & (options.forced_bos_token_id is not None)  # the forced token is the first
        rows = np.flatnonzero(made == late)
        logits[np.ix_(rows, options.begin_suppress_tokens)] = NEVER
    return logits


def log_softmax(logits):
    """Return the logarithms of the probabilities: float32 [R, V]."""
    shifted = logits - logits.max(-1, keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))).astype(np.float32)


def _largest(logits, count):
    # The `count`-th largest logit of each row, [R, 1].
    count = min(count, logits.shape[-1])
    return -np.partition(-logits, count - 1, axis=-1)[:, count - 1:count]


def _entropy(log_p):
    p = np.exp(log_p)
    return -np.sum(np.where(p > 0, p * np.where(p > 0, log_p, 0), 0), -1, keepdims=True)


def _at_least(logits, least, keep):
    small = np.exp(log_softmax(logits)) < least
    return np.where(small & (logits < _largest(logits, keep)), NEVER, logits)


def warp(logits, options, keep=1):
    """Narrow the distribution from which the next token is drawn: float32 [R, V] -> the same, with -inf."""
    if options.temperature != 1:
        logits = logits / np.float32(max(options.temperature, LEAST))
    if options.top_k:
        logits = np.where(logits < _largest(logits, max(options.top_k, keep)), NEVER, logits)
    if options.top_p != 1:
        ordered = -np.sort(-logits, -1)
        p = np.exp(log_softmax(ordered))
        kept = (np.cumsum(p, -1, dtype=np.float32) - p < max(options.top_p, LEAST)) | (np.arange(p.shape[1]) < keep)
        logits = np.where(logits < np.where(kept, ordered, np.inf).min(-1, keepdims=True), NEVER, logits)
    if options.min_p:
        largest = np.exp(log_softmax(logits)).max(-1, keepdims=True)
        logits = _at_least(logits, np.float32(options.min_p) * largest, keep)
    if options.typical_p != 1:
        log_p = log_softmax(logits)
        order = np.argsort(np.abs(-log_p - _entropy(log_p)), -1, kind="stable")
        p = np.take_along_axis(np.exp(log_p), order, -1)
        kept = (np.cumsum(p, -1, dtype=np.float32) - p < options.typical_p) | (np.arange(p.shape[1]) < keep)
        chosen = np.zeros_like(kept)
        np.put_along_axis(chosen, order, kept, -1)
        logits = np.where(chosen, logits, NEVER)
    if options.epsilon_cutoff:
        logits = _at_least(logits, options.epsilon_cutoff, keep)
    if options.eta_cutoff:
        least = np.minimum(options.eta_cutoff, options.eta_cutoff ** 0.5 * np.exp(-_entropy(log_softmax(logits))))
        logits = _at_least(logits, least, keep)
    return logits.astype(np.float32)


def scramble(bits):
    """Hash uint32 arrays; see tfzoo.layers.kernels.scramble."""
    bits = bits.astype(np.uint32)
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B)
    return bits ^ (bits >> np.uint32(16))


def row_keys(seeds, copies):
    """Return the keys of the random numbers for rows with these seeds, uint64 [B]: uint32 [B x copies]."""
    low, high = (seeds & np.uint64(BITS)).astype(np.uint32), (seeds >> np.uint64(32)).astype(np.uint32)
    key = scramble(low + np.uint32(0x9E3779B9)) ^ scramble(scramble(high + np.uint32(1)))
    copy = scramble(np.arange(copies, dtype=np.uint32) + np.uint32(0x85EBCA6B))
    return scramble(key[:, None] ^ copy[None]).reshape(-1)


def gumbel(keys, number, width):
    """Return random numbers of the standard Gumbel distribution: float32 [R, width]."""
    one = scramble(keys ^ scramble(np.array([(number + 0x9E3779B9) & BITS], np.uint32)))
    other = scramble(one + np.uint32(0xC2B2AE35))
    bits = scramble(np.arange(width, dtype=np.uint32)[None] ^ one[:, None]) ^ other[:, None]
    uniform = ((bits >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0 ** -24)
    return -np.log(-np.log(uniform))


def draw(logits, options, keys, number):
    """Choose the next token for each row of processed logits: int32 [R]."""
    if options.temperature < LEAST:
        return logits.argmax(-1).astype(np.int32)
    warped = warp(logits - logits.max(-1, keepdims=True), options)
    return (warped + gumbel(keys, number, logits.shape[-1])).argmax(-1).astype(np.int32)


def masked(logits, constraint, states, ends):
    """Set the logits of tokens that must not follow `states`, int32 [R], to -inf; see tfzoo.generation.constraint."""
    allowed = constraint.moves[states][:, constraint.classes] >= 0
    allowed[:, ends] = constraint.may_end[states][:, None]
    return np.where(allowed, logits, NEVER).astype(np.float32)


def moved(constraint, states, tokens):
    """Return the states after `tokens`, both int32 of one shape, and bool, whether the texts end there."""
    after = constraint.moves[states, constraint.classes[tokens]]
    after = np.where(after < 0, states, after)  # the end token
    return after, constraint.final[after]
