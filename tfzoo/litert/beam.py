"""Beam search in NumPy: the answers and scores of tfzoo.generation.beam (a test).

There, the beams of a row are branches of one text in its cache; here, each is a row of an exported batch, and the
caches are reordered.
"""
import dataclasses

import numpy as np

from tfzoo.litert.processors import gumbel, log_softmax, masked, moved, process, warp

LOW = np.float32(-1e9)  # the score of what must not be chosen, as in transformers


@dataclasses.dataclass
class Beams:
    """The state of one group of K beams for each of B rows; see tfzoo.generation.beam.Beams."""

    token_ids: np.ndarray
    sums: np.ndarray
    pool: np.ndarray
    pool_scores: np.ndarray
    pool_lengths: np.ndarray
    complete: np.ndarray
    is_open: np.ndarray
    states: np.ndarray


def _top(values, count):
    # The largest values [B, count] in descending order, and their places; of equal ones, the first, as tf.math.top_k.
    edges, rows = -np.partition(-values, count - 1, axis=1)[:, count - 1], []
    for row, edge in zip(values, edges):
        above = np.flatnonzero(row > edge)
        rows.append(np.sort(np.concatenate([above, np.flatnonzero(row == edge)[:count - len(above)]])))
    places = np.stack(rows)
    found = np.take_along_axis(values, places, 1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(found, order, 1), np.take_along_axis(places, order, 1)


def _pick(values, places):
    return np.take_along_axis(values, places if values.ndim == 2 else places[..., None], 1)


def _penalty(length, options):
    return np.float32(length) ** np.float32(options.length_penalty)


def _begin(token_ids, size):
    batch = len(token_ids)
    sums = np.full((batch, size), LOW, np.float32)
    sums[:, 0] = 0  # all beams are equal: only the first counts
    return Beams(token_ids, sums, token_ids.copy(), np.full((batch, size), LOW, np.float32),
                 np.zeros((batch, size), np.int32), np.zeros((batch, size), bool), np.ones(batch, bool),
                 np.zeros((batch, size), np.int32))


def _step(beams, log_p, made, column, options, keys):
    # Take one token in each running answer; return (Beams, int [B, K], the beam that each one continues).
    batch, size, width = log_p.shape
    ends, count = list(options.eos_token_id), options.max_new_tokens
    sums = (log_p + beams.sums[:, :, None]).reshape(batch, size * width)
    many = max(2, 1 + len(ends)) * size
    if options.greedy:
        best, places = _top(sums, many)
    else:
        places = _top(sums + gumbel(keys, made, size * width), many)[1]
        best = np.take_along_axis(sums, places, 1)
    origins, tokens = places // width, (places % width).astype(np.int32)
    texts = _pick(beams.token_ids, origins)
    texts[:, :, column] = tokens
    done = np.isin(tokens, ends) | (made + 1 >= count)
    states = np.take_along_axis(beams.states, origins, 1)
    if options.constraint is not None:
        states, final = moved(options.constraint, states, tokens)
        done = done | final
    running, chosen = _top((best + done * LOW).astype(np.float32), size)
    # The complete ones among the best K candidates enter the pool.
    may = done & (np.arange(many) < size)
    scores = best / _penalty(made + 1, options)
    full = beams.complete.all(1, keepdims=True)
    for excluded in (full & (options.early_stopping is True), ~beams.is_open[:, None], ~may):
        scores = (scores + excluded * LOW).astype(np.float32)
    lengths = np.full(tokens.shape, made + 1, np.int32)
    pool_scores, order = _top(np.concatenate([beams.pool_scores, scores], 1), size)
    pool, pool_lengths, complete = (_pick(np.concatenate(parts, 1), order) for parts in (
        (beams.pool, texts), (beams.pool_lengths, lengths), (beams.complete, may)))
    length = count if options.early_stopping == "never" and options.length_penalty > 0 else made + 1
    worst = np.where(complete, pool_scores.min(1, keepdims=True), LOW)
    is_open = beams.is_open & (running[:, :1] / _penalty(length, options) > worst).any(1)
    return Beams(_pick(texts, chosen), running, pool, pool_scores, pool_lengths, complete, is_open,
                 np.take_along_axis(states, chosen, 1)), np.take_along_axis(origins, chosen, 1)


def search(logits, ids, real, options, keys, step, source=None):
    """Search the answers with the best scores.

    Args:
        logits: float32 [B x num_beams, V], after the prompts.
        ids, real: int32 and bool [B x num_beams, P], the prompts.
        options: Options.
        keys: uint32 [B], from `row_keys`.
        step: callable (tokens int32 [R], order int [R], column) -> logits float32 [R, V], which continues the rows with
            these indices.
        source: see `process`.

    Returns:
        (int32 [B x num_return_sequences, N], int32 lengths, float32 scores).
    """
    total, groups, first = options.num_beams, options.num_beam_groups, ids.shape[1]
    size, batch = total // groups, len(ids) // total
    room = ((0, 0), (0, options.max_new_tokens))
    ids, real = np.pad(ids, room), np.pad(real, room)
    teams = [_begin(ids.reshape(batch, total, -1)[:, :size].copy(), size) for _ in range(groups)]
    for made in range(options.max_new_tokens):
        column = first + made
        log_p = process(log_softmax(logits), ids, real, column, first, options, source)
        if options.constraint is not None:
            states = np.concatenate([beams.states for beams in teams], 1).reshape(-1)
            log_p = masked(log_p, options.constraint, states, list(options.eos_token_id))
        if not options.greedy:
            log_p = warp(log_p, options, keep=max(2, 1 + len(options.eos_token_id)))
        log_p, origins, chosen = log_p.reshape(batch, total, -1), [], 0.0
        for number in range(groups):
            part = (log_p[:, number * size:(number + 1) * size]
                    - np.float32(options.diversity_penalty) * chosen).astype(np.float32)
            teams[number], origin = _step(teams[number], part, made, column, options, keys)
            if groups > 1:
                counts = np.zeros((batch, 1, log_p.shape[-1]), np.float32)
                for row, tokens in enumerate(teams[number].token_ids[:, :, column]):
                    np.add.at(counts[row, 0], tokens, 1)
                chosen = chosen + counts
            origins.append(origin + number * size)
        live = [beams.is_open & ~(beams.complete.all(1) & (options.early_stopping is True)) for beams in teams]
        if made + 1 == options.max_new_tokens or not np.any(live):
            break
        ids = np.concatenate([beams.token_ids for beams in teams], 1).reshape(batch * total, -1)
        real[:, column] = True
        order = (np.arange(batch)[:, None] * total + np.concatenate(origins, 1)).reshape(-1)
        logits = step(ids[:, column], order, column)
    scores, pool, lengths = (np.concatenate([getattr(beams, name) for beams in teams], 1)
                             for name in ("pool_scores", "pool", "pool_lengths"))
    scores, places = _top(scores, options.num_return_sequences)
    texts, lengths = _pick(pool, places)[:, :, first:], _pick(lengths, places)
    fill = (*options.eos_token_id, 0)[0]
    texts = np.where(np.arange(texts.shape[2]) < lengths[:, :, None], texts, fill)
    return texts.reshape(-1, texts.shape[2]), lengths.reshape(-1), scores.reshape(-1)
