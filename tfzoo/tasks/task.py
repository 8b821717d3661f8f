"""The contract of a task: what it needs of a body and of the data, its head, objective, answers and metrics.

None names a family. The objective of a batch is a sum over targets, term by term; the trainer divides each term by its
count over the global batch, so that one update is one, however the batch is split.
"""
import math

import tensorflow as tf

from tfzoo.data.source import Source
from tfzoo.errors import ConfigError, DataError
from tfzoo.models import config_of, family_of, list_models
from tfzoo.text.tokenizer import as_texts


def cross_entropy(logits, labels, weights):
    """Return the summed loss and the sum of right answers of float32 logits [..., V], labels and weights [...]."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = tf.cast(tf.argmax(logits, -1, output_type=labels.dtype) == labels, tf.float32)
    return tf.reduce_sum(losses * weights), tf.reduce_sum(right * weights)


class Task:
    """What the tasks share: sums of loss and right answers over a count of targets.

    Attributes:
        name: str. script: "pretrain" or "finetune", which teaches it; None where it has no data of its own yet.
        columns: tuple of the data's columns that it needs.
        labels: list of str in the order of the logits, or None. labelled: bool, whether it needs them.
        better: (name of the metric that is compared, min or max).
        shown: tuple of the metrics that are shown while training, where they are there.
        pooled: bool, whether its body has a pooler; None leaves it as it is.
        answered: bool, whether its metrics need answers, and not sums alone.
        paired: bool, whether an example may have two texts.
    """

    name = script = labels = pooled = None
    columns = ("text",)
    labelled = answered = paired = False
    better, shown = ("loss", min), ("loss", "accuracy", "perplexity", "bits_per_byte")

    @property
    def settings(self):
        """Return the task's arguments beside labels, which `task_of` takes: dict of plain values."""
        return {}

    def suits(self, traits):
        """Return whether a body with these Traits can learn the task."""
        return not traits.source

    def check_family(self, name):
        """Raise ConfigError where a model of this name cannot learn the task."""
        if not self._suits(name):
            allowed = [known for known in list_models() if self._suits(known)]
            raise ConfigError(f"{name} cannot learn {self.name}: allowed are models as {', '.join(allowed[:4])}")

    def _suits(self, name):
        family = family_of(name)
        sized = name if name in family.sizes else next(iter(family.sizes))  # a family's own name: its sizes are alike
        return self.suits(family.body.traits_of(config_of(sized)))

    def body_arguments(self, body):
        """Return the arguments that the task sets in a body, a Body or its class: dict."""
        return {} if self.pooled is None else body.pooled_arguments(self.pooled)

    def head(self, body, dropout):
        """Return a fresh head for a body, with this rate of dropout before its projection."""
        raise ConfigError(f"{self.name} has no head")

    def companion(self, body):
        """Return a second body that only trains, as ELECTRA's generator, or None."""
        return None

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        """Return the Batches of a source.

        Args:
            source: Source or TextFiles with the task's columns.
            tokenizer: Tokenizer.
            batch_size, max_length: int.
            seed: int, of order and masks.
            training: bool, training may shuffle, pack and cut windows; else the order is fixed, and labels may be
                missing, for prediction.
            multiple: int, of which padded lengths are multiples.

        Raises:
            ConfigError: for a tokenizer or task that has no such data. DataError: for data that cannot be used.
        """
        raise ConfigError(f"{self.name} has a head and an objective, but no data of its own yet: train it by code")

    def counts(self, batch):
        """Return how many targets each term of the loss has, of the global batch on the host: dict of float."""
        return {"loss": float(batch["weights"].sum())}

    def objective(self, forward, batch):
        """Compute the loss of a batch, which may be a part of the global one.

        Args:
            forward: callable (inputs, *, draw=0, embedded=None, keep=()) -> outputs of the model; passes of another
                `draw` drop other elements.
            batch: dict of tensors, as the features give them.

        Returns:
            (dict of the terms of the loss, summed over targets; dict of sums for the metrics), float32 scalars and
            arrays.
        """
        outputs = forward(batch)
        if "loss" in outputs:
            loss, right = outputs["loss"], outputs["right"]
        else:
            loss, right = cross_entropy(outputs["logits"], batch["labels"], batch["weights"])
        return {"loss": loss}, {"loss": loss, "right": right, "count": tf.reduce_sum(batch["weights"])}

    def read(self, rows):
        """Return the Source of rows to predict.

        Args:
            rows: list of dict with the task's columns; no labels.

        Raises:
            DataError: where some rows have a column that others have not.
        """
        keys = [key for key in ("text", "text_pair") if key in rows[0]]
        bare = next((number for number, row in enumerate(rows, 1) if "text" not in row), None)
        if bare is not None:
            raise DataError(f"row {bare} has {', '.join(rows[bare - 1]) or 'nothing'}: {self.name} takes text")
        if any(("text_pair" in row) != ("text_pair" in keys) for row in rows):
            raise DataError("some rows have a text_pair and some have none: allowed is all or none")
        return Source("rows", {key: as_texts([row[key] for row in rows], key) for key in keys})

    def encode(self, tokenizer, texts, max_length, pairs=None):
        """Return the batch of texts inside a graph, as `features` would give it: dict of tensors.

        With `cut` int32 [B], how many tokens of each row did not fit.

        Args:
            tokenizer: Tokenizer with `in_graph`; texts, pairs: tf.string [B]; max_length: int.
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
        """Return what a client gets, inside a graph: dict of dense tensors [B, ...].

        Args:
            predictions: dict, what `predict` gave; batch: dict, what `encode` gave.
        """
        return {**predictions, "cut": batch["cut"]}

    def predict(self, model, batch, outputs):
        """Return what a client or a metric needs of each row, inside the graph: dict of dense tensors [B, ...].

        Args:
            model: TaskModel, for tasks that generate.
            batch: dict of tensors; outputs: dict of the model, logits among it.
        """
        raise ConfigError(f"{self.name} has no predictions")

    def answers(self, predictions, batches):
        """Return one record an example, in their order: list of dict.

        Args:
            predictions: dict of arrays [N, ...], what `predict` gave of each row.
            batches: Batches whose `rows` they are of, example by example in order.
        """
        raise ConfigError(f"{self.name} has no answers")

    def metrics(self, sums, answers=None, references=None):
        """Turn sums over a whole set, or answers, into metrics.

        Args:
            sums: dict of arrays, as `objective` gives them.
            answers: list of dict, or None where sums suffice (and of what is logged while training).
            references: those of the Batches.

        Returns:
            dict of float: loss (nats a target), accuracy, perplexity.
        """
        count = float(sums["count"]) or 1.0
        loss = float(sums["loss"]) / count
        return {"loss": loss, "accuracy": float(sums["right"]) / count, "perplexity": math.exp(min(loss, 700))}
