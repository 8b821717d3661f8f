"""The data of a task: batches by step, each a pure function of the seed and the step."""
import numpy as np

from tfzoo.data.plan import BatchPlan
from tfzoo.errors import DataError


class Batches:
    """The contract of a task's data.

    Attributes:
        batch_size: int, B. batches_per_epoch: int.
        cut: int, texts that were cut at max_length.
        references: what the task's metrics need beside sums and answers, see the task; None for nothing.
        numbers: int [N] or None, see Source: those of the texts in the data that they are a part of.
    """

    cut, references, numbers = 0, None, None

    def batch(self, step):
        """Return the batch of a step counted from 0 over all epochs: dict of NumPy arrays, the first axis the row."""
        raise NotImplementedError(f"{type(self).__name__} has no batches")

    def rows(self, step):
        """Return the example of each row, int64 [B]: -1 is padding, the windows of an example share its number."""
        raise NotImplementedError(f"{type(self).__name__} has no rows")

    def examples(self, step):
        """Return which of the source's texts are in the batch of a step, counted from 0: int64."""
        rows = self.rows(step)
        return rows[rows >= 0]

    def notes(self, source, max_length):
        """Return what a user should know of the batches of a source, a line each: list of str."""
        return [f"{source.name}: {self.cut:,} of {len(source):,} texts were cut at {max_length} tokens"] \
            if self.cut else []


class Derived(Batches):
    """Batches with more in them.

    Args:
        base: Batches.
        add: callable (batch, step, rows) -> dict of arrays, what the batch has besides or instead.
        references: see Batches.
    """

    def __init__(self, base, add, references=None):
        self.base, self.add, self.references = base, add, references
        self.batch_size, self.batches_per_epoch, self.cut = base.batch_size, base.batches_per_epoch, base.cut

    def batch(self, step):
        batch = self.base.batch(step)
        return {**batch, **self.add(batch, step, self.base.rows(step))}

    def rows(self, step):
        return self.base.rows(step)

    def examples(self, step):
        return self.base.examples(step)

    def notes(self, source, max_length):
        return self.base.notes(source, max_length)


class TextBatches(Batches):
    """Batches of encoded texts with the tokenizer's special tokens around them, padded to few lengths.

    Args:
        encoded: tuple of EncodedTexts, one for each text of an example.
        tokenizer: of the special tokens.
        batch_size, max_length: int.
        seed: int, of the order.
        shuffle: bool, False keeps the order within a bucket.
        multiple: int, of which the padded lengths are multiples.

    Raises:
        DataError: where there is no example.
    """

    def __init__(self, encoded, tokenizer, batch_size, max_length, seed, shuffle, multiple=8):
        self.encoded, self.tokenizer, self.batch_size = encoded, tokenizer, batch_size
        self.max_length, self.room = max_length, tokenizer.room(max_length, len(encoded))
        if not len(encoded[0]):
            raise DataError("no examples: allowed is one or more")
        lengths = np.maximum(sum(part.lengths for part in encoded) + max_length - self.room, 1)  # see row
        self.cut = int((lengths > max_length).sum())
        self.plan = BatchPlan(lengths, batch_size=batch_size, max_length=max_length, seed=seed if shuffle else None,
                              multiple=multiple)
        self.batches_per_epoch = self.plan.batches_per_epoch

    def rows(self, step):
        return self.plan.batch(step)[1]

    def examples(self, step):
        rows = super().examples(step)
        parts = [part.origin[rows] for part in self.encoded if part.origin is not None]
        return np.unique(np.concatenate(parts)) if parts else rows

    def row(self, index):
        """Return (token ids, segment ids) of an example, cut longest first to max_length: lists of int.

        One without any token, special ones included, is a padding token that the model sees: with nothing to see, its
        answer would depend on how far the others are padded.
        """
        tokens, segments = self.tokenizer.join_row([part[index] for part in self.encoded], self.max_length)
        return (tokens, segments) if tokens else ([self.tokenizer.pad_id], [0])

    def batch(self, step):
        """Return the inputs of a step: dict of int32 [B, T]."""
        length, rows = self.plan.batch(step)
        token_ids = np.full((len(rows), length), self.tokenizer.pad_id, np.int32)
        segment_ids, padding_mask = np.zeros_like(token_ids), np.zeros_like(token_ids)
        for number, index in enumerate(rows):
            if index >= 0:
                tokens, segments = self.row(index)
                token_ids[number, :len(tokens)] = tokens
                segment_ids[number, :len(tokens)] = segments
                padding_mask[number, :len(tokens)] = 1
        return {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids}
