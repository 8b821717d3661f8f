"""Tasks that answer at each position: tags, where an answer lies, which tokens were replaced."""
import tensorflow as tf

from tfzoo.tasks.heads import PositionHead, ReplacedTokensHead
from tfzoo.tasks.task import Task


class Tagging(Task):
    """Give each token one of `labels`.

    Args:
        labels: list of str, in the order of the logits.
    """

    name, pooled = "tagging", False
    better = ("accuracy", max)

    def __init__(self, labels):
        self.labels = list(labels)

    def head(self, body, dropout):
        return PositionHead(len(self.labels), body.config["hidden_dim"], dropout, name="head", dtype=body.dtype_policy)


class QuestionAnswering(Task):
    """Find where the answer to a question begins and ends (Rajpurkar et al. 2016, SQuAD, arXiv:1606.05250)."""

    name, pooled = "question_answering", False

    def head(self, body, dropout):
        return PositionHead(2, body.config["hidden_dim"], dropout, name="head", dtype=body.dtype_policy)

    def objective(self, outputs, batch):
        """Return (summed loss, sums) of a batch with labels int32 [B, 2], start and end, and weights [B]."""
        logits = tf.transpose(outputs["logits"], (0, 2, 1))  # [B, 2, T]
        return super().objective({"logits": logits}, {"labels": batch["labels"], "weights": tf.repeat(
            batch["weights"][:, None] / 2, 2, 1)})


class ReplacedTokens(Task):
    """Tell which tokens a generator has replaced (Clark et al. 2020, ELECTRA, arXiv:2003.10555)."""

    name, pooled = "replaced_tokens", False

    def suits(self, traits):
        return not traits.causal

    def head(self, body, dropout):
        return ReplacedTokensHead(body.config["hidden_dim"], body.config["activation"], name="head",
                                  dtype=body.dtype_policy)

    def objective(self, outputs, batch):
        """Return (summed loss, sums) of a batch with labels [B, T], 1 where replaced, and weights [B, T]."""
        labels = tf.cast(batch["labels"], tf.float32)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, outputs["logits"])
        right = tf.cast((outputs["logits"] > 0) == (labels > 0.5), tf.float32)
        loss = tf.reduce_sum(losses * batch["weights"])
        return loss, {"loss": loss, "right": tf.reduce_sum(right * batch["weights"]),
                      "count": tf.reduce_sum(batch["weights"])}
