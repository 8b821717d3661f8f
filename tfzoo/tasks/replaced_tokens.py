"""Replaced-token detection (Clark et al. 2020, ELECTRA, arXiv:2003.10555)."""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers import Linear, kernels
from tfzoo.layers.configured import arguments
from tfzoo.layers.feed_forward import activation_of
from tfzoo.tasks.heads import Head
from tfzoo.tasks.task import Task


@keras.saving.register_keras_serializable(package="tfzoo")
class ReplacedTokensHead(Head):
    """Predict whether the token at each position was replaced.

    Args:
        hidden_dim: int.
        activation: str, the activation between the two projections.

    Call arguments: see tfzoo.tasks.heads.

    Returns:
        dict with `logits`, float32 [B, T], positive for replaced tokens.
    """

    def __init__(self, hidden_dim, activation="gelu", **layer):
        super().__init__(**layer)
        self.config = arguments(locals())
        self.activation = activation_of(activation)
        self.dense = Linear(hidden_dim, name="dense", dtype=self.dtype_policy)
        self.score = Linear(1, name="score", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        for child in (self.dense, self.score):
            child.build((None, None, self.config["hidden_dim"]))
        self.built = True

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        hidden = kernels.activate(*self.dense.product(outputs["sequence"], training), self.activation)
        return {"logits": ops.cast(self.score(hidden), "float32")[..., 0]}


class ReplacedTokens(Task):
    """Predict which tokens a generator replaced."""

    name, pooled = "replaced_tokens", False

    def suits(self, traits):
        return not traits.causal

    def head(self, body, dropout):
        return ReplacedTokensHead(body.config["hidden_dim"], body.config["activation"], name="head",
                                  dtype=body.dtype_policy)

    def objective(self, forward, batch):
        """Compute the loss (see Task) of a batch that has `labels` [B, T] (1: replaced) and `weights` [B, T]."""
        logits, labels = forward(batch)["logits"], tf.cast(batch["labels"], tf.float32)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        right = tf.cast((logits > 0) == (labels > 0.5), tf.float32)
        loss = tf.reduce_sum(losses * batch["weights"])
        return {"loss": loss}, {"loss": loss, "right": tf.reduce_sum(right * batch["weights"]),
                                "count": tf.reduce_sum(batch["weights"])}
