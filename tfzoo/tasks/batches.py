"""Features of the tasks: batches of encoded texts, each a pure function of the seed and the step."""
import numpy as np

from tfzoo.data.masking import mask_tokens, step_generator
from tfzoo.data.plan import BatchPlan
from tfzoo.errors import ConfigError, DataError
from tfzoo.text.tokenizer import keep_of_pair


class TextBatches:
    """Batches of encoded texts [start] a [end] (b [end]), padded to few lengths.

    Args:
        encoded: tuple of EncodedTexts, one for each text of an example.
        tokenizer: of the special tokens.
        labels: int [N] or None for masked language modelling.
        batch_size, max_length: int.
        seed: int, of order and masks; evaluation uses the same for its masks.
        shuffle: bool, False keeps the order within a bucket.
        whole_word: bool, see mask_tokens.
        pair_labels: int [N], with masked language modelling of pairs: 1 where the second text is from elsewhere.
    """

    raw_bytes = None

    def __init__(self, encoded, tokenizer, labels, batch_size, max_length, seed, shuffle, whole_word=False,
                 pair_labels=None):
        self.encoded, self.tokenizer, self.labels, self.pair_labels = encoded, tokenizer, labels, pair_labels
        self.seed, self.whole_word, self.batch_size = seed, whole_word, batch_size
        specials = 1 + len(encoded)
        if max_length <= specials:
            raise ConfigError(f"max_length is {max_length}: allowed is more than {specials}, the special tokens")
        if not len(encoded[0]):
            raise DataError("no examples: allowed is one or more")
        self.max_length, self.specials = max_length, specials
        lengths = sum(part.lengths for part in encoded) + specials
        self.cut = int((lengths > max_length).sum())
        self.plan = BatchPlan(lengths, batch_size, max_length, seed if shuffle else None)

    @property
    def batches_per_epoch(self):
        return self.plan.batches_per_epoch

    def examples(self, step):
        """Return the numbers of the examples in the batch of a step, counted from 0: int64 [at most B]."""
        rows = self.plan.batch(step)[1]
        return rows[rows >= 0]

    def row(self, index):
        """Return (token ids, segment ids) of an example, cut longest first to max_length: lists of int."""
        parts = [part[index] for part in self.encoded]
        room = self.max_length - self.specials
        keep = [room] if len(parts) == 1 else keep_of_pair(len(parts[0]), len(parts[1]), room)
        parts = [part[:int(size)] for part, size in zip(parts, keep)]
        tokens, segments = [self.tokenizer.start_id], [0]
        for number, part in enumerate(parts):
            tokens += [*part, self.tokenizer.end_id]
            segments += [number] * (len(part) + 1)
        return tokens, segments

    def batch(self, step):
        """Return the batch of a step counted from 0 over all epochs: dict of NumPy arrays with B rows."""
        length, rows = self.plan.batch(step)
        token_ids = np.full((len(rows), length), self.tokenizer.pad_id, np.int32)
        segment_ids, padding_mask = np.zeros_like(token_ids), np.zeros_like(token_ids)
        for number, index in enumerate(rows):
            if index >= 0:
                tokens, segments = self.row(index)
                token_ids[number, :len(tokens)] = tokens
                segment_ids[number, :len(tokens)] = segments
                padding_mask[number, :len(tokens)] = 1
        batch = {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids}
        if self.labels is None:
            maskable = (padding_mask > 0) & ~np.isin(token_ids, self.tokenizer.special_ids)
            masked = mask_tokens(token_ids, maskable, self.tokenizer, step_generator(self.seed, step), self.whole_word)
            return {**batch, **masked, **self._pairs(rows, masked["weights"])}
        real = rows >= 0
        return {**batch, "labels": np.where(real, self.labels[rows], 0).astype(np.int32),
                "weights": real.astype(np.float32)}

    def _pairs(self, rows, weights):
        """Return labels and weights of the pairs: all together they weigh as much as the hidden tokens (BERT's sum)."""
        if self.pair_labels is None:
            return {}
        real = rows >= 0
        weight = weights.sum() / max(1, real.sum())
        return {"pair_labels": np.where(real, self.pair_labels[rows], 0).astype(np.int32),
                "pair_weights": np.where(real, weight, 0).astype(np.float32)}


class StreamBatches:
    """Windows of one stream of tokens for a causal language model; each token is a target once an epoch.

    The first token of the stream is predicted from the end token, which also separates documents. In training the
    windows begin at another place in each epoch and the stream is a circle; evaluation cuts it from its beginning.

    Args:
        encoded: EncodedTexts, the documents.
        tokenizer: of the end token.
        batch_size, max_length: int, rows and width of a batch.
        seed: int or None, None for evaluation.
        raw_bytes: int, UTF-8 bytes that the texts spell, or None.
    """

    cut = 0

    def __init__(self, encoded, tokenizer, batch_size, max_length, seed, raw_bytes=None):
        self.raw_bytes = raw_bytes
        ends = encoded.ends[:-1]
        self.stream = np.insert(encoded.tokens, ends, tokenizer.end_id).astype(np.int32)
        if not len(self.stream):
            raise DataError("no text: allowed is one character or more")
        self.end_id, self.batch_size, self.length, self.seed = tokenizer.end_id, batch_size, max_length, seed
        self.windows = -(-len(self.stream) // max_length)
        self.batches_per_epoch = -(-self.windows // batch_size)

    def _windows(self, step):
        """Return (windows of the batch of a step, where the epoch begins in the stream)."""
        epoch, index = divmod(step, self.batches_per_epoch)
        shift, order = 0, np.arange(self.windows)
        if self.seed is not None:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            shift, order = int(rng.integers(len(self.stream))), rng.permutation(self.windows)
        return order[index * self.batch_size:(index + 1) * self.batch_size], shift

    def examples(self, step):
        """Return where the windows of the batch of a step begin in the stream of tokens: int64 [at most B]."""
        rows, shift = self._windows(step)
        return (rows * self.length + shift) % len(self.stream)

    def batch(self, step):
        """Return the batch of a step: dict of NumPy arrays; weights are 0 beyond the end of the epoch."""
        (rows, shift), count = self._windows(step), len(self.stream)
        places = np.full((self.batch_size, self.length), count)
        places[:len(rows)] = rows[:, None] * self.length + np.arange(self.length)
        real = places < count
        targets = np.where(real, (places + shift) % count, 0)
        before = np.where(targets == 0, self.end_id, self.stream[targets - 1])
        return {"token_ids": np.where(real, before, self.end_id).astype(np.int32),
                "padding_mask": real.astype(np.int32), "labels": self.stream[targets],
                "weights": real.astype(np.float32)}
