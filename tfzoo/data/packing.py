"""Packing: several texts in one row, so that little of a batch is padding.

Rows are planned on the histogram of lengths by best fit, the longest first (Krell et al. 2021, arXiv:2107.02027); there
is no limit to the texts of a row. The plan depends on the lengths alone, so every epoch has as many rows; which text of
a length fills which place, and in what order rows come, is drawn anew for each epoch.
"""
import bisect

import numpy as np


def pack_lengths(counts, max_length):
    """Fill rows with texts of given lengths, each into the fullest row that has room for it, the longest first.

    Args:
        counts: int [at least max_length + 1], how many texts have each length; none is longer than max_length.
        max_length: int, the room of a row.

    Returns:
        List of (int: so many rows, tuple of int: the lengths of the texts in each of them, descending).

    Example:
        >>> pack_lengths([0, 1, 0, 2, 4, 0, 0, 0], 7)
        [(2, (4, 3)), (1, (4, 1)), (1, (4,))]
    """
    groups = {max_length: [(int(sum(counts)), ())]}  # by the room that is left; at first as many rows as texts
    rooms = [max_length]  # ascending, those with a group
    for length in range(max_length, 0, -1):
        left = int(counts[length])
        while left:
            room = rooms[bisect.bisect_left(rooms, length)]
            rows, lengths = groups[room].pop()
            each = min(room // length, left)  # a row that took one takes the next as long as it has room
            filled = min(rows, left // each)
            if filled < rows:
                groups[room].append((rows - filled, lengths))
            elif not groups[room]:
                rooms.remove(room)
            rest = room - each * length
            if rest not in rooms:
                bisect.insort(rooms, rest)
            groups.setdefault(rest, []).append((filled, (*lengths, *[length] * each)))
            left -= each * filled
    return [group for room in sorted(groups) for group in groups[room] if group[1]]


class PackPlan:
    """Say which texts form which row, a pure function of (seed, epoch); each text is in an epoch once.

    Args:
        lengths: int [N], the tokens of each text, specials included, at most max_length.
        max_length: int, the tokens of a row.
        seed: int of the shuffling; None keeps texts in the order of their lengths (evaluation).

    Attributes:
        rows: int, of every epoch.
        padding: float, the share of their tokens that is padding.
    """

    def __init__(self, lengths, max_length, seed=None):
        self.lengths, self.seed, self._kept = lengths, seed, (None, None, None)
        self._sorted = np.argsort(lengths, kind="stable").astype(np.min_scalar_type(len(lengths)))
        counts = np.bincount(lengths, minlength=max_length + 1)
        self._lengths_end = np.cumsum(counts)  # where the texts of each length end in `_sorted`
        free = self._lengths_end - counts  # and where the next one that is in no row yet stands
        repeats, self._places = [], []
        for rows, pattern in pack_lengths(counts, max_length):
            places = []
            for length in pattern:
                places.append(free[length])
                free[length] += rows
            repeats.append(rows)
            self._places.append(np.array(places))
        self._edges = np.cumsum([0, *repeats])
        self.rows = int(self._edges[-1])
        self.padding = 1 - float(counts @ np.arange(len(counts))) / (self.rows * max_length)

    def _epoch(self, epoch):
        """Return (texts in the order of their lengths, rows in the order of the epoch), int [N] and [rows]."""
        kept = self._kept  # one value, so that threads may ask for different epochs
        if kept[0] == epoch:
            return kept[1:]
        texts, rows = self._sorted, np.arange(self.rows, dtype=np.min_scalar_type(self.rows))
        if self.seed is not None:
            self._kept, kept = (None, None, None), None  # the epoch before may be large
            texts, rng = texts.copy(), np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            for begin, end in zip(self._lengths_end[:-1], self._lengths_end[1:]):
                rng.shuffle(texts[begin:end])
            rng.shuffle(rows)
        self._kept = epoch, texts, rows
        return texts, rows

    def row(self, epoch, number):
        """Return the texts of a row of an epoch, both counted from 0: int [at least 1]."""
        texts, rows = self._epoch(epoch)
        row = int(rows[number])
        group = int(np.searchsorted(self._edges, row, side="right")) - 1
        return texts[self._places[group] + (row - self._edges[group])]
