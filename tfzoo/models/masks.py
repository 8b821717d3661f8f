"""Attention masks: padding, packed documents, causal order, sliding window."""
from keras import ops


def visible(inputs, embedded=None, causal=False, window=0):
    """Build the attention mask for a dict of inputs.

    Args:
        inputs: dict with token_ids int32 [B, T] and optionally padding_mask, document_ids int32 [B, T].
        embedded: float [B, T, E], embeddings to use instead of token_ids, or None.
        causal: bool, whether each position attends only to itself and earlier positions.
        window: int, the maximum number of positions, including itself, that each position attends to if `causal` is
            True; 0 for no limit.

    Returns:
        bool broadcastable to [B, H, T, T], True where attention is allowed; None if it is allowed everywhere.
    """
    mask = None
    if inputs.get("padding_mask") is not None:
        mask = ops.cast(inputs["padding_mask"], "bool")[:, None, None, :]
    if inputs.get("document_ids") is not None:
        documents = inputs["document_ids"]
        same = (documents[:, None, :, None] == documents[:, None, None, :]) & (documents > 0)[:, None, None, :]
        mask = same if mask is None else mask & same
    if causal:
        columns = ops.arange(ops.shape(inputs["token_ids"] if embedded is None else embedded)[1])
        order = in_order(columns, columns, window)
        mask = order if mask is None else mask & order
    return mask


def in_order(rows, columns, window=0):
    """Return the causal mask, bool [1, 1, T, S], for query columns `rows` [T] and key columns `columns` [S]."""
    behind = rows[:, None] - columns[None, :]
    order = behind >= 0
    return (order & (behind < window) if window else order)[None, None]
