"""Features of the tasks: batches of encoded texts, each a pure function of the seed and the step."""
import numpy as np

from tfzoo.data.encode import split_whole
from tfzoo.data.masking import mask_tokens, step_generator
from tfzoo.data.packing import PackPlan
from tfzoo.data.plan import BatchPlan
from tfzoo.errors import DataError
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
        self.room = tokenizer.room(max_length, len(encoded))
        if not len(encoded[0]):
            raise DataError("no examples: allowed is one or more")
        lengths = sum(part.lengths for part in encoded) + max_length - self.room
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
        keep = [self.room] if len(parts) == 1 else keep_of_pair(len(parts[0]), len(parts[1]), self.room)
        parts = [part[:int(size)] for part, size in zip(parts, keep)]
        before, between, after = self.tokenizer.around
        tokens, segments = list(before), [0] * len(before)
        for number, part in enumerate(parts):
            ends = between if number + 1 < len(parts) else after
            tokens += [*part, *ends]
            segments += [number] * (len(part) + len(ends))
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


class PackedBatches:
    """Rows of several texts [start] text [end] for masked language modelling; each sees and predicts only itself.

    Texts that are longer than a row are cut into whole rows and a rest. Every row is max_length wide; the rows of an
    epoch are planned by PackPlan, so nearly none of it is padding. In memory are some 20 bytes a text, no tokens.

    Args:
        encoded: EncodedTexts, in the order of their tokens.
        tokenizer: of the special tokens.
        batch_size, max_length: int, rows and width of a batch.
        seed, shuffle, whole_word: see TextBatches.

    Attributes:
        padding: float, the share of an epoch's tokens that is padding (the last batch's empty rows not counted).
    """

    raw_bytes, cut = None, 0

    def __init__(self, encoded, tokenizer, batch_size, max_length, seed, shuffle, whole_word=False):
        self.tokenizer, self.seed, self.whole_word = tokenizer, seed, whole_word
        self.batch_size, self.max_length = batch_size, max_length
        self.tokens, self.texts = encoded.tokens, encoded.starts
        self.starts, lengths = split_whole(encoded, max_length - 2)
        if not len(lengths):
            raise DataError("no text: allowed is one token or more")
        self.plan = PackPlan(lengths, max_length, seed if shuffle else None)
        self.padding = self.plan.padding
        self.batches_per_epoch = -(-self.plan.rows // batch_size)

    def _rows(self, step):
        """Return the pieces of texts in each row of the batch of a step: list of at most B int arrays."""
        epoch, index = divmod(step, self.batches_per_epoch)
        numbers = range(index * self.batch_size, min((index + 1) * self.batch_size, self.plan.rows))
        return [self.plan.row(epoch, number) for number in numbers]

    def examples(self, step):
        """Return the numbers of the texts in the batch of a step, counted from 0, ascending: int64."""
        starts = self.starts[np.concatenate(self._rows(step))]
        return np.unique(np.searchsorted(self.texts, starts, side="right") - 1)

    def batch(self, step):
        """Return the batch of a step: dict of NumPy arrays with B rows.

        Beside what TextBatches gives: document_ids int32 [B, T], the number of each token's text in its row from 1 (0:
        padding), and position_ids int32 [B, T], which begin anew with each text.
        """
        rows = self._rows(step)
        pieces, counts = np.concatenate(rows), np.array([len(row) for row in rows])
        lengths = self.plan.lengths[pieces].astype(np.int64)
        row, first = np.repeat(np.arange(len(rows)), counts), np.cumsum(counts) - counts
        before = np.cumsum(lengths) - lengths  # tokens of the pieces before each one
        begins = row * self.max_length + before - before[first][row]  # where it begins in the flat batch
        position = np.arange(lengths.sum()) - np.repeat(before, lengths)
        places = np.repeat(begins, lengths) + position
        tokens = np.where(position == 0, self.tokenizer.start_id, self.tokenizer.end_id)
        inside = (position > 0) & (position < np.repeat(lengths, lengths) - 1)
        tokens[inside] = self.tokens[(np.repeat(self.starts[pieces], lengths) + position - 1)[inside]]
        values = {"token_ids": tokens, "padding_mask": 1, "position_ids": position,
                  "document_ids": np.repeat(np.arange(len(pieces)) - first[row] + 1, lengths)}
        batch = {key: np.full((self.batch_size, self.max_length), self.tokenizer.pad_id if key == "token_ids" else 0,
                              np.int32) for key in values}
        for key, value in values.items():
            batch[key].flat[places] = value
        maskable = (batch["padding_mask"] > 0) & ~np.isin(batch["token_ids"], self.tokenizer.special_ids)
        return {**batch, **mask_tokens(batch["token_ids"], maskable, self.tokenizer, step_generator(self.seed, step),
                                       self.whole_word)}


class StreamBatches:
    """Windows of one stream of tokens for a causal language model; each token is a target once an epoch.

    The first token of the stream is predicted from the end token, which also separates documents. In training the
    windows begin at another place in each epoch and the stream is a circle; evaluation cuts it from its beginning.
    Of the stream nothing is held but where each document begins: windows are read where the documents' tokens lie.

    Args:
        encoded: EncodedTexts, the documents.
        tokenizer: of the end token.
        batch_size, max_length: int, rows and width of a batch.
        seed: int or None, None for evaluation.
        raw_bytes: int, UTF-8 bytes that the texts spell, or None.
    """

    cut = 0

    def __init__(self, encoded, tokenizer, batch_size, max_length, seed, raw_bytes=None):
        self.encoded, self.tokens, self.raw_bytes, self.end_id = encoded, encoded.tokens, raw_bytes, tokenizer.end_id
        lengths = encoded.lengths
        if not lengths.any():
            raise DataError("no text: allowed is one token or more")
        lengths += 1  # an end token follows each document but the last
        self.firsts = np.zeros(len(lengths), np.int64)  # where each document begins in the stream
        np.cumsum(lengths[:-1], out=self.firsts[1:])
        self.size = int(self.firsts[-1] + lengths[-1]) - 1
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
        """Return the tokens at places of the stream, int32 of their shape; -1 is the end token before its first."""
        document = np.maximum(np.searchsorted(self.firsts, places, side="right") - 1, 0)
        start, end = self.encoded.starts[document], self.encoded.ends[document]
        place = start + places - self.firsts[document]
        inside = (places >= 0) & (place < end)
        tokens = np.full(places.shape, self.end_id, np.int32)
        tokens[inside] = self.tokens[place[inside]]
        return tokens

    def examples(self, step):
        """Return where the windows of the batch of a step begin in the stream of tokens: int64 [at most B]."""
        rows, shift = self._windows(step)
        return (rows * self.length + shift) % self.size

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
