"""Batches for causal language models: windows of a single stream of tokens."""
import numpy as np

from tfzoo.data.batches import Batches
from tfzoo.errors import DataError


class StreamBatches(Batches):
    """Batch fixed-length windows of a token stream for a causal language model; each token is a target once per epoch.

    `Tokenizer.separator` joins the documents: an end token, followed by the start token if the model uses one (such as
    Llama's <s>). The first token of the stream is predicted from the last token of the separator. In training, the
    stream is circular and windows start at a different offset in each epoch; in evaluation, they start at the
    beginning. Only the start position of each document is held in memory; the tokens are read in place.

    Args:
        encoded: EncodedTexts, the documents.
        tokenizer: Tokenizer, provides the special tokens.
        batch_size: int, the number of rows per batch.
        max_length: int, the number of tokens per row.
        seed: int, the shuffle seed; None for evaluation.
        raw_bytes: int, the number of UTF-8 bytes in the texts, or None; stored in `references`.

    Raises:
        DataError: if there are no tokens.
    """

    def __init__(self, encoded, tokenizer, batch_size, max_length, seed, raw_bytes=None):
        self.encoded, self.tokens, self.references, self.end_id = encoded, encoded.tokens, raw_bytes, tokenizer.end_id
        self.separator = np.array(tokenizer.separator, np.int32)
        lengths = encoded.lengths
        if not lengths.any():
            raise DataError("no text: at least one token is required")
        lengths += len(self.separator)  # the separator follows each document except the last
        self.firsts = np.zeros(len(lengths), np.int64)  # the start of each document in the stream
        np.cumsum(lengths[:-1], out=self.firsts[1:])
        self.size = int(self.firsts[-1] + lengths[-1]) - len(self.separator)
        self.batch_size, self.length, self.seed = batch_size, max_length, seed
        self.windows = -(-self.size // max_length)
        self.batches_per_epoch = -(-self.windows // batch_size)
        self._kept = (None, None, None)

    def _epoch(self, epoch):
        # The epoch's offset in the stream, and the order of its windows.
        kept = self._kept  # read only once, as other threads may request other epochs
        if kept[0] == epoch:
            return kept[1:]
        shift, order = 0, np.arange(self.windows, dtype=np.min_scalar_type(self.windows))
        if self.seed is not None:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            shift = int(rng.integers(self.size))
            rng.shuffle(order)
        self._kept = epoch, shift, order
        return shift, order

    def _windows(self, step):
        # The windows in a batch, int64 [at most B], and the epoch's offset in the stream.
        epoch, index = divmod(step, self.batches_per_epoch)
        shift, order = self._epoch(epoch)
        return order[index * self.batch_size:(index + 1) * self.batch_size].astype(np.int64), shift

    def _tokens(self, places):
        # Position -1 holds the last token of the separator, from which the first token is predicted.
        document = np.maximum(np.searchsorted(self.firsts, places, side="right") - 1, 0)
        start, end = self.encoded.starts[document], self.encoded.ends[document]
        place = start + places - self.firsts[document]
        inside = (places >= 0) & (place < end)
        tokens = self.separator[np.where(places < 0, -1, np.clip(place - end, 0, len(self.separator) - 1))]
        tokens[inside] = self.tokens[place[inside]]
        return tokens

    def rows(self, step):
        """Return the index of each row's window within the epoch, int64 [B]; -1 for padding rows."""
        windows = self._windows(step)[0]
        return np.pad(windows, (0, self.batch_size - len(windows)), constant_values=-1)

    def examples(self, step):
        rows, shift = self._windows(step)
        places = rows[:, None] * self.length + np.arange(self.length)
        places = (places[places < self.size] + shift) % self.size
        return np.unique(np.searchsorted(self.firsts, places, side="right") - 1)

    def batch(self, step):
        """Return the batch for a step.

        Returns:
            dict: `token_ids`, `padding_mask` and `labels`, int32 [B, T]; and `weights`, float32 [B, T], 0 for positions
            beyond the end of the epoch and 1 for all others.
        """
        rows, shift = self._windows(step)
        places = np.full((self.batch_size, self.length), self.size)
        places[:len(rows)] = rows[:, None] * self.length + np.arange(self.length)
        real = places < self.size
        targets = np.where(real, (places + shift) % self.size, 0)
        return {"token_ids": np.where(real, self._tokens(targets - 1), self.end_id).astype(np.int32),
                "padding_mask": real.astype(np.int32), "labels": self._tokens(targets),
                "weights": real.astype(np.float32)}
