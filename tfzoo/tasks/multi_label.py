"""Multi-label classification: any number of labels for a text or a pair of texts, each decided by its own sigmoid."""
import numpy as np
import tensorflow as tf

from tfzoo.data.readers import Schema
from tfzoo.data.source import index_of, sorted_labels
from tfzoo.metrics.multi_label import THRESHOLD, label_set_metrics
from tfzoo.progress import tell
from tfzoo.records.answers import of_label_set
from tfzoo.tasks.classification import weights_of
from tfzoo.tasks.text_task import TextTask, check_pooling, labelled


class MultiLabel(TextTask):
    """Assign any number of `labels`, or none, to a text or a pair of texts.

    The loss is the mean binary cross-entropy over all pairs of a row and a label, as in Hugging Face's transformers for
    problem_type "multi_label_classification".

    Args:
        labels: list of str, in the order of the logits.
        pooling: str, see ClassificationHead.
        class_weights: sequence of str, LABEL=WEIGHT, or auto, the number of rows without the label divided by that of
            rows with it: the weight in training of the pairs of a label and a row that has it. The mean is over
            weights.
    """

    name, script = "multi_label", "finetune"
    schema = Schema(targets=("labels",), optional=("text_pair",), endings=(".jsonl",),
                    needs=("text", "text and labels, a list"))
    labelled = answered = True
    better, shown = ("micro_f1", max), ("loss", "micro_f1", "best_micro_f1")

    def __init__(self, labels, pooling="auto", class_weights=()):
        self.labels, self.pooling, self.class_weights = list(labels), check_pooling(pooling), list(class_weights)
        self._weights, self.offsets = weights_of(self.class_weights, self.labels), 0.0

    def adapt(self, source, embedding=None):
        """Let a new head predict each label's frequency in the training data, as learning offsets takes many steps."""
        counts = dict.fromkeys(self.labels, 0)
        for labels in source.columns["labels"]:
            counts.update({label: counts[label] + 1 for label in set(labels) & counts.keys()})
        odds = [(count + 0.5) / (len(source) - count + 0.5) for count in counts.values()]
        self.offsets = np.log(odds).astype(np.float32)

    def head(self, body, dropout):
        head = super().head(body, dropout)
        head.dense.initial_bias = self.offsets
        return head

    @staticmethod
    def labels_in(source):
        return sorted_labels(label for labels in source.columns["labels"] for label in labels)

    def with_targets(self, batches, source, training):
        rows = source.columns["labels"]
        index = index_of(self.labels, rows, source.name,
                         "unknown label {!r} in {} examples (first: example {}); expected some of")
        targets = np.zeros((len(rows), len(self.labels)), np.int32)
        for number, labels in enumerate(rows):
            targets[number, [index[label] for label in labels]] = 1
        having = targets.sum(0)
        weights = self._weights((len(rows) - having) / np.maximum(having, 1)) if training else np.ones(len(having))
        return labelled(batches, targets, np.where(targets, weights, 1), references=targets)

    def objective(self, forward, batch):
        """Compute the sum of cross-entropies (see Task) of a batch with `labels`, 0 or 1, and `weights`, [B, C]."""
        losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(batch["labels"], tf.float32),
                                                         forward(batch)["logits"])
        loss = tf.reduce_sum(batch["weights"] * losses)
        return {"loss": loss}, {"loss": loss, "count": tf.reduce_sum(batch["weights"])}

    def predict(self, model, batch, outputs):
        return {"probabilities": tf.nn.sigmoid(outputs["logits"])}

    def answers(self, predictions, batches):
        return of_label_set(self.labels, predictions["probabilities"], THRESHOLD)

    def serve(self, predictions, batch):
        """Return `labels` tf.string [B, C], "" for a label that the text does not have; `probabilities` and `cut`."""
        chosen = predictions["probabilities"] >= THRESHOLD
        return {"labels": tf.where(chosen, tf.constant(self.labels), ""), **super().serve(predictions, batch)}

    def metrics(self, sums, answers=None, references=None):
        """Compute metrics (see Task): the loss and, given answers, those of `label_set_metrics`."""
        loss = {"loss": float(sums["loss"]) / (float(sums["count"]) or 1.0)}
        if answers is None:
            return loss
        found = np.array([list(answer["probabilities"].values()) for answer in answers], np.float32)
        if not np.any(references):
            tell("f1 is reported as 0, since no row of the data has a label")
        return {**loss, **label_set_metrics(references, found, self.labels)}
