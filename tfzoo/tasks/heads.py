"""What stands on a body to make it answer: masked words, next words, a class."""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers import Dropout, LayerNorm, Linear, kernels
from tfzoo.layers.cross_entropy import projected_cross_entropy
from tfzoo.layers.embeddings import project
from tfzoo.layers.feed_forward import activation_of
from tfzoo.layers.initializers import truncated_normal


def _words(hidden, inputs, table, bias, only_read, training):
    """Return {logits} on a table, or where the labels are there and only they are read {loss, right}, sums."""
    if not only_read or "labels" not in inputs:
        return {"logits": project(hidden, table, bias)}
    loss, right = projected_cross_entropy(
        tf.reshape(hidden, (-1, table.shape[1])), tf.convert_to_tensor(table),
        tf.zeros(table.shape[0]) if bias is None else tf.convert_to_tensor(bias),
        tf.reshape(inputs["labels"], (-1,)), tf.reshape(inputs["weights"], (-1,)), bool(training),
        (table.trainable, bias is not None and bias.trainable))
    return {"loss": loss, "right": right}


@keras.saving.register_keras_serializable(package="tfzoo")
class MaskedLMHead(keras.layers.Layer):
    """Predict the hidden words: dense, activation, norm, then the tied token table and a bias (BERT's).

    Only `masked_positions` are computed where the inputs have them.

    Args:
        hidden_dim, vocab_size: int.
        activation: str.
        epsilon: float.
        next_sentence: bool, also tell from the pooled vector whether the second text follows the first.
        embedding_dim: int, width of the token table, and so of dense's result; 0 is hidden_dim.

    Call arguments:
        outputs: dict of the body, sequence [B, T, D]; inputs: dict of its inputs.
        body: the model below, whose token table is used.
        only_read: bool, give sums instead of logits where `inputs` have labels and weights.

    Returns:
        dict: logits float32 [B, P, V] at the masked positions, else [B, T, V]; or loss and right, see
        projected_cross_entropy; with next_sentence pair_logits [B, 2] (0 follows, 1 does not).
    """

    def __init__(self, hidden_dim, vocab_size, activation="gelu", epsilon=1e-12, next_sentence=False,
                 embedding_dim=0, **layer):
        super().__init__(autocast=False, **layer)  # weights stay float32
        self.config = {"hidden_dim": hidden_dim, "vocab_size": vocab_size, "activation": activation,
                       "epsilon": epsilon, "next_sentence": next_sentence, "embedding_dim": embedding_dim}
        self.pair = Linear(2, name="pair", dtype=self.dtype_policy) if next_sentence else None
        self.activation = activation_of(activation)
        self.dense = Linear(embedding_dim or hidden_dim, name="dense", dtype=self.dtype_policy)
        self.norm = LayerNorm(epsilon=epsilon, name="norm", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        self.dense.build((None, None, self.config["hidden_dim"]))
        self.norm.build((None, None, self.dense.units))
        if self.pair:
            self.pair.build((None, self.config["hidden_dim"]))
        self.bias = self.add_weight(name="bias", shape=(self.config["vocab_size"],), initializer="zeros",
                                    autocast=False)
        self.built = True

    def reads(self, inputs, body):
        """Return the positions that the head needs, int32 [B, P], or None where it needs all."""
        positions = inputs.get("masked_positions")
        if positions is None or self.pair is None:
            return positions
        return ops.concatenate([ops.zeros_like(positions[:, :1]), positions], axis=1)  # the pooler's comes first

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        positions = inputs.get("masked_positions")
        if positions is None:
            hidden = outputs["sequence"]
        elif "read" in outputs:
            hidden = outputs["read"] if self.pair is None else outputs["read"][:, 1:]
        else:
            hidden = tf.gather(outputs["sequence"], positions, axis=1, batch_dims=1)  # [B, P, D]
        hidden = self.norm(kernels.activate(self.dense.product(hidden, training), self.dense.bias, self.activation))
        result = _words(hidden, inputs, body.embeddings.token, self.bias, only_read, training)
        if self.pair:
            result["pair_logits"] = ops.cast(self.pair(outputs["pooled"]), "float32")
        return result

    def get_config(self):
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="tfzoo")
class CausalLMHead(keras.layers.Layer):
    """Predict each next word by the token table, or by one of the head's own.

    Args:
        vocab_size, hidden_dim: int, of a table of its own; 0 takes the body's.
        scale: float, what the body's result is multiplied with first.
        initializer_range: float.

    Call arguments, returns: as MaskedLMHead, logits [B, T, V].
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
        return _words(hidden, inputs, table, None, only_read, training)

    def get_config(self):
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="tfzoo")
class ClassificationHead(keras.layers.Layer):
    """Classify a text by the pooled vector, or by its last real position where the body has no pooler.

    Args:
        num_labels, hidden_dim: int.
        dropout: float, on the vector.
        use_bias: bool.

    Call arguments: as MaskedLMHead.

    Returns:
        dict: logits float32 [B, C].
    """

    def __init__(self, num_labels, hidden_dim, dropout=0.1, use_bias=True, **layer):
        super().__init__(**layer)
        self.config = {"num_labels": num_labels, "hidden_dim": hidden_dim, "dropout": dropout, "use_bias": use_bias}
        self.dropout = Dropout(dropout, name="dropout", dtype=self.dtype_policy)
        self.dense = Linear(num_labels, use_bias, name="dense", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        self.dropout.build()
        self.dense.build((None, self.config["hidden_dim"]))
        self.built = True

    def reads(self, inputs, body):
        tokens = inputs["token_ids"]
        if body.traits.pooled:
            return ops.zeros_like(tokens[:, :1])
        columns = ops.arange(ops.shape(tokens)[1], dtype=tokens.dtype)
        last = columns if inputs.get("padding_mask") is None else columns * ops.cast(inputs["padding_mask"],
                                                                                     tokens.dtype)
        return ops.max(ops.broadcast_to(last, ops.shape(tokens)), axis=1, keepdims=True)

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        vector = outputs.get("pooled")
        if vector is None and "read" in outputs:
            vector = outputs["read"][:, 0]
        elif vector is None:
            positions = self.reads(inputs, body)
            vector = tf.gather(outputs["sequence"], positions, axis=1, batch_dims=1)[:, 0]
        return {"logits": ops.cast(self.dense(self.dropout(vector, training=training)), "float32")}

    def get_config(self):
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="tfzoo")
class PositionHead(keras.layers.Layer):
    """Give each position a number for each label: a tag, or start and end of an answer.

    Args: as ClassificationHead, dropout on each position.

    Call arguments: as MaskedLMHead.

    Returns:
        dict: logits float32 [B, T, C].
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


@keras.saving.register_keras_serializable(package="tfzoo")
class ReplacedTokensHead(keras.layers.Layer):
    """Tell of each position whether its token was replaced (Clark et al. 2020, ELECTRA, arXiv:2003.10555).

    Args:
        hidden_dim: int.
        activation: str, between the two projections.

    Call arguments: as MaskedLMHead.

    Returns:
        dict: logits float32 [B, T], above 0 where it was.
    """

    def __init__(self, hidden_dim, activation="gelu", **layer):
        super().__init__(**layer)
        self.config = {"hidden_dim": hidden_dim, "activation": activation}
        self.activation = activation_of(activation)
        self.dense = Linear(hidden_dim, name="dense", dtype=self.dtype_policy)
        self.score = Linear(1, name="score", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        for child in (self.dense, self.score):
            child.build((None, None, self.config["hidden_dim"]))
        self.built = True

    def reads(self, inputs, body):
        return None

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        hidden = kernels.activate(self.dense.product(outputs["sequence"], training), self.dense.bias, self.activation)
        return {"logits": ops.cast(self.score(hidden), "float32")[..., 0]}

    def get_config(self):
        return {**super().get_config(), **self.config}
