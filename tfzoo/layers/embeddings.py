"""Token, position and segment embeddings, and the projection tied to the token table.

Positions are learned as in BERT and GPT-2, or sinusoidal as in Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
"""
import keras
import numpy as np
from keras import ops

from tfzoo.errors import ConfigError
from tfzoo.layers import context
from tfzoo.layers.configured import Configured, arguments
from tfzoo.layers.dropout import Dropout
from tfzoo.layers.initializers import truncated_normal
from tfzoo.layers.norm import LayerNorm
from tfzoo.layers.products import multiply

POSITIONS = ("learned", "sinusoidal", "none")


def sinusoidal_positions(length, width):
    """Return the sinusoidal position table, float32 [length, width]: sines in even columns, cosines in odd ones."""
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, width, 2) / width)[None]
    table = np.zeros((length, width), np.float32)
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles)[:, :width // 2]
    return table


def project(hidden, table, bias=None):
    """Return float32 logits [..., V] for `hidden`, float [..., D], a token table [V, D] and a bias, [V] or None."""
    flat = ops.reshape(hidden, (-1, table.shape[1]))
    logits = ops.cast(multiply(flat, context.cast(table, hidden.dtype), transpose_b=True), "float32")
    if bias is not None:
        logits = logits + ops.cast(bias, "float32")
    return ops.reshape(logits, (*ops.shape(hidden)[:-1], table.shape[0]))


@keras.saving.register_keras_serializable(package="tfzoo")
class Embeddings(Configured):
    """Sum token, position and segment embeddings, then normalize and apply dropout.

    Args:
        vocab_size, hidden_dim, max_length: int.
        num_segments: int, 0 for none; with 1, segment_ids are ignored, because all tokens belong to the same segment.
        positions: "learned", "sinusoidal" or "none".
        normalize: bool, apply layer normalization to the sum (child `norm`).
        scale: bool, multiply the token embeddings by sqrt(hidden_dim).
        dropout, epsilon: float.
        initializer_range: float, standard deviation of the initial token and segment embeddings.
        position_range: float, standard deviation of the initial position embeddings, if learned.

    Call arguments:
        token_ids: int32 [B, T]; may be None if `embedded` is given.
        segment_ids, position_ids: int32 [B, T], or None for segment 0 and positions 0 to T - 1.
        embedded: float [B, T, D], embeddings to use instead of looking up token_ids; None looks up token_ids.
        training: bool.

    Returns:
        float [B, T, D].

    Raises:
        ConfigError: if `positions` has an unknown value.
    """

    def __init__(self, vocab_size, hidden_dim, max_length, num_segments=0, positions="learned", normalize=False,
                 scale=False, dropout=0.0, epsilon=1e-12, initializer_range=0.02, position_range=0.02, **layer):
        super().__init__(**layer)
        if positions not in POSITIONS:
            raise ConfigError(f"positions must be one of {', '.join(POSITIONS)}, got {positions!r}")
        self.config = arguments(locals())
        self.hidden_dim = hidden_dim
        self.norm = LayerNorm(epsilon=epsilon, name="norm", dtype=self.dtype_policy) if normalize else None
        self.dropout = Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        config = self.config
        shape = (config["vocab_size"], self.hidden_dim)
        # Autocast would cast the whole table instead of just the rows that are looked up.
        self.token = self.add_weight(name="token", shape=shape, autocast=False,
                                     initializer=truncated_normal(config["initializer_range"], "token"))
        if config["positions"] == "learned":
            self.position = self.add_weight(name="position", shape=(config["max_length"], self.hidden_dim),
                                            initializer=truncated_normal(config["position_range"], "position"))
        elif config["positions"] == "sinusoidal":
            self.position = sinusoidal_positions(config["max_length"], self.hidden_dim)
        if config["num_segments"]:
            self.segment = self.add_weight(name="segment", shape=(config["num_segments"], self.hidden_dim),
                                           initializer=truncated_normal(config["initializer_range"], "segment"))
        if self.norm:
            self.norm.build((None, None, self.hidden_dim))
        self.dropout.build()
        self.built = True

    def call(self, token_ids, *, segment_ids=None, position_ids=None, embedded=None, training=None):
        config = self.config
        look_up = context.current().lookup or (lambda table, ids: ops.take(table, ids, axis=0))
        table = context.cast(self.token, self.compute_dtype) if context.stores() else self.token
        total = look_up(table, token_ids) if embedded is None else embedded
        total = ops.cast(total, self.compute_dtype)
        if config["scale"]:
            total = total * self.hidden_dim ** 0.5
        if config["positions"] != "none":
            table = context.cast(self.position, self.compute_dtype)
            length = ops.shape(total)[1]
            total = total + (table[None, :length] if position_ids is None else ops.take(table, position_ids, axis=0))
        if config["num_segments"]:
            table = context.cast(self.segment, self.compute_dtype)
            if segment_ids is None or config["num_segments"] == 1:
                total = total + table[0]
            else:
                total = total + ops.matmul(ops.one_hot(segment_ids, config["num_segments"], dtype=table.dtype), table)
        if self.norm:
            total = self.norm(total)
        return self.dropout(total, training=training)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.hidden_dim)
