"""Tasks: the head, the features made of texts, the objective and the metrics, none naming a family.

The objective of a batch is a sum over target tokens; the trainer divides it by their count over the global batch.
"""
import math

import numpy as np
import tensorflow as tf

from tfzoo.data.masking import mask_tokens, step_generator
from tfzoo.data.plan import BatchPlan
from tfzoo.errors import ConfigError, DataError
from tfzoo.metrics.confusion import confusion_metrics
from tfzoo.tasks.heads import CausalLMHead, ClassificationHead, MaskedLMHead
from tfzoo.text.tokenizer import keep_of_pair


def cross_entropy(logits, labels, weights):
    """Return the summed loss and the sum of right answers of float32 logits [..., V], labels and weights [...]."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = tf.cast(tf.argmax(logits, -1, output_type=labels.dtype) == labels, tf.float32)
    return tf.reduce_sum(losses * weights), tf.reduce_sum(right * weights)


class Task:
    """What the tasks share: sums of loss and right answers over a count of targets."""

    better = ("loss", min)

    def objective(self, outputs, batch):
        """Return (summed loss, dict of sums for the metrics), float32 scalars, of a batch with labels and weights."""
        loss, right = cross_entropy(outputs["logits"], batch["labels"], batch["weights"])
        return loss, {"loss": loss, "right": right, "count": tf.reduce_sum(batch["weights"])}

    def metrics(self, sums):
        """Turn sums over a whole set into metrics: dict of float."""
        count = max(1.0, float(sums["count"]))
        loss = float(sums["loss"]) / count
        return {"loss": loss, "accuracy": float(sums["right"]) / count, "perplexity": math.exp(min(loss, 700))}


class MaskedLM(Task):
    """Predict 15 % hidden tokens (Devlin et al. 2018)."""

    name = "masked_lm"

    def head(self, config, labels, dtype):
        return MaskedLMHead(config["hidden_dim"], config["vocab_size"], config["activation"], config["epsilon"],
                            name="head", dtype=dtype)


class CausalLM(Task):
    """Predict each next token (Radford et al. 2018)."""

    name = "causal_lm"

    def head(self, config, labels, dtype):
        return CausalLMHead(name="head", dtype=dtype)


class Classification(Task):
    """Give a text, or a pair of texts, one of `labels`.

    Args:
        labels: list of str, in the order of the logits.
    """

    name = "classification"
    better = ("accuracy", max)

    def __init__(self, labels):
        self.labels = list(labels)

    def head(self, config, labels, dtype):
        return ClassificationHead(len(labels), config["hidden_dim"], config["dropout"], name="head", dtype=dtype)

    def objective(self, outputs, batch):
        loss, sums = super().objective(outputs, batch)
        count = len(self.labels)
        cell = batch["labels"] * count + tf.argmax(outputs["logits"], -1, output_type=tf.int32)
        matrix = tf.reduce_sum(tf.one_hot(cell, count * count) * batch["weights"][:, None], 0)
        return loss, {**sums, "confusion": tf.reshape(matrix, (count, count))}

    def metrics(self, sums):
        return {"loss": super().metrics(sums)["loss"], **confusion_metrics(np.rint(sums["confusion"]), self.labels)}


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
    """

    def __init__(self, encoded, tokenizer, labels, batch_size, max_length, seed, shuffle, whole_word=False):
        self.encoded, self.tokenizer, self.labels = encoded, tokenizer, labels
        self.seed, self.whole_word, self.batch_size = seed, whole_word, batch_size
        specials = 1 + len(encoded) if tokenizer.start_id != tokenizer.end_id else 0
        if max_length <= specials:
            raise ConfigError(f"max_length is {max_length}: allowed is more than {specials}, the special tokens")
        if not len(encoded[0]):
            raise DataError("no examples: allowed is one or more")
        self.max_length, self.specials = max_length, specials
        lengths = np.maximum(1, sum(part.lengths for part in encoded) + specials)
        self.cut = int((lengths > max_length).sum())
        self.plan = BatchPlan(lengths, batch_size, max_length, seed if shuffle else None)

    @property
    def batches_per_epoch(self):
        return self.plan.batches_per_epoch

    def row(self, index):
        """Return (token ids, segment ids) of an example, cut longest first to max_length: lists of int."""
        parts = [part[index] for part in self.encoded]
        room = self.max_length - self.specials
        keep = [room] if len(parts) == 1 else keep_of_pair(len(parts[0]), len(parts[1]), room)
        parts = [part[:int(size)] for part, size in zip(parts, keep)]
        if not self.specials:
            return list(parts[0]) or [self.tokenizer.end_id], [0] * max(1, len(parts[0]))
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
            return {**batch, **mask_tokens(token_ids, maskable, self.tokenizer, step_generator(self.seed, step),
                                           self.whole_word)}
        real = rows >= 0
        return {**batch, "labels": np.where(real, self.labels[rows], 0).astype(np.int32),
                "weights": real.astype(np.float32)}


class StreamBatches:
    """Windows of one stream of tokens for a causal language model; each token is a target once an epoch.

    The first token of the stream is predicted from the end token, which also separates documents. In training the
    windows begin at another place in each epoch and the stream is a circle; evaluation cuts it from its beginning.

    Args:
        encoded: EncodedTexts, the documents.
        tokenizer: of the end token.
        batch_size, max_length: int, rows and width of a batch.
        seed: int or None, None for evaluation.
    """

    def __init__(self, encoded, tokenizer, batch_size, max_length, seed):
        ends = encoded.starts[1:-1]
        self.stream = np.insert(encoded.tokens, ends, tokenizer.end_id).astype(np.int32)
        if not len(self.stream):
            raise DataError("no text: allowed is one character or more")
        self.end_id, self.batch_size, self.length, self.seed = tokenizer.end_id, batch_size, max_length, seed
        self.windows = -(-len(self.stream) // max_length)
        self.batches_per_epoch = -(-self.windows // batch_size)

    def batch(self, step):
        """Return the batch of a step: dict of NumPy arrays; weights are 0 beyond the end of the epoch."""
        epoch, index = divmod(step, self.batches_per_epoch)
        count, shift, order = len(self.stream), 0, np.arange(self.windows)
        if self.seed is not None:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            shift, order = int(rng.integers(count)), rng.permutation(self.windows)
        rows = order[index * self.batch_size:(index + 1) * self.batch_size]
        places = np.full((self.batch_size, self.length), count)
        places[:len(rows)] = rows[:, None] * self.length + np.arange(self.length)
        real = places < count
        targets = np.where(real, (places + shift) % count, 0)
        before = np.where(targets == 0, self.end_id, self.stream[targets - 1])
        return {"token_ids": np.where(real, before, self.end_id).astype(np.int32),
                "padding_mask": real.astype(np.int32), "labels": self.stream[targets],
                "weights": real.astype(np.float32)}
