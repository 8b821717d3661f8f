"""Rows of token ids: texts with their special tokens, truncated and padded."""
import numpy as np


def as_text(text):
    """Convert str or bytes to valid Unicode, with U+FFFD for invalid UTF-8 and "?" for lone surrogates: str."""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text.encode("utf-8", "replace").decode()


def keep_of_pair(one, two, room, where=np.where, minimum=np.minimum):
    """Return how many tokens to keep from each text in a pair, truncating the longer text first.

    Args:
        one, two: integers (NumPy or tensors), the lengths of the texts in tokens.
        room: int, the total number of tokens to keep.
        where, minimum: the functions `where` and `minimum` from NumPy or TensorFlow, to match `one` and `two`.

    Returns:
        Two integers of the same type as `one` and `two`.
    """
    short = minimum(minimum(one, two), room // 2)
    return (where(one <= two, minimum(one, short), minimum(one, room - short)),
            where(one <= two, minimum(two, room - short), minimum(two, short)))


def join_row(parts, around, room):
    """Create a single, unpadded row of model inputs.

    Args:
        parts: list of one or two sequences of int, the ids of each text.
        around: three lists of int, the special tokens before the first text, between two texts and after the last.
        room: int, the number of text tokens to keep.

    Returns:
        (list of int, list of int): token ids and segment ids.
    """
    keep = [room] if len(parts) == 1 else keep_of_pair(len(parts[0]), len(parts[1]), room=room)
    before, between, after = around
    tokens, segments = list(before), [0] * len(before)
    for number, (part, size) in enumerate(zip(parts, keep)):
        piece = [*part[:int(size)], *(between if number + 1 < len(parts) else after)]
        tokens += piece
        segments += [number] * len(piece)
    return tokens, segments


def filled(shape, rows, pad_id):
    """Return model inputs.

    Args:
        shape: tuple of int, [..., T].
        rows: iterable of (place, (token ids, segment ids)), one for each row of tokens; all others are masked.
        pad_id: int.

    Returns:
        dict of int32 [..., T]: `token_ids`, `padding_mask` and `segment_ids`.
    """
    token_ids = np.full(shape, pad_id, np.int32)
    segment_ids, padding_mask = np.zeros_like(token_ids), np.zeros_like(token_ids)
    for place, (tokens, segments) in rows:
        token_ids[place][:len(tokens)] = tokens
        segment_ids[place][:len(tokens)] = segments
        padding_mask[place][:len(tokens)] = 1
    return {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids}
