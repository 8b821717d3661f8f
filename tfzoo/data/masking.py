"""Masking for masked language models (Devlin et al. 2018, arXiv:1810.04805).

15% of the tokens are predicted. Of these, 80% are replaced by the mask token, 10% by a random token, and 10% are left
unchanged. As in RoBERTa's dynamic masking, tokens are drawn anew for every batch. The draw covers the global batch and
depends only on (seed, step).
"""
import functools

import numpy as np

RATE = 0.15


def step_generator(seed, step):
    """Return a NumPy Philox generator keyed by (seed, step)."""
    return np.random.Generator(np.random.Philox(key=[seed, step]))


@functools.lru_cache(maxsize=4)
def _ordinary(vocab_size, special_ids):
    # Cached because it takes longer than the rest of the masking.
    return np.setdiff1d(np.arange(vocab_size), special_ids)


def _words(starts, maskable, budget):
    # The index of each token's word within its row; and bool [B, 1], whether every word in a row exceeds the budget.
    begins = starts | ~maskable
    begins[:, 0] = True
    units = np.cumsum(begins, axis=1) - 1
    flat = units + np.arange(len(units))[:, None] * units.shape[1]
    sizes = np.bincount(flat.ravel(), weights=maskable.ravel(), minlength=units.size)
    return units, (~maskable | (sizes[flat] > budget[:, None])).all(1, keepdims=True)


def mask_tokens(token_ids, maskable, tokenizer, rng, starts=None, rate=RATE):
    """Choose the tokens to predict and mask them.

    Args:
        token_ids: int32 [B, T].
        maskable: bool [B, T], whether each token may be masked (it is neither padding nor special).
        tokenizer: Tokenizer, provides `mask_id`, `vocab_size` and `special_ids`.
        rng: NumPy generator.
        starts: bool [B, T], whether each token begins a word, to choose whole words and mask all of their tokens; None
            to choose single tokens. If every word in a row has more tokens than may be masked (as in text without
            spaces), single tokens are chosen in that row.
        rate: float, the fraction of each row's maskable tokens to predict, but at least one token if there are any.

    Returns:
        dict: `token_ids`, int32 [B, T], masked; `masked_positions`, int32 [B, P]; `labels`, int32 [B, P], the original
        ids; and `weights`, float32 [B, P], 1 for predicted tokens and 0 for padding. P is max(1, round(rate * T)).
    """
    batch, length = token_ids.shape
    width = max(1, round(rate * length))
    random = rng.random((batch, length))
    budget = np.minimum(np.maximum(1, np.round(rate * maskable.sum(1))), maskable.sum(1)).astype(int)
    budget = np.minimum(budget, width)
    units, too_long = np.broadcast_to(np.arange(length), (batch, length)), np.False_
    if starts is not None:
        units, too_long = _words(starts, maskable, budget)
    draw = np.where(too_long, random, np.take_along_axis(random, units, axis=1))
    order = np.argsort(np.where(maskable, draw, 2.0), axis=1, kind="stable")
    chosen = np.arange(length)[None] < budget[:, None]
    if starts is not None:
        ordered = np.take_along_axis(units, order, axis=1)
        after = np.take_along_axis(ordered, np.minimum(budget, length - 1)[:, None], axis=1)
        split = (ordered == after) & (budget < maskable.sum(1))[:, None]
        kept = chosen & (~split | too_long)
        chosen = np.where(kept.any(1, keepdims=True), kept, chosen)
    positions = np.where(chosen, order, 0)[:, :width]
    weights = chosen[:, :width].astype(np.float32)
    labels = np.where(weights > 0, np.take_along_axis(token_ids, positions, axis=1), 0)
    kind = rng.random((batch, width))
    ordinary = _ordinary(tokenizer.vocab_size, tuple(tokenizer.special_ids))
    random_ids = ordinary[rng.integers(0, len(ordinary), (batch, width))]
    hidden = np.where(kind < 0.8, tokenizer.mask_id, np.where(kind < 0.9, random_ids, labels))
    result = token_ids.copy()
    rows, columns = np.nonzero(weights)
    result[rows, positions[rows, columns]] = hidden[rows, columns]
    return {"token_ids": result.astype(np.int32), "masked_positions": positions.astype(np.int32),
            "labels": labels.astype(np.int32), "weights": weights}
