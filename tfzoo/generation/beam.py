"""Beam search with the scores of transformers 4.57.1: each row's answers do not depend on its batch.

A pool holds the best complete answers of each row. Only the best num_beams candidates of a step may enter it, with
their log-probability / length ** length_penalty; the best incomplete ones go on. Groups of beams (Vijayakumar et al.
2016, arXiv:1610.02424) search in turn, each with its own pool, and avoid the tokens that earlier groups chose.
"""
import typing

import tensorflow as tf

from tfzoo.generation.processors import columns_of, ends, is_broken, process
from tfzoo.generation.sampling import gumbel, warp
from tfzoo.models.body import Branches

LOW = -1e9  # the score of what must not be chosen, as in transformers


class Beams(typing.NamedTuple):
    """The state of one group of K beams for each of B rows.

    Attributes:
        token_ids: int32 [B, K, L], the running answers with their prompts.
        sums: float32 [B, K], their log-probabilities.
        pool: int32 [B, K, L], the best complete answers.
        pool_scores: float32 [B, K].
        pool_lengths: int32 [B, K], the number of generated tokens.
        complete: bool [B, K], which places of the pool are taken.
        is_open: bool [B], whether a running answer may still enter the pool.
        states: int32 [B, K], the states of options.constraint.
    """

    token_ids: object
    sums: object
    pool: object
    pool_scores: object
    pool_lengths: object
    complete: object
    is_open: object
    states: object


def _pick(values, places):
    return tf.gather(values, places, batch_dims=1)


def _penalty(length, options):
    return tf.cast(length, tf.float32) ** options.length_penalty


def _candidates(beams, scores, options, keys, made):
    # The best continuations: (their sums [B, N], beams int32 [B, N] and tokens int32 [B, N]).
    batch, count, width = tf.shape(scores)[0], scores.shape[1], scores.shape[2]
    many = max(2, 1 + options.num_ends) * count
    sums = tf.reshape(scores + beams.sums[:, :, None], [batch, count * width])
    if options.greedy:
        best, places = tf.math.top_k(sums, many)
    else:  # Gumbel top-k: draws without replacement (Kool et al. 2019, arXiv:1903.06059)
        places = tf.math.top_k(sums + gumbel(keys, made, count * width), many).indices
        best = _pick(sums, places)
    return best, places // width, places % width


def _finish(beams, candidates, options, made, done):
    # Return beams with the complete ones among the best K candidates in the pool.
    best, lengths, texts = candidates
    count, full = beams.sums.shape[1], tf.reduce_all(beams.complete, axis=1, keepdims=True)
    may = done & (tf.range(tf.shape(best)[1]) < count)
    scores = best / _penalty(made + 1, options)
    for excluded in ((full & (options.early_stopping is True)), ~beams.is_open[:, None], ~may):
        scores += tf.cast(excluded, tf.float32) * LOW
    scores, places = tf.math.top_k(tf.concat([beams.pool_scores, scores], axis=1), count)
    return beams._replace(
        pool=_pick(tf.concat([beams.pool, texts], axis=1), places), pool_scores=scores,
        pool_lengths=_pick(tf.concat([beams.pool_lengths, lengths], axis=1), places),
        complete=_pick(tf.concat([beams.complete, may], axis=1), places))


def _still_open(beams, options, made, count):
    # Whether the best running answer could still beat the worst complete one.
    length = count if options.early_stopping == "never" and options.length_penalty > 0 else made
    possible = beams.sums[:, :1] / _penalty(length, options)
    worst = tf.where(beams.complete, tf.reduce_min(beams.pool_scores, axis=1, keepdims=True), LOW)
    return beams.is_open & tf.reduce_any(possible > worst, axis=1)


def _step(beams, log_p, history, options, *, count, keys):
    # Take one token in each running answer; return (Beams, int32 [B, K], the beam that each one continues).
    made, wanted = history.column - history.first, beams.sums.shape[1]
    best, origins, tokens = _candidates(beams, log_p, options, keys, made)
    column = tf.range(columns_of(history.token_ids)) == history.column
    texts = tf.where(column, tokens[:, :, None], _pick(beams.token_ids, origins))
    done, states = ends(tokens, options.end_ids) | (made + 1 >= count), _pick(beams.states, origins)
    if options.constraint is not None:
        states, final = options.constraint.move(states, tokens)
        done |= final
    running, places = tf.math.top_k(best + tf.cast(done, tf.float32) * LOW, wanted)
    beams = _finish(beams, (best, tf.zeros_like(tokens) + made + 1, texts), options, made, done)
    beams = beams._replace(token_ids=_pick(texts, places), sums=running, states=_pick(states, places))
    return beams._replace(is_open=_still_open(beams, options, made + 1, count)), _pick(origins, places)


def _begin(token_ids, ended, size):
    batch = tf.shape(token_ids)[0]
    sums = tf.tile([[0.0] + [LOW] * (size - 1)], [batch, 1])  # all beams are equal: only the first counts
    return Beams(token_ids, sums, token_ids, tf.fill([batch, size], LOW), tf.zeros([batch, size], tf.int32),
                 tf.zeros([batch, size], tf.bool), ~ended, tf.zeros([batch, size], tf.int32))


def search(body, logits_of, begin, options, count):
    """Search the answers with the best scores; see `decode`, which calls it with B x num_beams texts in `begin`.

    The beams of a row are branches of one text in its cache: the step with index i writes K columns, one for each beam,
    and a beam attends to the prompt and to its own path through the columns of earlier steps. So neither the prompt nor
    the source is copied, and nothing is copied when beams are reordered.
    """
    size, groups, total = options.num_beams // options.num_beam_groups, options.num_beam_groups, options.num_beams
    first, length = begin.history.column, columns_of(begin.history.token_ids)
    batch, steps = tf.shape(begin.prompt)[0], length - first
    real = tf.cast(begin.prompt, tf.bool)
    columns = tf.concat([tf.range(first), first + tf.repeat(tf.range(steps), total)], axis=0)

    def by_row(value):
        return tf.reshape(value, [batch, total, *([columns_of(value)] if value.shape.rank > 1 else [])])

    token_ids, ended = by_row(begin.history.token_ids), by_row(begin.ended)[:, 0]

    def choose(outputs, broken, real_texts, column, teams, paths):
        history = begin.history._replace(token_ids=_joined(teams, "token_ids"), real=real_texts, column=column)
        logits, now_broken = outputs
        log_p = process(tf.nn.log_softmax(logits), history, options)
        if options.constraint is not None:
            states = tf.reshape(tf.concat([beams.states for beams in teams], axis=1), [-1])
            log_p = options.constraint.mask(log_p, states, options.end_ids)
        if not options.greedy:
            log_p = warp(log_p, options, keep=max(2, 1 + options.num_ends))
        log_p, width, found, origins, chosen = by_row(log_p), log_p.shape[-1], [], [], 0.0
        for number, beams in enumerate(teams):
            part = log_p[:, number * size:(number + 1) * size] - options.diversity_penalty * chosen
            beams, origin = _step(beams, part, history, options, count=count, keys=begin.keys)
            if groups > 1:
                tokens = tf.gather(beams.token_ids, column, axis=2)
                chosen += tf.reduce_sum(tf.one_hot(tokens, width), axis=1, keepdims=True)
            found.append(beams)
            origins.append(origin + number * size)
        paths = _pick(paths, tf.concat(origins, axis=1))
        real_texts = real_texts | (tf.range(length) == column)
        broken = broken | (tf.reduce_any(by_row(now_broken), axis=1) & ~ended)
        return broken, real_texts, column + 1, found, paths

    def more(broken, real_texts, column, teams, paths, state):
        full = [tf.reduce_all(beams.complete, axis=1) & (options.early_stopping is True) for beams in teams]
        live = [tf.reduce_any(beams.is_open & ~done) for beams, done in zip(teams, full)]
        return (column - first < tf.reduce_max(count)) & tf.reduce_any(live)

    def go_on(broken, real_texts, column, teams, paths, state):
        tokens = by_row(tf.gather(_joined(teams, "token_ids"), column - 1, axis=1))
        here = tf.range(steps) == column - 1 - first
        paths = tf.where(here, tf.range(total)[:, None], paths)  # beam k writes the column k of this step
        own = tf.reshape(tf.one_hot(paths, total, on_value=True, off_value=False), [batch, total, steps * total])
        visible = tf.concat([tf.tile(real[:, None], [1, total, 1]), own], axis=2)
        outputs, state = body.step(tokens, state, Branches(visible, column - 1, columns))
        logits = logits_of(outputs)
        logits = tf.reshape(logits, [-1, logits.shape[-1]])
        return *choose((logits, is_broken(logits)), broken, real_texts, column, teams, paths), state

    chosen = choose((begin.logits, begin.broken), tf.zeros([batch], tf.bool), begin.history.real, first,
                    [_begin(token_ids[:, :size], ended, size) for _ in range(groups)],
                    tf.fill([batch, total, steps], -1))
    broken, _, _, teams, _, _ = tf.while_loop(more, go_on, (*chosen, begin.state), parallel_iterations=1)
    return _best(teams, broken, options, first)


def _joined(teams, name):
    value = tf.concat([getattr(beams, name) for beams in teams], axis=1)
    return tf.reshape(value, [-1, tf.shape(value)[2]])


def _best(teams, broken, options, first):
    # The best answers of all groups, in the order of their scores.
    wanted = options.num_return_sequences
    joined = [tf.concat([getattr(beams, name) for beams in teams], axis=1)
              for name in ("pool_scores", "pool", "pool_lengths")]
    scores, places = tf.math.top_k(joined[0], wanted)
    texts, lengths = (_pick(each, places) for each in joined[1:])
    column = tf.range(tf.shape(texts)[2]) - first
    texts = tf.where(column < lengths[:, :, None], texts, options.fill)
    texts = tf.where(broken[:, None, None], -1, texts)
    return {"token_ids": tf.reshape(texts, [-1, tf.shape(texts)[2]]), "length": tf.reshape(lengths, [-1]),
            "scores": tf.reshape(scores, [-1])}
