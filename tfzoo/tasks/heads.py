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
from tfzoo.layers.configured import Configured, arguments
from tfzoo.layers.cross_entropy import projected_cross_entropy
from tfzoo.layers.embeddings import project
from tfzoo.layers.initializers import truncated_normal
from tfzoo.tasks.embedding import pool, pooled_by


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


class Head(Configured):
    """Base class of heads, by default with the children `dropout` and `dense`, and reading all positions."""

    def build(self, input_shape=None):
        self.dropout.build()
        self.dense.build((None, self.config["hidden_dim"]))
        self.built = True

    def reads(self, inputs, body):
        """Return the positions that the head needs, int32 [B, P], or None for all."""
        return None


@keras.saving.register_keras_serializable(package="tfzoo")
class CausalLMHead(Head):
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
        self.config = arguments(locals())

    def build(self, input_shape=None):
        shape = (self.config["vocab_size"], self.config["hidden_dim"])
        self.table = self.add_weight(name="table", shape=shape, autocast=False, initializer=truncated_normal(
            self.config["initializer_range"], "table")) if shape[0] else None
        self.built = True

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        hidden, table = outputs["sequence"], body.embeddings.token if self.table is None else self.table
        hidden = hidden if self.config["scale"] == 1 else hidden * self.config["scale"]
        return score_words(hidden, inputs, table=table, bias=None, only_read=only_read, training=training)


@keras.saving.register_keras_serializable(package="tfzoo")
class PositionHead(Head):
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
        self.config = arguments(locals())
        self.dropout = Dropout(dropout, name="dropout", dtype=self.dtype_policy)
        self.dense = Linear(num_labels, name="dense", dtype=self.dtype_policy)

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        return {"logits": ops.cast(self.dense(self.dropout(outputs["sequence"], training=training)), "float32")}


@keras.saving.register_keras_serializable(package="tfzoo")
class ClassificationHead(Head):
    """Score labels from one vector for each text.

    Args:
        num_labels, hidden_dim: int.
        dropout: float, dropout rate before the projection.
        use_bias: bool, whether the projection has a bias.
        pooling: str, the vector of a text: "auto", the body's pooled vector, or the last real token if the body has no
            pooler; "first", the first token; "mean" or "max", the mean or the maximum over all real tokens, special
            tokens included.

    Call arguments: see the module docstring.

    Returns:
        dict with `logits`, float32 [B, C].
    """

    def __init__(self, num_labels, hidden_dim, dropout=0.1, use_bias=True, pooling="auto", **layer):
        super().__init__(**layer)
        self.config = arguments(locals())
        self.dropout = Dropout(dropout, name="dropout", dtype=self.dtype_policy)
        self.dense = Linear(num_labels, use_bias, name="dense", dtype=self.dtype_policy)

    def reads(self, inputs, body):
        rows = next((inputs[key] for key in ("padding_mask", "token_ids") if inputs.get(key) is not None), None)
        if rows is None or self.config["pooling"] in ("mean", "max"):
            return None  # without rows, the row length is known only from the body's `embedded`
        shape = ops.shape(rows)
        first = self.config["pooling"] == "first" or body.traits.pooled
        return ops.zeros((shape[0], 1), "int32") if first else self._last(inputs, shape)

    def _last(self, inputs, shape):
        # The last real position of each row, int32 [B, 1]; shape is (B, T).
        columns, mask = ops.arange(shape[1], dtype="int32"), inputs.get("padding_mask")
        last = columns if mask is None else columns * ops.cast(mask, "int32")
        return tf.reduce_max(ops.broadcast_to(last, shape), axis=1, keepdims=True)  # ops.max refuses an empty batch

    def _vector(self, outputs, inputs):
        pooling = self.config["pooling"]
        if pooling == "auto" and outputs.get("pooled") is not None:
            return outputs["pooled"]
        if "read" in outputs:
            return outputs["read"][:, 0]
        sequence = outputs["sequence"]
        if pooling == "auto":
            last = self._last(inputs, ops.shape(sequence)[:2])
            return tf.gather(sequence, last, axis=1, batch_dims=1)[:, 0]
        mask = inputs.get("padding_mask")
        mask = tf.ones(tf.shape(sequence)[:2], tf.int32) if mask is None else mask
        return tf.cast(pool(sequence, mask, pooled_by(pooling)), sequence.dtype)

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        vector = self.dropout(self._vector(outputs, inputs), training=training)
        return {"logits": ops.cast(self.dense(vector), "float32")}
