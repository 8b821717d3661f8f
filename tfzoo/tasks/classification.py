"""Classification of a text or a pair of texts (Devlin et al. 2018, arXiv:1810.04805, section 4.1)."""
import math

import numpy as np
import tensorflow as tf

from tfzoo.data.batches import TextWindows
from tfzoo.data.relations import RELATIONS
from tfzoo.errors import ConfigError, shown
from tfzoo.metrics.confusion import confusion_metrics, is_constant
from tfzoo.progress import tell
from tfzoo.records.answers import of_label, pooled
from tfzoo.tasks.task import cross_entropy, smooth
from tfzoo.tasks.text_task import TextTask, check_pooling, labelled

AUTO = "auto"


def weights_of(class_weights, labels):
    """Return a function from the weights that auto gives each label to the weights in effect, both float [C].

    Args:
        class_weights: sequence of str, LABEL=WEIGHT, or auto for all labels that are not named; the others weigh 1.
        labels: list of str.

    Raises:
        ConfigError: if a label is unknown or named twice, or a weight is not a positive number.
    """
    given = {}
    for text in class_weights:
        label, equals, value = text.rpartition("=")
        try:
            number = float(value) if equals else math.nan
        except ValueError:
            number = math.nan
        if text == AUTO and text not in labels:
            continue
        if not 0 < number < math.inf:
            raise ConfigError(f"--class_weights={text}: expected auto or LABEL=WEIGHT with a positive number")
        if label not in labels or label in given:
            raise ConfigError(f"--class_weights={text}: {label!r} is {'given twice' if label in given else 'unknown'}; "
                              f"the labels are {', '.join(labels[:20])}{' ...' * (len(labels) > 20)}")
        given[label] = number

    def weights(automatic):
        return np.array([given.get(label, own if AUTO in class_weights else 1.0)
                         for label, own in zip(labels, automatic)], np.float32)

    return weights


class Classification(TextTask):
    """Assign one of `labels` to a text, a pair of texts, or a text with two marked entities (their relation).

    With windows, a row of a batch is one window, and each of the W windows of a text is trained with the label of the
    text and the weight 1 / W. Every text thus has the weight 1 in the loss, and an epoch sees each window once. A
    prediction is made from the logits of all windows of a text, pooled. In evaluation, the loss is the weighted mean
    over windows, and all other metrics count each text once, by its pooled prediction.

    Args:
        labels: list of str, in the order of the logits.
        pooling: str, see ClassificationHead.
        class_weights: sequence of str, LABEL=WEIGHT, or auto, which is inverse to the label's frequency: rows / (labels
            x rows with the label). In training, each row has the weight of its label; the loss is the mean over
            weights.
        long: str, what happens to texts longer than max_length: "cut" truncates them, "windows" splits them into
            windows. Pairs of texts can only be truncated.
        overlap: int, the number of tokens that consecutive windows share; None for a quarter of a window.
        long_pooling: str, "mean" or "max" of the logits of a text's windows, for each label.

    Raises:
        ConfigError: if a setting is unknown.
    """

    name, script, schema, labelled = "classification", "finetune", RELATIONS, True
    better, shown = ("accuracy", max), ("loss", "accuracy", "f1")

    def __init__(self, labels, pooling="auto", class_weights=(), long="cut", overlap=None, long_pooling="mean"):
        self.labels, self.long, self.overlap, self.long_pooling = list(labels), long, overlap, long_pooling
        for name, allowed in (("long", ("cut", "windows")), ("long_pooling", ("mean", "max"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} must be {' or '.join(allowed)}, got {shown(getattr(self, name))}")
        if overlap is not None and (type(overlap) is not int or overlap < 0):
            raise ConfigError(f"overlap must be an integer >= 0, got {shown(overlap)}")
        self.pooling, self.class_weights = check_pooling(pooling), list(class_weights)
        self._weights = weights_of(self.class_weights, self.labels)

    @property
    def answered(self):
        """Return whether the metrics require answers: with windows, those of a text are merged in its answer."""
        return self.long == "windows"

    def batches(self, encoded, tokenizer, source, **options):
        if self.long == "cut":
            return super().batches(encoded, tokenizer, source, **options)
        if len(encoded) > 1:
            raise ConfigError(f"--long=windows: {source.name} has pairs of texts, which cannot be split into windows; "
                              "use --long=cut")
        return TextWindows(*encoded, tokenizer, **options, overlap=self.overlap)

    def with_targets(self, batches, source, training):
        labels = source.label_ids(self.labels)
        weights = 1 / batches.windows if self.long == "windows" else np.ones(len(labels))
        if training:
            counts = np.bincount(labels, minlength=len(self.labels))
            weights = weights * self._weights(len(labels) / (len(counts) * np.maximum(counts, 1)))[labels]
        return labelled(batches, labels, weights, references=source.columns["label"])

    def objective(self, forward, batch):
        logits, count = forward(batch)["logits"], len(self.labels)
        loss, right = cross_entropy(logits, batch["labels"], batch["weights"])
        best = tf.argmax(logits, -1, output_type=tf.int32)
        # Margins of the confusion matrix: with thousands of labels, the matrix itself would be larger than a model.
        counts = [tf.math.unsorted_segment_sum(weights, ids, count) for weights, ids in (
            (batch["weights"] * tf.cast(best == batch["labels"], tf.float32), best),
            (batch["weights"], batch["labels"]), (batch["weights"], best))]
        term = smooth(loss, logits, batch["labels"], batch["weights"], self.label_smoothing)
        return {"loss": term}, {"loss": loss, "right": right, "count": tf.reduce_sum(batch["weights"]),
                                "labels": tf.stack(counts)}

    def predict(self, model, batch, outputs):
        logits = outputs["logits"]
        return {"probabilities": tf.nn.softmax(logits), **({"logits": logits} if self.long == "windows" else {})}

    def answers(self, predictions, batches):
        rows = predictions["probabilities"]
        if self.long == "windows":
            rows = pooled(rows, predictions["logits"], batches.windows, self.long_pooling)
        return of_label(self.labels, rows)

    def serve(self, predictions, batch):
        best = tf.argmax(predictions["probabilities"], -1)
        return {"label": tf.gather(tf.constant(self.labels), best),
                **super().serve({"probabilities": predictions["probabilities"]}, batch)}

    def metrics(self, sums, answers=None, references=None):
        counts = sums["labels"]
        if answers is not None:
            index = {label: number for number, label in enumerate(self.labels)}
            true, found = (np.array([index[label] for label in each]) for each in (
                references, [answer["label"] for answer in answers]))
            counts = [np.bincount(each, minlength=len(self.labels)) for each in (true[true == found], true, found)]
        if references is not None:  # not in training, where constant predictions are common at first
            for each, what in zip(counts[1:], ("labels", "predictions")):
                if is_constant(each):
                    tell(f"mcc is undefined, since all {what} are the same: it is reported as 0")
        return {"loss": super().metrics(sums)["loss"], **confusion_metrics(counts, self.labels)}
