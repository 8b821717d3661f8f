"""A corpus as one stream of tokens, cut into windows, for causal language models."""
import numpy as np

from tfzoo.data.batches import Batches
from tfzoo.errors import DataError


class StreamBatches(Batches):
    """Windows of one stream of tokens for a causal language model; each token is a target once an epoch.

    `Tokenizer.separator` stands between documents: an end token and what opens a text (Llama's <s>); the first
    token of the stream is predicted from the last of these. In training the windows begin at another place in each
    epoch and the stream is a circle; evaluation cuts it from its beginning.
    Of the stream nothing is held but where each document begins: windows are read where the documents' tokens lie.

    Args:
        encoded: EncodedTexts, the documents.
        tokenizer: of the special tokens.
        batch_size, max_length: int, rows and width of a batch.
        seed: int or None, None for evaluation.
        raw_bytes: int, UTF-8 bytes that the texts spell, or None; these are the references.
    """

    def __init__(self, encoded, tokenizer, batch_size, max_length, seed, raw_bytes=None):
        self.encoded, self.tokens, self.references, self.end_id = encoded, encoded.tokens, raw_bytes, tokenizer.end_id
        self.separator = np.array(tokenizer.separator, np.int32)
        lengths = encoded.lengths
        if not lengths.any():
            raise DataError("no text: allowed is one token or more")
        lengths += len(self.separator)  # which follows each document but the last
        self.firsts = np.zeros(len(lengths), np.int64)  # where each document begins in the stream
        np.cumsum(lengths[:-1], out=self.firsts[1:])
        self.size = int(self.firsts[-1] + lengths[-1]) - len(self.separator)
        self.batch_size, self.length, self.seed = batch_size, max_length, seed
        self.windows = -(-self.size // max_length)
        self.batches_per_epoch = -(-self.windows // batch_size)
        self._kept = (None, None, None)

    def _epoch(self, epoch):
        """Return (where the epoch begins in the stream, its windows in order)."""
        kept = self._kept  # one value, so that threads may ask for different epochs
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
        """Return (windows of the batch of a step: int64 [at most B], where the epoch begins in the stream)."""
        epoch, index = divmod(step, self.batches_per_epoch)
        shift, order = self._epoch(epoch)
        return order[index * self.batch_size:(index + 1) * self.batch_size].astype(np.int64), shift

    def _tokens(self, places):
        """Return the tokens at places of the stream, int32 of their shape; -1 is what its first is predicted from."""
        document = np.maximum(np.searchsorted(self.firsts, places, side="right") - 1, 0)
        start, end = self.encoded.starts[document], self.encoded.ends[document]
        place = start + places - self.firsts[document]
        inside = (places >= 0) & (place < end)
        tokens = self.separator[np.where(places < 0, -1, np.clip(place - end, 0, len(self.separator) - 1))]
        tokens[inside] = self.tokens[place[inside]]
        return tokens

    def rows(self, step):
        """Return the number of each row's window in its epoch, int64 [B]; -1 is padding."""
        windows = self._windows(step)[0]
        return np.pad(windows, (0, self.batch_size - len(windows)), constant_values=-1)

    def examples(self, step):
        rows, shift = self._windows(step)
        places = rows[:, None] * self.length + np.arange(self.length)
        places = (places[places < self.size] + shift) % self.size
        return np.unique(np.searchsorted(self.firsts, places, side="right") - 1)

    def batch(self, step):
        """Return the batch of a step: dict of NumPy arrays; weights are 0 beyond the end of the epoch."""
        rows, shift = self._windows(step)
        places = np.full((self.batch_size, self.length), self.size)
        places[:len(rows)] = rows[:, None] * self.length + np.arange(self.length)
        real = places < self.size
        targets = np.where(real, (places + shift) % self.size, 0)
        return {"token_ids": np.where(real, self._tokens(targets - 1), self.end_id).astype(np.int32),
                "padding_mask": real.astype(np.int32), "labels": self._tokens(targets),
                "weights": real.astype(np.float32)}
