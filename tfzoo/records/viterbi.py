"""The most probable sequence of labels without forbidden transitions (Viterbi 1967, doi:10.1109/TIT.1967.1054010)."""
import numpy as np

FORBIDDEN = -1e6  # far below any log-probability; finite, so that a sequence exists even if all of them are forbidden
GROUP_WORDS = 2 ** 16  # the maximum number of words to decode at once, padding included


def penalties(allowed):
    """Convert the result of `records.tags.transitions` to scores: three float32 arrays, 0 or FORBIDDEN."""
    return tuple(np.where(part, 0, FORBIDDEN).astype(np.float32) for part in allowed)


def decode(scores, lengths, allowed):
    """Find the sequence of labels with the highest total score for each of many sentences.

    Args:
        scores: float32 [W, C], the log-probability of each label for the words of all sentences in order.
        lengths: int [N], the number of words in each sentence.
        allowed: see `penalties`.

    Returns:
        int32 [W], the label of each word; of the sequences with the highest score, one with the lowest labels.
    """
    found, penalty = np.zeros(len(scores), np.int32), penalties(allowed)
    first, order = np.cumsum(lengths) - lengths, np.argsort(lengths, kind="stable")
    group = []
    for position, number in enumerate(order):
        group.append(number)
        longest = lengths[order[min(position + 1, len(order) - 1)]]
        if position + 1 < len(order) and longest * (len(group) + 1) <= GROUP_WORDS:
            continue
        sizes = lengths[group]
        inside = np.arange(sizes.max()) < sizes[:, None]  # [B, W]
        places = (first[group][:, None] + np.arange(sizes.max()))[inside]
        dense = np.zeros((*inside.shape, scores.shape[1]), np.float32)
        dense[inside] = scores[places]
        found[places] = _decoded(dense, sizes, *penalty)[inside]
        group = []
    return found


def _decoded(scores, lengths, start, between, end):
    # The labels, int [B, W], for scores float32 [B, W, C].
    width, real = scores.shape[1], np.arange(scores.shape[1])[:, None] < lengths
    total, labels = start + scores[:, 0] if width else start[None].repeat(len(scores), 0), np.arange(scores.shape[2])
    origins = np.zeros((width, *total.shape), np.int64)
    for number in range(1, width):
        paths = total[:, :, None] + between  # [B, C, C]
        best = paths.max(1) + scores[:, number]
        best -= best.max(1, keepdims=True)  # keeps float32 exact in long sentences
        here = real[number][:, None]
        total, origins[number] = np.where(here, best, total), np.where(here, paths.argmax(1), labels)
    found = np.zeros(scores.shape[:2], np.int64)
    label = (total + end).argmax(1)
    for number in range(width - 1, -1, -1):
        found[:, number] = label
        label = np.take_along_axis(origins[number], label[:, None], 1)[:, 0]
    return found
