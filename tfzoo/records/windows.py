"""Overlapping windows over a long text, and the one window that each of its parts belongs to."""
import numpy as np

CHUNK = 512  # words whose windows are chosen at once


def cut_windows(length, room, overlap=None):
    """Cut a text into windows.

    Args:
        length: int, the number of tokens in the text.
        room: int, the maximum number of tokens per window, at least 1.
        overlap: int, the number of tokens that consecutive windows share, less than `room`; None for a quarter of it.
            The last window ends with the text; only it may be shorter than `room`.

    Returns:
        int64 [W, 2], the start and end (exclusive) of each window; one window for a text of up to `room` tokens.

    Raises:
        ValueError: if `overlap` is not from 0 to room - 1.

    Example:
        >>> cut_windows(10, 4, 1).tolist()
        [[0, 4], [3, 7], [6, 10]]
    """
    overlap = room // 4 if overlap is None else overlap
    if not 0 <= overlap < room:
        raise ValueError(f"overlap must be at least 0 and below {room}, the room of a window; got {overlap}")
    step = room - overlap
    starts = np.arange(max(1, -(-(length - overlap) // step))) * step
    return np.stack([starts, np.minimum(starts + room, length)], axis=1)


def window_of(windows, first, end):
    """Choose the window that each part of a text belongs to.

    A part belongs to the window in which the smaller of its contexts, on its left and on its right, is largest, and to
    the first of these if there are several (Devlin et al. 2018, arXiv:1810.04805, in their code for SQuAD).

    Args:
        windows: int [W, 2], from `cut_windows`.
        first, end: int [N], the first token and the end (exclusive) of each part.

    Returns:
        int64 [N], the index of the window; -1 if no window contains the whole part.

    Example:
        >>> window_of(cut_windows(10, 4, 2), [0, 3, 9], [1, 4, 10]).tolist()
        [0, 1, 3]
    """
    first, end = np.asarray(first)[:, None], np.asarray(end)[:, None]
    least = np.minimum(first - windows[:, 0], windows[:, 1] - end)
    return np.where((least >= 0).any(axis=1), least.argmax(axis=1), -1)


def word_windows(lengths, rooms, overlap, sentence, first, end):
    """Cut sentences into windows, and choose the window of each word.

    Args:
        lengths, rooms: int [N], the number of tokens in each sentence, and of those that fit into its windows.
        overlap: int or None, see `cut_windows`.
        sentence: int [W], the sentence of each word.
        first, end: int [W], the first token and the end (exclusive) of each word in its sentence; first is -1 for words
            without tokens.

    Returns:
        (int [R], int [R], int [R], int [W]): the sentence, start and end of each window, and each word's window, or -1.
    """
    cuts = {number: cut_windows(int(lengths[number]), int(rooms[number]), overlap)
            for number in np.flatnonzero(lengths > rooms)}
    counts = np.ones(len(lengths), np.int64)
    counts[list(cuts)] = [len(windows) for windows in cuts.values()]
    rows, place = np.repeat(np.arange(len(counts)), counts), np.cumsum(counts) - counts
    begins, ends, window = np.zeros(len(rows), np.int64), lengths[rows], np.where(first < 0, -1, place[sentence])
    for number, windows in cuts.items():
        here = slice(place[number], place[number] + len(windows))
        begins[here], ends[here] = windows.T
        words = np.arange(*np.searchsorted(sentence, [number, number + 1]))
        words = words[first[words] >= 0]
        for start in range(0, len(words), CHUNK):  # windows times words would not fit into memory for a whole book
            part = words[start:start + CHUNK]
            near = np.flatnonzero((windows[:, 1] > first[part[0]]) & (windows[:, 0] < end[part[-1]]))
            found = window_of(windows[near], first[part], end[part])
            long = window_of(windows[near], first[part], first[part] + 1)
            window[part] = place[number] + near[np.where(found < 0, long, found)]
    return rows, begins, ends, window
