"""Which positions may be seen from which: padding, documents of a packed row, causal order."""
from keras import ops


def visible(inputs, embedded=None, causal=False, window=0):
    """Build the attention mask of a dict of inputs.

    Args:
        inputs: dict with token_ids int32 [B, T] and optionally padding_mask, document_ids int32 [B, T].
        embedded: float [B, T, E], what may stand there instead of token_ids, or None.
        causal: bool, a position sees itself and what stands before it.
        window: int, with causal it sees up to this many of them, itself included; 0 is all.

    Returns:
        bool broadcastable to [B, H, T, T], or None where everything may be seen.
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
    """Return where rows, int [T], may see columns, int [S], in causal order, see `visible`: bool [1, 1, T, S]."""
    behind = rows[:, None] - columns[None, :]
    order = behind >= 0
    return (order & (behind < window) if window else order)[None, None]
