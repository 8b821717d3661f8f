"""Batches for training and evaluation, each a pure function of the seed and the step."""
import numpy as np

from tfzoo.data.encode import EncodedTexts
from tfzoo.data.plan import BatchPlan
from tfzoo.errors import ConfigError, DataError
from tfzoo.records.rows import filled
from tfzoo.records.windows import cut_windows


class Batches:
    """The interface for a task's data.

    Attributes:
        batch_size: int, B, the number of rows per batch.
        batches_per_epoch: int.
        cut: int, the number of texts truncated to max_length.
        references: additional data for the task's metrics, as documented by the task; None if the metrics only use sums
            and answers.
        numbers: int [N], the indices of the examples in the original data set (see `Source`); None if this is the
            original.
        windows: int [N], the number of windows of each example; None if each example is one row.
    """

    cut, references, numbers, windows = 0, None, None, None

    def batch(self, step):
        """Return the batch for a step, counted from 0 across all epochs: dict of NumPy arrays [B, ...]."""
        raise NotImplementedError(f"{type(self).__name__} must implement batch")

    def rows(self, step):
        """Return each row's example index, int64 [B]: -1 for padding; all windows of an example share its index."""
        raise NotImplementedError(f"{type(self).__name__} must implement rows")

    def examples(self, step):
        """Return the indices (from 0) of the source's texts that occur in a step's batch, int64."""
        rows = self.rows(step)
        return rows[rows >= 0]

    def notes(self, source, max_length):
        """Return messages to the user about the batches made from a source: list of str, one line each."""
        return [f"{source.name}: {self.cut:,} of {len(source):,} texts were truncated to {max_length} tokens"] \
            if self.cut else []


class Derived(Batches):
    """Wrap other batches, adding or replacing entries.

    Args:
        base: Batches, the original batches.
        add: callable that maps (batch, step, rows) to a dict of arrays to add to the batch. An array replaces an entry
            with the same key.
        references: see `Batches`.
        owners: int array, the example of each row of the original batches, if these are windows; None: they are
            examples.
    """

    def __init__(self, base, add, references=None, owners=None):
        self.base, self.add, self.references, self.owners = base, add, references, owners
        self.batch_size, self.batches_per_epoch, self.cut = base.batch_size, base.batches_per_epoch, base.cut
        self.windows = base.windows

    def batch(self, step):
        batch = self.base.batch(step)
        return {**batch, **self.add(batch, step, self.base.rows(step))}

    def rows(self, step):
        rows = self.base.rows(step)
        return rows if self.owners is None else np.where(rows < 0, -1, self.owners[rows])

    def examples(self, step):
        return self.base.examples(step)

    def notes(self, source, max_length):
        return self.base.notes(source, max_length)


class Planned(Batches):
    """Base class of Batches in which each row is an example and the rows of a batch have similar lengths.

    Args:
        lengths: int [N], the number of tokens in each example.
        batch_size: int, the number of rows per batch, or a callable (see `BatchPlan`).
        max_length, seed, shuffle, multiple: see `TextBatches`.
    """

    def __init__(self, lengths, batch_size, max_length, seed, shuffle, multiple=8):
        self.batch_size = batch_size
        self.plan = BatchPlan(lengths, batch_size=batch_size, max_length=max_length, seed=seed if shuffle else None,
                              multiple=multiple)
        self.batches_per_epoch = self.plan.batches_per_epoch

    def rows(self, step):
        return self.plan.batch(step)[1]


class TextBatches(Planned):
    """Batch encoded texts with their special tokens, padding each batch to one of a few lengths.

    Args:
        encoded: tuple of one EncodedTexts for single texts, or two for text pairs.
        tokenizer: Tokenizer, provides the special tokens.
        batch_size: int, the number of rows per batch.
        max_length: int, the maximum number of tokens per row.
        seed: int, the shuffle seed.
        shuffle: bool, whether to shuffle; False keeps the order within each bucket.
        multiple: int, every padded length except max_length is a multiple of this number.

    Raises:
        DataError: if there are no examples.
    """

    def __init__(self, encoded, tokenizer, batch_size, max_length, seed, shuffle, multiple=8):
        self.encoded, self.tokenizer, self.max_length = encoded, tokenizer, max_length
        self.room = tokenizer.room(max_length, len(encoded))
        if not len(encoded[0]):
            raise DataError("no examples: at least one is required")
        lengths = np.maximum(sum(part.lengths for part in encoded) + max_length - self.room, 1)  # see row
        lengths = self._lengths_of_rows(lengths)
        self.cut = int((lengths > max_length).sum())
        super().__init__(lengths, batch_size, max_length, seed, shuffle, multiple)

    def _lengths_of_rows(self, lengths):
        return lengths

    def examples(self, step):
        rows = super().examples(step)
        parts = [part.origin[rows] for part in self.encoded if part.origin is not None]
        return np.unique(np.concatenate(parts)) if parts else rows

    def row(self, index):
        """Return the token ids and segment ids of an example, two lists of int, truncated to max_length.

        For pairs, the longer text is truncated first. An example without any tokens, not even special ones, becomes a
        single unmasked padding token: if the whole row were masked, the model's output would depend on the padded
        length of the batch.
        """
        tokens, segments = self.tokenizer.join_row([part[index] for part in self.encoded], self.max_length)
        return (tokens, segments) if tokens else ([self.tokenizer.pad_id], [0])

    def batch(self, step):
        """Return the model inputs for a step: dict of int32 [B, T]."""
        length, rows = self.plan.batch(step)
        return filled((len(rows), length), ((number, self.row(index)) for number, index in enumerate(rows)
                                            if index >= 0), self.tokenizer.pad_id)


def check_overlap(overlap, room, max_length):
    """Raise ConfigError unless windows with room for this many tokens of a text exceed the overlap (int or None)."""
    if overlap is not None and overlap >= room:
        raise ConfigError(f"--overlap={overlap} must be less than {room}, the number of text tokens in a window with "
                          f"--max_length={max_length}: lower it, or raise --max_length")


class TextWindows(TextBatches):
    """Batch texts of any length, each split into overlapping windows; a row is one window.

    Args:
        encoded: EncodedTexts.
        tokenizer, batch_size, max_length, seed, shuffle, multiple: see `TextBatches`; batch_size counts windows.
        overlap: int, the number of tokens that consecutive windows share; None for a quarter of a window.

    Raises:
        ConfigError: if a window has no more tokens than the overlap.
    """

    def __init__(self, encoded, tokenizer, batch_size, max_length, seed, shuffle, multiple=8, overlap=None):
        room = tokenizer.room(max_length, 1)
        check_overlap(overlap, room, max_length)
        parts = [cut_windows(length, room, overlap) for length in encoded.lengths]
        self.windows = np.array([len(each) for each in parts], np.int64)
        origin = np.repeat(np.arange(len(parts)), self.windows)
        edges = np.concatenate([*parts, np.zeros((0, 2), np.int64)]) + encoded.starts[origin, None]
        super().__init__((EncodedTexts(encoded.tokens, *edges.T, origin),), tokenizer, batch_size=batch_size,
                         max_length=max_length, seed=seed, shuffle=shuffle, multiple=multiple)

    def rows(self, step):
        windows = super().rows(step)
        return np.where(windows < 0, -1, self.encoded[0].origin[windows])

    def examples(self, step):
        return np.unique(Batches.examples(self, step))

    def notes(self, source, max_length):
        """Return notes for the user (see Batches)."""
        long = self.windows > 1
        return [f"{source.name}: {long.sum():,} of {len(long):,} texts were split into "
                f"{self.windows[long].sum():,} windows of up to {max_length} tokens"] if long.any() else []
