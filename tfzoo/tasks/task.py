"""The interface of a task: what it requires of the body and the data, and its head, objective, answers and metrics.

Tasks do not depend on model families. Each loss term of a batch is a sum over targets; the trainer divides it by the
number of targets in the global batch, so that the update is the same however the batch is split.
"""
import inspect
import math

import tensorflow as tf

from tfzoo.data.readers import TEXTS
from tfzoo.data.source import Source
from tfzoo.errors import ConfigError, DataError
from tfzoo.models import config_of, family_of, list_models
from tfzoo.text.tokenizer import as_texts

IMPOSSIBLE = -1e8  # logits below this are masked


def cross_entropy(logits, labels, weights):
    """Compute the weighted sum of cross-entropies and the weighted number of correct predictions.

    Args:
        logits: float32 [..., V].
        labels: int [...].
        weights: float32 [...].

    Returns:
        (loss, right), float32 scalars.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = tf.cast(tf.argmax(logits, -1, output_type=labels.dtype) == labels, tf.float32)
    return tf.reduce_sum(losses * weights), tf.reduce_sum(right * weights)


def smooth(loss, logits, labels, weights, smoothing):
    """Return the weighted sum of cross-entropies with label smoothing, as in fairseq, given the sum without it.

    The target probability is 1 - smoothing for the label, and the rest is divided equally among the others. (In
    transformers, the label gets an equal part of the rest as well.)

    Args:
        loss: float32 scalar, from `cross_entropy`.
        logits, labels, weights: see `cross_entropy`; logits below IMPOSSIBLE are not among the others.
        smoothing: float.

    Returns:
        float32 scalar; `loss` itself if smoothing is 0.
    """
    if not smoothing:
        return loss
    possible = logits > IMPOSSIBLE
    count = tf.reduce_sum(tf.cast(possible, tf.float32), -1)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    others = tf.reduce_sum(tf.where(possible, -tf.nn.log_softmax(logits), 0.0), -1) - losses
    others = tf.reduce_sum(weights * others / tf.maximum(count - 1, 1.0))
    return (1 - smoothing) * loss + smoothing * others


def _plain(value, name):
    # Strings as `as_texts` returns them, also in lists; other values unchanged.
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, bytes)) for item in value):
        return as_texts(value, name)
    return as_texts([value], name)[0] if isinstance(value, (str, bytes)) else value


class Task:
    """Base class of all tasks; its metrics are the mean loss and accuracy over targets.

    Attributes:
        name: str.
        head_of: str, another task that has the same head and outputs, if its weights and format are used; None if not.
        script: "pretrain", "finetune" or "pretrain finetune", the scripts that train the task; None if it has no data
            pipeline yet.
        schema: Schema, the columns of the task's data.
        labels: list of str in the order of the logits, or None.
        labelled: bool, whether the task requires labels.
        better: (name of the metric that determines the best checkpoint, min or max).
        shown: tuple of str, the metrics to show during training, if present.
        pooled: bool, whether the body has a pooler; None keeps the body's default.
        answered: bool, whether the metrics require answers in addition to sums.
        paired: bool, whether an example may have two texts.
        axes: int, the number of axes of the inputs: 2 for [B, T], or 3 for [B, N, T], several texts per row.
        embedding: dict, how the model embeds texts (see tfzoo.tasks.embedding), if the task determines it, or None.
        exports: bool, whether a model can be exported.
        label_smoothing: float, set by training runs; the loss terms are smoothed (see `smooth`), the metrics are not.
        batch_tokens: int, set by training runs; batches of tasks that support it have about this many tokens (0: a
            fixed number of rows).
        text_columns: (str, str or None), the columns of the first and the second text.
        truncated: str, what is reported about the number of texts that did not fit; {} is the maximum length.
    """

    name = script = labels = pooled = head_of = embedding = None
    schema, axes = TEXTS, 2
    labelled = answered = paired = False
    exports, label_smoothing, batch_tokens = True, 0.0, 0
    better, shown = ("loss", min), ("loss", "accuracy", "perplexity", "bits_per_byte")
    text_columns, truncated = ("text", "text_pair"), "texts were truncated to {} tokens"

    @property
    def settings(self):
        """Return the arguments, except labels, with which `task_of` recreates the task: dict of plain values.

        Each argument of `__init__` is an attribute.
        """
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters if name != "labels"}

    @staticmethod
    def labels_in(source):
        """Return the labels that occur in a training source, in the order of the logits: list of str."""
        return source.labels()

    def adapt(self, source, embedding=None):
        """Complete the settings before the model is built, from the training data and the model to start from.

        Args:
            source: the training source.
            embedding: dict, how the model to start from embeds texts (see tfzoo.tasks.embedding), or None.
        """

    def adopt(self, results):
        """Adopt settings, such as thresholds, that the run's best evaluation found: its `results` are a dict."""

    def suits(self, traits):
        """Return whether a body with these Traits can learn the task: bool."""
        return not traits.source

    def check_family(self, name):
        """Raise ConfigError if the model with this name cannot learn the task."""
        if not self._suits(name):
            allowed = [known for known in list_models() if self._suits(known)]
            raise ConfigError(f"{name} cannot learn {self.name}: choose a model such as {', '.join(allowed[:4])}")

    def _suits(self, name):
        family = family_of(name)
        sized = name if name in family.sizes else next(iter(family.sizes))  # a family's sizes share their traits
        return self.suits(family.body.traits_of(config_of(sized)))

    def body_arguments(self, body):
        """Return the arguments that the task sets for a body, given a Body or its class: dict."""
        return {} if self.pooled is None else body.pooled_arguments(self.pooled)

    def head(self, body, dropout):
        """Return a newly initialized head for a body: Layer; `dropout` is the rate before its projection."""
        raise ConfigError(f"{self.name} has no head")

    def companion(self, body):
        """Return a second body used only in training, such as ELECTRA's generator, or None."""
        return None

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        """Make Batches from a source.

        Args:
            source: Source or TextFiles with the columns of the task's schema.
            tokenizer: Tokenizer.
            batch_size, max_length: int.
            seed: int, determines order and masks.
            training: bool. If True, the examples are shuffled or cut at random offsets. If False, they stay in order
                and, for prediction, may lack labels.
            multiple: int, pad lengths to a multiple of this.

        Raises:
            ConfigError: if the tokenizer does not suit the task, or the task has no data pipeline.
            DataError: if the data are unusable.
        """
        raise ConfigError(f"{self.name} has a head and an objective, but no data pipeline yet: train it from Python")

    def counts(self, batch):
        """Count the targets of each loss term in the global batch, on the host: dict of float."""
        return {"loss": float(batch["weights"].sum())}

    def objective(self, forward, batch):
        """Compute the loss of a batch, which may be part of the global batch.

        Args:
            forward: callable (inputs, *, draw=0, embedded=None, keep=()) -> outputs of the model; each `draw` has its
                own dropout masks.
            batch: dict of tensors, from `features`.

        Returns:
            (dict of loss terms, summed over targets; dict of sums for the metrics), float32 scalars and arrays.
        """
        smoothing = self.label_smoothing
        outputs = forward({**batch, "label_smoothing": tf.constant(smoothing)} if smoothing else batch)
        if "loss" in outputs:
            loss, right = outputs["loss"], outputs["right"]
            term = outputs.get("smoothed", loss)
        else:
            loss, right = cross_entropy(outputs["logits"], batch["labels"], batch["weights"])
            term = smooth(loss, outputs["logits"], batch["labels"], batch["weights"], smoothing)
        return {"loss": term}, {"loss": loss, "right": right, "count": tf.reduce_sum(batch["weights"])}

    def read(self, rows):
        """Make a Source from rows to predict.

        Args:
            rows: list of dict with the columns of the task's schema, without targets.

        Returns:
            Source, or the schema's own class.

        Raises:
            DataError: if a row lacks a column or has a wrong value, or only some of the rows have an optional column.
        """
        found = []
        for number, row in enumerate(rows, 1):
            row, reason = self.schema.row({key: _plain(value, key) for key, value in row.items()}, labelled=False)
            if reason:
                raise DataError(f"row {number}: {reason}; {self.name} requires {self.schema.required(False)}")
            found.append(row)
        return (self.schema.source or Source).of_rows("rows", found)

    def encode(self, tokenizer, texts, max_length, pairs=None):
        """Encode texts in a TensorFlow graph.

        Args:
            tokenizer: Tokenizer with `in_graph`.
            texts, pairs: tf.string [B].
            max_length: int.

        Returns:
            dict of tensors: the same batch as from `features`, and `cut`, int32 [B], the number of tokens truncated
            from each row.
        """
        parts = [tokenizer.encode(part) for part in (texts, pairs) if part is not None]
        lengths = tf.cast(tf.add_n([part.row_lengths() for part in parts]), tf.int32)
        batch = tokenizer.join(parts, max_length)
        mask = batch["padding_mask"]
        first = tf.range(tf.shape(mask)[1]) == 0
        bare = tf.reduce_max(mask, axis=1, keepdims=True) == 0  # see TextBatches.row
        return {**batch, "padding_mask": tf.where(first & bare, 1, mask),
                "cut": tf.maximum(lengths - tokenizer.room(max_length, len(parts)), 0)}

    def serve(self, predictions, batch):
        """Return the outputs of an exported model, computed in the graph: dict of dense tensors [B, ...].

        Args:
            predictions: dict, from `predict`.
            batch: dict, from `encode`.
        """
        return {**predictions, "cut": batch["cut"]}

    def predict(self, model, batch, outputs):
        """Return the predictions for each row, computed in the graph: dict of dense tensors [B, ...].

        Args:
            model: TaskModel, for tasks that generate.
            batch: dict of tensors.
            outputs: dict, the outputs of the model, including logits.
        """
        raise ConfigError(f"{self.name} has no predictions")

    def answers(self, predictions, batches):
        """Return one answer per example, in order: list of dict.

        Args:
            predictions: dict of arrays [N, ...], from `predict`, in the order of the examples.
            batches: the Batches that were predicted.
        """
        raise ConfigError(f"{self.name} has no answers")

    def metrics(self, sums, answers=None, references=None):
        """Compute metrics from sums over an entire data set, and from answers.

        Args:
            sums: dict of arrays, from `objective`.
            answers: list of dict; None if sums suffice, and for the training metrics.
            references: the `references` of the Batches.

        Returns:
            dict of float: loss (nats per target), accuracy, perplexity.
        """
        count = float(sums["count"]) or 1.0
        loss = float(sums["loss"]) / count
        return {"loss": loss, "accuracy": float(sums["right"]) / count, "perplexity": math.exp(min(loss, 700))}
