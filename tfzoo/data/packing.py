"""Packing of several texts into each row to minimize padding.

Rows are planned by best-fit-decreasing bin packing on the histogram of text lengths (Krell et al. 2021,
arXiv:2107.02027), with no limit on the number of texts per row. The plan depends only on the lengths, so every epoch
has the same number of rows. Each epoch shuffles the order of the rows, and shuffles texts of equal length among the
places planned for that length.
"""
import bisect

import numpy as np

from tfzoo.data.batches import Batches
from tfzoo.data.encode import split_whole
from tfzoo.errors import DataError


def pack_lengths(counts, max_length):
    """Pack texts into rows by length, longest first, placing each text in the fullest row with enough room.

    Args:
        counts: int [at least max_length + 1], the number of texts with each length; no text exceeds max_length.
        max_length: int, the number of tokens per row.

    Returns:
        List of (int, tuple of int): how many rows share a layout, and the text lengths in that layout, descending.

    Example:
        >>> pack_lengths([0, 1, 0, 2, 4, 0, 0, 0], 7)
        [(2, (4, 3)), (1, (4, 1)), (1, (4,))]
    """
    groups = {max_length: [(int(sum(counts)), ())]}  # keyed by free space; initially one empty row per text
    rooms = [max_length]  # keys of the non-empty groups, ascending
    for length in range(max_length, 0, -1):
        left = int(counts[length])
        while left:
            room = rooms[bisect.bisect_left(rooms, length)]
            rows, lengths = groups[room].pop()
            each = min(room // length, left)  # a row that takes one text is still the fullest, so add more
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
    """Assign texts to rows as a pure function of (seed, epoch); each text occurs once per epoch.

    Args:
        lengths: int [N], the number of tokens in each text, including special tokens, at most max_length.
        max_length: int, the number of tokens per row.
        seed: int, the shuffle seed; None disables shuffling (evaluation).

    Attributes:
        rows: int, the number of rows per epoch.
        padding: float, the fraction of padding tokens.
    """

    def __init__(self, lengths, max_length, seed=None):
        self.lengths, self.seed, self._kept = lengths, seed, (None, None, None)
        self._sorted = np.argsort(lengths, kind="stable").astype(np.min_scalar_type(len(lengths)))
        counts = np.bincount(lengths, minlength=max_length + 1)
        self._lengths_end = np.cumsum(counts)  # where the texts of each length end in `_sorted`
        free = self._lengths_end - counts  # the next unassigned text of each length in `_sorted`
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
        # Texts sorted by length and shuffled within each length, int [N]; the epoch's row order, int [rows].
        kept = self._kept  # read only once, as other threads may request other epochs
        if kept[0] == epoch:
            return kept[1:]
        texts, rows = self._sorted, np.arange(self.rows, dtype=np.min_scalar_type(self.rows))
        if self.seed is not None:
            self._kept, kept = (None, None, None), None  # free the previous epoch, which may be large
            texts, rng = texts.copy(), np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            for begin, end in zip(self._lengths_end[:-1], self._lengths_end[1:]):
                rng.shuffle(texts[begin:end])
            rng.shuffle(rows)
        self._kept = epoch, texts, rows
        return texts, rows

    def row(self, epoch, number):
        """Return the indices of the texts in a row.

        Args:
            epoch: int, from 0.
            number: int, the index of the row within the epoch, from 0.

        Returns:
            int [number of texts in the row].
        """
        texts, rows = self._epoch(epoch)
        row = int(rows[number])
        group = int(np.searchsorted(self._edges, row, side="right")) - 1
        return texts[self._places[group] + (row - self._edges[group])]

    def numbers(self, step, batch_size):
        """Return the index within its epoch of each row of a batch, int64 [batch_size]; -1 for padding rows."""
        first = step % -(-self.rows // batch_size) * batch_size
        numbers = np.arange(first, first + batch_size)
        return np.where(numbers < self.rows, numbers, -1)

    def batch(self, step, batch_size):
        """Return the indices of the texts in each row of a batch, without padding rows: list of int arrays."""
        epoch = step // -(-self.rows // batch_size)
        return [self.row(epoch, number) for number in self.numbers(step, batch_size) if number >= 0]


class PackedBatches(Batches):
    """Batch packed rows, in which each text has its own special tokens and attends only to itself.

    Texts longer than a row are split into full rows and a remainder. Every row has max_length tokens and, thanks to
    `PackPlan`, hardly any padding. In addition to its tokens, each text takes about 20 bytes of memory.

    Args:
        encoded: EncodedTexts whose `starts` are ascending.
        tokenizer: Tokenizer, provides the special tokens.
        batch_size: int, the number of rows per batch.
        max_length: int, the number of tokens per row.
        seed, shuffle: see `TextBatches`.

    Attributes:
        padding: float, the fraction of padding tokens, not counting the empty rows that fill up the last batch.

    Raises:
        DataError: if there are no tokens.
    """

    def __init__(self, encoded, tokenizer, batch_size, max_length, seed, shuffle):
        self.tokenizer = tokenizer
        self.batch_size, self.max_length = batch_size, max_length
        self.tokens, self.texts = encoded.tokens, encoded.starts
        self.starts, lengths = split_whole(encoded, tokenizer.room(max_length, 1), max_length)
        if not len(lengths):
            raise DataError("no text: at least one token is required")
        self.plan = PackPlan(lengths, max_length, seed if shuffle else None)
        self.padding = self.plan.padding
        self.batches_per_epoch = -(-self.plan.rows // batch_size)

    def rows(self, step):
        """Return the index of each row within the epoch, int64 [B]; -1 for padding rows."""
        return self.plan.numbers(step, self.batch_size)

    def notes(self, source, max_length):
        return [f"{source.name}: packed into {self.plan.rows:,} rows of {max_length} tokens, "
                f"{self.padding:.2%} padding"]

    def examples(self, step):
        """Return the indices (from 0) of the texts in a step's batch, ascending, int64."""
        starts = self.starts[np.concatenate(self.plan.batch(step, self.batch_size))]
        return np.unique(np.searchsorted(self.texts, starts, side="right") - 1)

    def batch(self, step):
        """Return the model inputs for a step.

        Returns:
            dict of int32 [B, T]: `token_ids`; `padding_mask`; `document_ids`, which number the texts in each row from 1
            (0 for padding); and `position_ids`, which restart at 0 in each text.
        """
        rows = self.plan.batch(step, self.batch_size)
        pieces, counts = np.concatenate(rows), np.array([len(row) for row in rows])
        lengths = self.plan.lengths[pieces].astype(np.int64)
        row, first = np.repeat(np.arange(len(rows)), counts), np.cumsum(counts) - counts
        before = np.cumsum(lengths) - lengths  # the number of tokens in all preceding pieces
        begins = row * self.max_length + before - before[first][row]  # the start of each piece in the flat batch
        position = np.arange(lengths.sum()) - np.repeat(before, lengths)
        places = np.repeat(begins, lengths) + position
        prefix, _, suffix = (np.array(ids, np.int64) for ids in self.tokenizer.around)
        place = position - len(prefix)  # the index of each token within its text
        size = np.repeat(lengths - len(prefix) - len(suffix), lengths)
        is_prefix, is_suffix = place < 0, place >= size
        tokens = np.empty_like(place)
        tokens[is_prefix], tokens[is_suffix] = prefix[position[is_prefix]], suffix[(place - size)[is_suffix]]
        is_text = ~is_prefix & ~is_suffix
        tokens[is_text] = self.tokens[(np.repeat(self.starts[pieces], lengths) + place)[is_text]]
        values = {"token_ids": tokens, "padding_mask": 1, "position_ids": position,
                  "document_ids": np.repeat(np.arange(len(pieces)) - first[row] + 1, lengths)}
        batch = {key: np.full((self.batch_size, self.max_length), self.tokenizer.pad_id if key == "token_ids" else 0,
                              np.int32) for key in values}
        for key, value in values.items():
            batch[key].flat[places] = value
        return batch
