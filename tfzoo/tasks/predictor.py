"""Predict answers for rows of data, with the same features and predictions as in evaluation."""
import functools

import numpy as np
import tensorflow as tf

from tfzoo.data.loader import prefetch
from tfzoo.errors import ConfigError, DataError, shown
from tfzoo.layers import context
from tfzoo.text.tokenizer import list_of

MULTIPLE = 16  # padded lengths are multiples of this, so that few shapes are traced
TOGETHER = 32  # batches whose rows are sorted by length together
WINDOWS = 32  # the number of windows per batch, if a few texts have many


class Predictor:
    """Predict answers for rows with a task model.

    Args:
        model: TaskModel with a task.
        tokenizer: Tokenizer.
        max_length: int, maximum number of tokens per row.
        xla: bool, compile with XLA.
        batch_size: int, the maximum number of rows per batch; None for no limit.

    Attributes:
        cut: int, the number of texts truncated to max_length so far.
        split, windows: int, the number of texts split into windows so far, and the number of their windows.
    """

    def __init__(self, model, tokenizer, max_length, xla=False, batch_size=None):
        self.model, self.task, self.tokenizer, self.max_length, self.cut = model, model.task, tokenizer, max_length, 0
        self.batch_size, self.split, self.windows, self._xla = batch_size, 0, 0, xla
        # One trace per shape: with unknown lengths, long texts would lose blockwise attention.
        self._run = tf.function(self._predict, jit_compile=xla, autograph=False)

    def _predict(self, batch):
        with context.changed(compiled=self._xla):
            return self.task.predict(self.model, batch, self.model(batch, training=False))

    def _batches(self, rows):
        source, size = self.task.read(rows), min(len(rows), self.batch_size or len(rows))
        make = functools.partial(self.task.features, source, self.tokenizer, max_length=self.max_length,
                                 training=False, multiple=MULTIPLE)
        data = make(batch_size=size)
        count = 0 if data.windows is None else int(data.windows.sum())
        more = min(self.batch_size or WINDOWS, 2 ** (count - 1).bit_length())  # a power of 2, for few shapes
        return make(batch_size=more) if count > size and more > size else data

    def __call__(self, rows):
        """Return one answer per row.

        Args:
            rows: list of dict with the columns of the task: text, and text_pair if the task is paired; for tagging,
                tokens or text.

        Returns:
            list of dict, one per row (see the task's `answers`).

        Raises:
            DataError: if a required column is missing, or the rows have different columns.
            ConfigError: if `rows` is not a list of dict.
        """
        rows = list_of(rows, "rows", "dict")
        for row in rows:
            if not isinstance(row, dict):
                raise ConfigError(f"rows must be a list of dict, but contains {shown(row)}")
        if not rows:
            return []
        data = self._batches(rows)
        self.cut += data.cut
        if data.windows is not None:
            self.split += int((data.windows > 1).sum())
            self.windows += int(data.windows[data.windows > 1].sum())
        found, numbers = [], []
        for step, (batch, _) in enumerate(prefetch(data.batch, range(data.batches_per_epoch))):
            batch = {key: tf.constant(value) for key, value in batch.items()}
            found.append({key: value.numpy() for key, value in self._run(batch).items()})
            numbers.append(data.rows(step))
        return self.task.answers(in_order(found, numbers), data)


def texts_of(predictions, batches):
    """Return the generated texts of a task's predictions.

    Args:
        predictions: dict of arrays: `token_ids` int32 [N, T], and `length` int32 [N], the number of tokens before the
            end (see `decode_answers`).
        batches: Batches with a `tokenizer`.

    Returns:
        list of N str.

    Raises:
        DataError: in prediction, if the model's outputs are NaN.
    """
    rows = [row[:length] for row, length in zip(predictions["token_ids"], predictions["length"])]
    if any((row < 0).any() for row in rows):
        if batches.references is None:
            raise DataError("the model's outputs are NaN: its training diverged or its weights are damaged; use a "
                            "different model")
        rows = [row[:0] if (row < 0).any() else row for row in rows]  # the evaluation loss is NaN as well
    return batches.tokenizer.decode(rows)


def in_order(predictions, rows):
    """Concatenate predictions from several batches in the order of the examples, without padding rows.

    Args:
        predictions: list of dict of arrays [B, ...], one per batch; widths may differ between batches.
        rows: list of int arrays [B] (see `Batches.rows`).

    Returns:
        dict of arrays [N, ...]; narrower arrays are padded with 0.
    """
    rows = np.concatenate(rows)
    order = np.argsort(rows, kind="stable")
    order = order[rows[order] >= 0]
    joined = {}
    for key in predictions[0]:
        parts = [each[key] for each in predictions]
        widest = np.max([part.shape[1:] for part in parts], axis=0)
        parts = [np.pad(part, [(0, 0), *((0, most - size) for most, size in zip(widest, part.shape[1:]))])
                 for part in parts]
        joined[key] = np.concatenate(parts)[order]
    return joined
