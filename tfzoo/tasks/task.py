"""Tasks: the head, the features made of texts, the objective and the metrics, none naming a family.

The objective of a batch is a sum over target tokens; the trainer divides it by their count over the global batch.
"""
import math

import numpy as np
import tensorflow as tf

from tfzoo.data.corpus import open_corpus, open_sentences
from tfzoo.data.encode import encode_texts, sentence_pairs, split_long
from tfzoo.errors import ConfigError
from tfzoo.metrics.confusion import confusion_metrics
from tfzoo.models import config_of, family_of, list_models
from tfzoo.tasks.batches import PackedBatches, StreamBatches, TextBatches
from tfzoo.tasks.heads import CausalLMHead, ClassificationHead, MaskedLMHead


def cross_entropy(logits, labels, weights):
    """Return the summed loss and the sum of right answers of float32 logits [..., V], labels and weights [...]."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = tf.cast(tf.argmax(logits, -1, output_type=labels.dtype) == labels, tf.float32)
    return tf.reduce_sum(losses * weights), tf.reduce_sum(right * weights)


class Task:
    """What the tasks share: sums of loss and right answers over a count of targets."""

    better = ("loss", min)
    pooled = None  # whether the body needs a pooler, or is better without; None takes it as it is

    def suits(self, traits):
        """Return whether a body with these Traits can learn the task."""
        return not traits.source

    @property
    def settings(self):
        """Return the task's arguments beside labels, which `task_of` takes: dict of plain values."""
        return {}

    def body_arguments(self, body):
        """Return the arguments that the task sets in a body, a Body or its class: dict."""
        return {} if self.pooled is None else body.pooled_arguments(self.pooled)

    def head(self, body, dropout):
        """Return a fresh head for a body, with this rate of dropout before its projection."""
        raise ConfigError(f"{self.name} has no head")

    def headline(self, metrics):
        """Return the names of the metrics that are shown while training."""
        return [name for name in ("loss", "accuracy", "f1", "perplexity", "bits_per_byte") if name in metrics]

    def check_family(self, name):
        """Raise ConfigError where a model of this name cannot learn the task."""
        if not self._suits(name):
            allowed = [known for known in list_models() if self._suits(known)]
            raise ConfigError(f"{name} cannot learn {self.name}: allowed are models as {', '.join(allowed[:4])}")

    def _suits(self, name):
        return self.suits(family_of(name).body.traits_of(config_of(name)))

    def batches(self, source, tokenizer, batch_size, max_length, seed, training):
        """Return the data of a source: `batch(step)` and `batches_per_epoch`; ConfigError where there are none."""
        raise ConfigError(f"{self.name} has a head and an objective, but no data of its own yet: train it by code")

    def objective(self, outputs, batch):
        """Return (summed loss, dict of sums for the metrics), float32 scalars, of a batch with labels and weights."""
        if "loss" in outputs:
            loss, right = outputs["loss"], outputs["right"]
        else:
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
        pack: bool, put several texts in one row, see PackedBatches; not with next_sentence.

    Raises:
        ConfigError: for pack with next_sentence.
    """

    name = "masked_lm"

    def __init__(self, next_sentence=False, whole_word=False, pack=False):
        if pack and next_sentence:
            raise ConfigError("pack with next_sentence: allowed is one of them; pairs of texts have a row each")
        self.next_sentence, self.whole_word, self.pack = next_sentence, whole_word, pack
        self.pooled = next_sentence

    def suits(self, traits):
        return not traits.causal

    @property
    def settings(self):
        return {"next_sentence": self.next_sentence, "whole_word": self.whole_word, "pack": self.pack}

    def head(self, body, dropout):
        config = body.config
        return MaskedLMHead(config["hidden_dim"], config["vocab_size"], activation=config["activation"],
                            epsilon=config["epsilon"], next_sentence=self.next_sentence,
                            embedding_dim=config["embedding_dim"], name="head", dtype=body.dtype_policy)

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
        if self.next_sentence:
            first, second, elsewhere = sentence_pairs(*open_sentences(source, tokenizer), max_length, seed, source.name)
            return TextBatches((first, second), tokenizer, None, batch_size, max_length, seed, training,
                               self.whole_word, elsewhere)
        encoded = open_corpus(source, tokenizer)
        if self.pack:
            return PackedBatches(encoded, tokenizer, batch_size, max_length, seed, training, self.whole_word)
        return TextBatches((split_long(encoded, max_length - 2),), tokenizer, None, batch_size, max_length, seed,
                           training, self.whole_word)


class CausalLM(Task):
    """Predict each next token (Radford et al. 2018)."""

    name = "causal_lm"

    def suits(self, traits):
        return traits.causal and not traits.source

    def head(self, body, dropout):
        own = () if body.config["tied"] else (body.config["vocab_size"], body.config["hidden_dim"])
        return CausalLMHead(*own, name="head", dtype=body.dtype_policy)

    def batches(self, source, tokenizer, batch_size, max_length, seed, training):
        raw_bytes = source.raw_bytes if tokenizer.lossless else None
        return StreamBatches(open_corpus(source, tokenizer), tokenizer, batch_size, max_length,
                             seed if training else None, raw_bytes)


class Seq2Seq(Task):
    """Write a target text for a source text (Vaswani et al. 2017; Raffel et al. 2020)."""

    name = "seq2seq"

    def suits(self, traits):
        return traits.source

    def head(self, body, dropout):
        config, width, tied = body.config, body.config["hidden_dim"], body.config["tied"]
        return CausalLMHead(*(() if tied else (config["vocab_size"], width)),
                            scale=width ** -0.5 if tied and config["scaled_logits"] else 1.0,
                            initializer_range=config["initializer_range"] or width ** -0.5, name="head",
                            dtype=body.dtype_policy)


class Classification(Task):
    """Give a text, or a pair of texts, one of `labels`.

    Args:
        labels: list of str, in the order of the logits.
    """

    name, pooled = "classification", True
    better = ("accuracy", max)

    def __init__(self, labels):
        self.labels = list(labels)

    def head(self, body, dropout):
        # As the reference has it: a decoder's has no bias.
        return ClassificationHead(len(self.labels), body.config["hidden_dim"], dropout, not body.traits.causal,
                                  name="head", dtype=body.dtype_policy)

    def objective(self, outputs, batch):
        loss, sums = super().objective(outputs, batch)
        count = len(self.labels)
        cell = batch["labels"] * count + tf.argmax(outputs["logits"], -1, output_type=tf.int32)
        matrix = tf.reduce_sum(tf.one_hot(cell, count * count) * batch["weights"][:, None], 0)
        return loss, {**sums, "confusion": tf.reshape(matrix, (count, count))}

    def metrics(self, sums, raw_bytes=None):
        return {"loss": super().metrics(sums)["loss"], **confusion_metrics(np.rint(sums["confusion"]), self.labels)}

    def batches(self, source, tokenizer, batch_size, max_length, seed, training):
        encoded = tuple(encode_texts(tokenizer, texts, source.name) for texts in source.texts)
        return TextBatches(encoded, tokenizer, source.label_ids(self.labels), batch_size, max_length, seed, training)
