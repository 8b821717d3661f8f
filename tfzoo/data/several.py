"""Batches of rows that have several texts each, such as an anchor, a positive and negatives."""
import numpy as np

from tfzoo.data.batches import Batches, TextBatches
from tfzoo.data.plan import BatchPlan


class SeveralTexts(Batches):
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
        room, self.batch_size, known = tokenizer.room(max_length, 1), batch_size, {}
        same = np.array([known.setdefault(np.asarray(encoded[index][:room]).tobytes(), index)
                         for index in range(len(encoded))])
        self.cut, self.count = int((encoded.lengths > room).sum()), len(encoded)
        self._numbers, self.texts = numbers, np.where(numbers < 0, -1, same[numbers])
        lengths = np.maximum(np.where(numbers < 0, 0, encoded.lengths[numbers]).max(1) + max_length - room, 1)
        self.plan = BatchPlan(lengths, batch_size=batch_size, max_length=max_length, seed=seed if shuffle else None,
                              multiple=multiple)
        self.batches_per_epoch = self.plan.batches_per_epoch

    def rows(self, step):
        return self.plan.batch(step)[1]

    def batch(self, step):
        """Return a batch: int32 model inputs [B, N, T], and `texts`, int32 [B, N] (see the class; -1: no text)."""
        length, rows = self.plan.batch(step)
        numbers = np.where(rows[:, None] < 0, -1, self._numbers[rows])
        more = int((numbers >= 0).any(0).sum()) - self.fixed
        width = min(self.fixed + (1 << max(more - 1, 0).bit_length() if more > 0 else 0), numbers.shape[1])
        numbers = numbers[:, :width]
        token_ids = np.full((*numbers.shape, length), self.tokenizer.pad_id, np.int32)
        segment_ids, padding_mask = np.zeros_like(token_ids), np.zeros_like(token_ids)
        for place in zip(*np.nonzero(numbers >= 0)):
            tokens, segments = self.tokenizer.join_row([self.encoded[numbers[place]]], self.max_length)
            token_ids[place][:len(tokens)], segment_ids[place][:len(tokens)] = tokens, segments
            padding_mask[place][:len(tokens)] = 1
        texts = np.where(rows[:, None] < 0, -1, self.texts[rows])[:, :width].astype(np.int32)
        return {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids, "texts": texts}

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
        token_ids = np.full((len(rows), self.sizes.max(), length), self.tokenizer.pad_id, np.int32)
        segment_ids, padding_mask = np.zeros_like(token_ids), np.zeros_like(token_ids)
        for number, index in enumerate(rows):
            for place in range(self.sizes[index] if index >= 0 else 0):
                tokens, segments = self.row(self.first[index] + place)
                token_ids[number, place, :len(tokens)] = tokens
                segment_ids[number, place, :len(tokens)] = segments
                padding_mask[number, place, :len(tokens)] = 1
        return {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids}
