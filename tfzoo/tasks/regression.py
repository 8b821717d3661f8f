"""Regression: a number for a text or a pair of texts, such as the similarity of two sentences (STS-B).

The loss is the squared error, as in Hugging Face's transformers for problem_type "regression".
"""
import numpy as np
import tensorflow as tf

from tfzoo.data.readers import Schema
from tfzoo.metrics.correlation import is_constant, pearson, spearman
from tfzoo.progress import tell
from tfzoo.tasks.text_task import TextTask, check_pooling, labelled


class Regression(TextTask):
    """Predict a number from a text or a pair of texts.

    Args:
        pooling: str, see ClassificationHead.
    """

    name, script = "regression", "finetune"
    schema = Schema(targets=("value",), optional=("text_pair",), needs=("text", "text and label, a number"))
    answered, width = True, 1
    better, shown = ("spearman", max), ("loss", "spearman", "pearson")
    mean = 0.0

    def __init__(self, pooling="auto"):
        self.pooling = check_pooling(pooling)

    def adapt(self, source, embedding=None):
        """Let a new head predict the mean label of the training data, as learning an offset takes many steps."""
        self.mean = float(np.mean(source.columns["value"]))

    def head(self, body, dropout):
        head = super().head(body, dropout)
        head.dense.initial_bias = self.mean
        return head

    def with_targets(self, batches, source, training):
        return labelled(batches, np.float32(source.columns["value"]), references=source.columns["value"])

    def objective(self, forward, batch):
        """Compute the sum of squared errors (see Task) of a batch that has `labels`, float32 [B], and `weights` [B]."""
        errors = forward(batch)["logits"][:, 0] - batch["labels"]
        loss = tf.reduce_sum(batch["weights"] * errors ** 2)
        return {"loss": loss}, {"loss": loss, "count": tf.reduce_sum(batch["weights"])}

    def predict(self, model, batch, outputs):
        return {"value": outputs["logits"][:, 0]}

    def answers(self, predictions, batches):
        return [{"value": value} for value in predictions["value"].tolist()]

    def metrics(self, sums, answers=None, references=None):
        """Compute metrics (see Task): the mean squared error and, given answers, `pearson` and `spearman`."""
        error = float(sums["loss"]) / (float(sums["count"]) or 1.0)
        if answers is None:
            return {"loss": error}
        values = [answer["value"] for answer in answers]
        for one, what in ((values, "predictions"), (references, "labels")):
            if is_constant(one):
                tell(f"pearson and spearman are undefined, since all {what} are equal or some are not finite: they are "
                     "reported as 0")
        return {"loss": error, "mse": error, "pearson": pearson(values, references),
                "spearman": spearman(values, references)}
