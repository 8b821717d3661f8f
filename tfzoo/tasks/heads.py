"""Heads shared by several tasks, and the interface that all heads implement.

A head is a layer called as `head(outputs, inputs=, body=, only_read=, training=)` with the body's outputs, its inputs
and the body itself. It returns a dict with `logits`. With `only_read`, if the inputs contain labels and weights, heads
with large logits instead return `loss` (the weighted sum of the losses), `right` (the total weight of the correct
predictions) and, if the inputs contain a `label_smoothing`, `smoothed` (the weighted sum of the smoothed losses).
`reads(inputs, body)` returns the positions that the head needs, int32 [B, P], or None for all.
"""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers import Dropout, Linear
from tfzoo.layers.cross_entropy import projected_cross_entropy
from tfzoo.layers.embeddings import project
from tfzoo.layers.initializers import truncated_normal


def score_words(hidden, inputs, table, bias, only_read, training):
    """Score hidden states against the vocabulary.

    Args:
        hidden: [..., D].
        inputs: dict of tensors; with only_read, `labels`, `weights` and the scalar `label_smoothing` are used.
        table: [V, D], the output projection.
        bias: [V], or None.
        only_read: bool, if the inputs contain labels, compute only `loss` and `right`, not `logits`.
        training: bool.

    Returns:
        dict with `logits` float32 [..., V]; or with float32 scalars, `loss` (the weighted sum of the losses), `right`
        (the total weight of the correct predictions) and, with label_smoothing, `smoothed`.
    """
    if not only_read or "labels" not in inputs:
        return {"logits": project(hidden, table, bias)}
    smoothing = inputs.get("label_smoothing")
    loss, right, smoothed = projected_cross_entropy(
        tf.reshape(hidden, (-1, table.shape[1])), tf.convert_to_tensor(table),
        bias=tf.zeros(table.shape[0]) if bias is None else tf.convert_to_tensor(bias),
        labels=tf.reshape(inputs["labels"], (-1,)), weights=tf.reshape(inputs["weights"], (-1,)),
        training=bool(training), trained=(table.trainable, bias is not None and bias.trainable), smoothing=smoothing)
    return {"loss": loss, "right": right, **({} if smoothing is None else {"smoothed": smoothed})}


@keras.saving.register_keras_serializable(package="tfzoo")
class CausalLMHead(keras.layers.Layer):
    """Predict each next token with the body's token table (tied), or with the head's own table.

    Args:
        vocab_size, hidden_dim: int, the shape of the head's own table; 0 to use the body's table.
        scale: float, factor applied to the body's output before the projection.
        initializer_range: float, standard deviation for initializing the head's own table.

    Call arguments: see the module docstring.

    Returns:
        dict with `logits` float32 [B, T, V]; or with two float32 scalars, `loss` (the weighted sum of the losses) and
        `right` (the total weight of the correct predictions).
    """

    def __init__(self, vocab_size=0, hidden_dim=0, scale=1.0, initializer_range=0.02, **layer):
        super().__init__(autocast=False, **layer)  # weights stay float32
        self.config = {"vocab_size": vocab_size, "hidden_dim": hidden_dim, "scale": scale,
                       "initializer_range": initializer_range}

    def build(self, input_shape=None):
        shape = (self.config["vocab_size"], self.config["hidden_dim"])
        self.table = self.add_weight(name="table", shape=shape, autocast=False, initializer=truncated_normal(
            self.config["initializer_range"], "table")) if shape[0] else None
        self.built = True

    def reads(self, inputs, body):
        return None

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        hidden, table = outputs["sequence"], body.embeddings.token if self.table is None else self.table
        hidden = hidden if self.config["scale"] == 1 else hidden * self.config["scale"]
        return score_words(hidden, inputs, table=table, bias=None, only_read=only_read, training=training)

    def get_config(self):
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="tfzoo")
class PositionHead(keras.layers.Layer):
    """Score each label at each position: tags, or the start and end of an answer.

    Args:
        num_labels, hidden_dim: int.
        dropout: float, dropout rate before the projection.

    Call arguments: see the module docstring.

    Returns:
        dict with `logits` float32 [B, T, C].
    """

    def __init__(self, num_labels, hidden_dim, dropout=0.0, **layer):
        super().__init__(**layer)
        self.config = {"num_labels": num_labels, "hidden_dim": hidden_dim, "dropout": dropout}
        self.dropout = Dropout(dropout, name="dropout", dtype=self.dtype_policy)
        self.dense = Linear(num_labels, name="dense", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        self.dropout.build()
        self.dense.build((None, self.config["hidden_dim"]))
        self.built = True

    def reads(self, inputs, body):
        return None

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        return {"logits": ops.cast(self.dense(self.dropout(outputs["sequence"], training=training)), "float32")}

    def get_config(self):
        return {**super().get_config(), **self.config}
