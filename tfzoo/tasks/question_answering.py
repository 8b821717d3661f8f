"""Extractive question answering (Rajpurkar et al. 2016, SQuAD, arXiv:1606.05250)."""
import tensorflow as tf

from tfzoo.tasks.heads import PositionHead
from tfzoo.tasks.task import Task, cross_entropy, smooth


class QuestionAnswering(Task):
    """Predict where the answer to a question starts and ends."""

    name, pooled = "question_answering", False

    def head(self, body, dropout):
        return PositionHead(2, body.config["hidden_dim"], dropout, name="head", dtype=body.dtype_policy)

    def objective(self, forward, batch):
        """Compute the loss (see Task) of a batch that has `labels`, int32 [B, 2] (start, end), and `weights` [B]."""
        logits = tf.transpose(forward(batch)["logits"], (0, 2, 1))  # [B, 2, T]
        weights = tf.repeat(batch["weights"][:, None] / 2, 2, 1)
        loss, right = cross_entropy(logits, batch["labels"], weights)
        term = smooth(loss, logits, batch["labels"], weights, self.label_smoothing)
        return {"loss": term}, {"loss": loss, "right": right, "count": tf.reduce_sum(weights)}
