"""Batches of rows that have several texts each, such as an anchor, a positive and negatives."""
import numpy as np

from tfzoo.data.batches import Planned, TextBatches
from tfzoo.records.rows import filled


class SeveralTexts(Planned):
    """Batch rows of several texts as [B, N, T], padding each batch to one of a few lengths and numbers of texts.

    A batch has as many texts per row as its fullest row; beyond `fixed`, their number is rounded up to a power of two,
    so that there are few shapes.

    Args:
        encoded: EncodedTexts, the texts of all rows; a text that occurs in several rows need only occur once.
        numbers: int [rows, N], the index of each text in `encoded`; -1 for none.
        tokenizer: Tokenizer, provides the special tokens.
        fixed: int, the number of texts that each row has.
        batch_size, max_length, seed, shuffle, multiple: see `TextBatches`.

    Attributes:
        texts: int [rows, N], like `numbers`, but equal for texts whose tokens are equal after truncation.
    """

    def __init__(self, encoded, numbers, tokenizer, fixed, batch_size, max_length, seed, shuffle, multiple=8):
        self.encoded, self.tokenizer, self.fixed, self.max_length = encoded, tokenizer, fixed, max_length
        room, known = tokenizer.room(max_length, 1), {}
        same = np.array([known.setdefault(np.asarray(encoded[index][:room]).tobytes(), index)
                         for index in range(len(encoded))])
        self.cut, self.count = int((encoded.lengths > room).sum()), len(encoded)
        self._numbers, self.texts = numbers, np.where(numbers < 0, -1, same[numbers])
        lengths = np.maximum(np.where(numbers < 0, 0, encoded.lengths[numbers]).max(1) + max_length - room, 1)
        super().__init__(lengths, batch_size, max_length, seed, shuffle, multiple)

    def batch(self, step):
        """Return a batch: int32 model inputs [B, N, T], and `texts`, int32 [B, N] (see the class; -1: no text)."""
        length, rows = self.plan.batch(step)
        numbers = np.where(rows[:, None] < 0, -1, self._numbers[rows])
        more = int((numbers >= 0).any(0).sum()) - self.fixed
        width = min(self.fixed + (1 << max(more - 1, 0).bit_length() if more > 0 else 0), numbers.shape[1])
        numbers = numbers[:, :width]
        inputs = filled((*numbers.shape, length), (
            (place, self.tokenizer.join_row([self.encoded[numbers[place]]], self.max_length))
            for place in zip(*np.nonzero(numbers >= 0))), self.tokenizer.pad_id)
        texts = np.where(rows[:, None] < 0, -1, self.texts[rows])[:, :width].astype(np.int32)
        return {**inputs, "texts": texts}

    def notes(self, source, max_length):
        """Return notes for the user (see Batches)."""
        return [f"{source.name}: {self.cut:,} of {self.count:,} different texts were truncated to {max_length} "
                "tokens"] if self.cut else []


class GroupedBatches(TextBatches):
    """Batch rows that have several texts each, for example the choices of a question.

    Args:
        encoded: tuple of EncodedTexts, as for TextBatches; the texts of a row follow each other.
        sizes: int [N], the number of texts of each row, at least 1.
        others: see TextBatches.
    """

    def __init__(self, encoded, tokenizer, sizes, **others):
        self.sizes = np.asarray(sizes)
        self.first = np.cumsum(self.sizes) - self.sizes
        super().__init__(encoded, tokenizer, **others)

    def _lengths_of_rows(self, lengths):
        return np.maximum.reduceat(lengths, self.first)

    def batch(self, step):
        """Return the model inputs for a step: dict of int32 [B, N, T]; texts that a row lacks are wholly masked."""
        length, rows = self.plan.batch(step)
        return filled((len(rows), self.sizes.max(), length), (
            ((number, place), self.row(self.first[index] + place)) for number, index in enumerate(rows) if index >= 0
            for place in range(self.sizes[index])), self.tokenizer.pad_id)
