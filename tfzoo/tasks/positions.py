"""Tasks that answer at each position: tags, where an answer lies, which tokens were replaced."""
import tensorflow as tf

from tfzoo.models import Decoder, Encoder
from tfzoo.tasks.heads import PositionHead, ReplacedTokensHead
from tfzoo.tasks.task import Task


class Tagging(Task):
    """Give each token one of `labels`.

    Args:
        labels: list of str, in the order of the logits.
    """

    name, models = "tagging", (Encoder, Decoder)
    better = ("accuracy", max)

    def __init__(self, labels):
        self.labels = list(labels)

    def body_arguments(self, config):
        return {"pooler": False} if "pooler" in config else {}

    def head(self, config, labels, dtype):
        return PositionHead(len(labels), config["hidden_dim"], config["dropout"], name="head", dtype=dtype)


class QuestionAnswering(Task):
    """Find where the answer to a question begins and ends (Rajpurkar et al. 2016, SQuAD, arXiv:1606.05250)."""

    name, models = "question_answering", (Encoder, Decoder)

    def body_arguments(self, config):
        return {"pooler": False} if "pooler" in config else {}

    def head(self, config, labels, dtype):
        return PositionHead(2, config["hidden_dim"], config["dropout"], name="head", dtype=dtype)

    def objective(self, outputs, batch):
        """Return (summed loss, sums) of a batch with labels int32 [B, 2], start and end, and weights [B]."""
        logits = tf.transpose(outputs["logits"], (0, 2, 1))  # [B, 2, T]
        return super().objective({"logits": logits}, {"labels": batch["labels"], "weights": tf.repeat(
            batch["weights"][:, None] / 2, 2, 1)})


class ReplacedTokens(Task):
    """Tell which tokens a generator has replaced (Clark et al. 2020, ELECTRA, arXiv:2003.10555)."""

    name, models = "replaced_tokens", (Encoder,)

    def body_arguments(self, config):
        return {"pooler": False}

    def head(self, config, labels, dtype):
        return ReplacedTokensHead(config["hidden_dim"], config["activation"], name="head", dtype=dtype)

    def objective(self, outputs, batch):
        """Return (summed loss, sums) of a batch with labels [B, T], 1 where replaced, and weights [B, T]."""
        labels = tf.cast(batch["labels"], tf.float32)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, outputs["logits"])
        right = tf.cast((outputs["logits"] > 0) == (labels > 0.5), tf.float32)
        loss = tf.reduce_sum(losses * batch["weights"])
        return loss, {"loss": loss, "right": tf.reduce_sum(right * batch["weights"]),
                      "count": tf.reduce_sum(batch["weights"])}
