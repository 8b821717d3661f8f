"""Tasks: the head, the features made of texts, the objective and the metrics, none naming a family.

The objective of a batch is a sum over target tokens; the trainer divides it by their count over the global batch.
"""
import math

import numpy as np
import tensorflow as tf

from tfzoo.data.encode import encode_texts, sentence_pairs, split_long
from tfzoo.data.masking import mask_tokens, step_generator
from tfzoo.data.plan import BatchPlan
from tfzoo.errors import ConfigError, DataError
from tfzoo.metrics.confusion import confusion_metrics
from tfzoo.models import Decoder, Encoder, family_of, list_models
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

    def body_arguments(self, config):
        """Return the arguments of a body that the task needs to be other than `config` has them."""
        return {}

    def headline(self, metrics):
        """Return the names of the metrics that are shown while training."""
        return [name for name in ("loss", "accuracy", "f1", "perplexity", "bits_per_byte") if name in metrics]

    def check_family(self, name):
        """Raise ConfigError where a model of this name cannot learn the task."""
        if family_of(name).MODEL not in self.models:
            allowed = [known for known in list_models() if family_of(known).MODEL in self.models]
            raise ConfigError(f"{name} cannot learn {self.name}: allowed are models as {', '.join(allowed[:4])}")

    def objective(self, outputs, batch):
        """Return (summed loss, dict of sums for the metrics), float32 scalars, of a batch with labels and weights."""
        loss, right = cross_entropy(outputs["logits"], batch["labels"], batch["weights"])
        return loss, {"loss": loss, "right": right, "count": tf.reduce_sum(batch["weights"])}

    def metrics(self, sums, raw_bytes=None):
        """Turn sums over a whole set into metrics.

        Args:
            sums: dict of arrays, as `objective` gives them.
            raw_bytes: int, UTF-8 bytes that the targets spell; None where they do not spell all of a file.

        Returns:
            dict of float: loss (nats a target), accuracy, perplexity, and with raw_bytes bits_per_byte.
        """
        count = max(1.0, float(sums["count"]))
        loss = float(sums["loss"]) / count
        metrics = {"loss": loss, "accuracy": float(sums["right"]) / count, "perplexity": math.exp(min(loss, 700))}
        if raw_bytes:
            metrics["bits_per_byte"] = float(sums["loss"]) / math.log(2) / raw_bytes
        return metrics


class MaskedLM(Task):
    """Predict 15 % hidden tokens, and with `next_sentence` whether two texts belong together (Devlin et al. 2018).

    Args:
        next_sentence: bool, the examples are pairs of texts, half of them of two documents.
        whole_word: bool, hide all pieces of a word together.
    """

    name, models = "masked_lm", (Encoder,)

    def __init__(self, next_sentence=False, whole_word=False):
        self.next_sentence, self.whole_word = next_sentence, whole_word

    def body_arguments(self, config):
        return {"pooler": self.next_sentence}

    def head(self, config, labels, dtype):
        return MaskedLMHead(config["hidden_dim"], config["vocab_size"], config["activation"], config["epsilon"],
                            self.next_sentence, name="head", dtype=dtype)

    def objective(self, outputs, batch):
        loss, sums = super().objective(outputs, batch)
        if not self.next_sentence:
            return loss, sums
        pair_loss, right = cross_entropy(outputs["pair_logits"], batch["pair_labels"], batch["pair_weights"])
        rows = tf.reduce_sum(tf.cast(batch["pair_weights"] > 0, tf.float32))
        scale = tf.reduce_max(batch["pair_weights"])
        return loss + pair_loss, {**sums, "pair_loss": pair_loss / tf.maximum(scale, 1e-9),
                                  "pair_right": right / tf.maximum(scale, 1e-9), "pair_count": rows}

    def metrics(self, sums, raw_bytes=None):
        metrics = super().metrics(sums)
        if "pair_count" in sums:
            count = max(1.0, float(sums["pair_count"]))
            metrics.update(pair_loss=float(sums["pair_loss"]) / count, pair_accuracy=float(sums["pair_right"]) / count)
        return metrics

    def batches(self, source, tokenizer, batch_size, max_length, seed, training):
        if tokenizer.mask_id is None:
            raise ConfigError(f"masked_lm needs a tokenizer with a mask token: {tokenizer.kind} has none")
        pair_labels = None
        if self.next_sentence:
            first, second, pair_labels = sentence_pairs(source.texts[0], tokenizer, max_length, seed, source.name)
            encoded = (first, second)
        else:
            encoded = (split_long(encode_texts(tokenizer, source.texts[0], source.name), max_length - 2),)
        return TextBatches(encoded, tokenizer, None, batch_size, max_length, seed, training, self.whole_word,
                           pair_labels)


class CausalLM(Task):
    """Predict each next token (Radford et al. 2018)."""

    name, models = "causal_lm", (Decoder,)

    def head(self, config, labels, dtype):
        return CausalLMHead(name="head", dtype=dtype)

    def batches(self, source, tokenizer, batch_size, max_length, seed, training):
        encoded = encode_texts(tokenizer, source.texts[0], source.name)
        raw_bytes = source.raw_bytes if tokenizer.lossless else None
        return StreamBatches(encoded, tokenizer, batch_size, max_length, seed if training else None, raw_bytes)


class Classification(Task):
    """Give a text, or a pair of texts, one of `labels`.

    Args:
        labels: list of str, in the order of the logits.
    """

    name, models = "classification", (Encoder, Decoder)
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

    def metrics(self, sums, raw_bytes=None):
        return {"loss": super().metrics(sums)["loss"], **confusion_metrics(np.rint(sums["confusion"]), self.labels)}

    def body_arguments(self, config):
        return {"pooler": True} if "pooler" in config else {}

    def batches(self, source, tokenizer, batch_size, max_length, seed, training):
        encoded = tuple(encode_texts(tokenizer, texts, source.name) for texts in source.texts)
        return TextBatches(encoded, tokenizer, source.label_ids(self.labels), batch_size, max_length, seed, training)


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
