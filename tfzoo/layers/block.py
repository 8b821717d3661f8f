"""One encoder block and one decoder block for every family that differs in values only.

norm after (Vaswani et al. 2017, BERT)      norm first (GPT-2, T5, Llama)
    x = norm(x + attention(x))                  x = x + attention(norm(x))
    x = norm(x + feed_forward(x))               x = x + feed_forward(norm(x))
A decoder block with cross-attention has it between the two, with a residual and a norm of its own.
"""
import contextlib

import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers import fused
from tfzoo.layers.attention import Attention
from tfzoo.layers.dropout import Dropout, randomness_of, repeat
from tfzoo.layers.feed_forward import FeedForward
from tfzoo.layers.norm import make_norm

_recompute = [False]


def _rows_of(tensor, positions):
    """Return the rows of [B or 1, N, T, S], as an attention mask, at some query positions, int32 [B, P]."""
    if tensor is None or tensor.shape[2] == 1:
        return tensor
    _, heads, rows, columns = ops.shape(tensor)
    tensor = ops.broadcast_to(tensor, (ops.shape(positions)[0], heads, rows, columns))
    return tf.gather(tensor, positions, axis=2, batch_dims=1)


@contextlib.contextmanager
def recompute_blocks(recompute=True):
    """Let the blocks that are traced inside keep only what goes in, and compute their insides again when gradients are.

    Args:
        recompute: bool, False changes nothing.

    Reference: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174.
    """
    _recompute.append(recompute)
    try:
        yield
    finally:
        _recompute.pop()


@keras.saving.register_keras_serializable(package="tfzoo")
class Block(keras.layers.Layer):
    """Attend, then feed forward, each with residual, norm and dropout.

    Args:
        num_heads, hidden_dim, ffn_dim: int.
        activation: str, see FeedForward.
        norm_first: bool, see the drawing above.
        dropout: float, on the result of each sub-layer and on the attention probabilities.
        epsilon: float, of the norms.
        use_bias: bool, on all projections.
        initializer_range: float.
        cross_attention: bool, attend to `source` too (decoder of an encoder-decoder).
        num_kv_heads, head_dim, scaled, qkv_bias: see Attention.
        norm: "layer" or "rms".

    Call arguments:
        hidden: float [B, T, D].
        visible: bool broadcastable to [B, H, T, S], see Attention.
        rotary, bias: see Attention, for self-attention.
        source, source_visible: float [B, S, D] and what of it may be seen, for cross-attention.
        source_cache: dict, what `cross_attention.project_source(source)` gave, instead of `source`.
        cache, cache_index: see Attention, for self-attention.
        positions: int32 [B, P], compute only the results at these positions; None computes all.
        number: int, how often the block was called before in a stack that shares it: each call drops others.

    Returns:
        (float [B, T, D], or [B, P, D] at the positions; cache or None; attention probabilities [B, H, T, S] or None).
    """

    def __init__(self, num_heads, hidden_dim, ffn_dim, activation="gelu", norm_first=False, dropout=0.0,
                 epsilon=1e-12, use_bias=True, initializer_range=0.02, cross_attention=False, num_kv_heads=0,
                 head_dim=0, norm="layer", scaled=True, qkv_bias=False, **layer):
        super().__init__(**layer)
        self.config = {"num_heads": num_heads, "hidden_dim": hidden_dim, "ffn_dim": ffn_dim, "activation": activation,
                       "norm_first": norm_first, "dropout": dropout, "epsilon": epsilon, "use_bias": use_bias,
                       "initializer_range": initializer_range, "cross_attention": cross_attention,
                       "num_kv_heads": num_kv_heads, "head_dim": head_dim, "norm": norm, "scaled": scaled,
                       "qkv_bias": qkv_bias}
        policy = self.dtype_policy
        self.norm_first = norm_first

        def attention(name):
            return Attention(num_heads, hidden_dim, dropout, use_bias, initializer_range, num_kv_heads, head_dim,
                             scaled, qkv_bias, name=name, dtype=policy)

        def norm_of(name):
            return make_norm(norm, epsilon, f"{name}_norm", policy)

        self.attention, self.attention_norm = attention("attention"), norm_of("attention")
        self.attention_dropout = Dropout(dropout, name="attention_dropout", dtype=policy)
        self.cross_attention = attention("cross_attention") if cross_attention else None
        if cross_attention:
            self.cross_attention_norm = norm_of("cross_attention")
            self.cross_attention_dropout = Dropout(dropout, name="cross_attention_dropout", dtype=policy)
        self.feed_forward = FeedForward(ffn_dim, hidden_dim, activation, initializer_range, use_bias,
                                        name="feed_forward", dtype=policy)
        self.feed_forward_norm = norm_of("feed_forward")
        self.feed_forward_dropout = Dropout(dropout, name="feed_forward_dropout", dtype=policy)

    def build(self, input_shape=None):
        shape = (None, None, self.config["hidden_dim"])
        children = [self.attention, self.attention_norm, self.attention_dropout, self.feed_forward,
                    self.feed_forward_norm, self.feed_forward_dropout]
        if self.cross_attention:
            children += [self.cross_attention, self.cross_attention_norm, self.cross_attention_dropout]
        for child in children:
            child.build(shape)
        self.built = True

    def call(self, hidden, visible=None, rotary=None, bias=None, source=None, source_visible=None, source_cache=None,
             cache=None, cache_index=None, return_probabilities=False, positions=None, number=0, training=None):
        if training and _recompute[-1] and cache is None and not return_probabilities:
            given = [each for each in (hidden, bias, source) if each is not None]

            def forward(hidden, *others):
                others = list(others)
                return self._forward(hidden, visible, rotary, None if bias is None else others.pop(0),
                                     None if source is None else others.pop(0), source_visible, positions=positions,
                                     number=number, training=True)[0]

            return tf.recompute_grad(forward)(*given), None, None
        return self._forward(hidden, visible, rotary, bias, source, source_visible, source_cache, cache, cache_index,
                             return_probabilities, positions, training, number=number)

    def _forward(self, *inputs, number=0, **others):
        with repeat(number):  # inside, as it may be traced again for the gradients
            return self._sub_layers(*inputs, **others)

    def _sub_layers(self, hidden, visible=None, rotary=None, bias=None, source=None, source_visible=None,
                    source_cache=None, cache=None, cache_index=None, return_probabilities=False, positions=None,
                    training=None):
        seen = probabilities = None
        fast = training and randomness_of(self.path) is not None and not return_probabilities and cache is None
        normed = self.attention_norm(hidden, training=training) if self.norm_first else hidden
        every, source_rotary = None, rotary
        if positions is not None:  # keys and values come from every position, all else from these alone
            every, visible = normed, _rows_of(visible, positions)
            bias = _rows_of(bias, positions)
            rotary = rotary and [_rows_of(table, positions) for table in rotary]
            normed, hidden = (tf.gather(part, positions, axis=1, batch_dims=1) for part in (normed, hidden))
        result = self.attention(normed, source=every, visible=visible, rotary=rotary, source_rotary=source_rotary,
                                bias=bias, cache=cache, cache_index=cache_index,
                                return_probabilities=return_probabilities, biased=not fast, training=training)
        if isinstance(result, tuple):
            result, seen, probabilities = result
        hidden = self._add(hidden, result, "attention", self.attention.output_projection, fast, training)
        if self.cross_attention:
            normed = self.cross_attention_norm(hidden, training=training) if self.norm_first else hidden
            result = self.cross_attention(normed, source=source, visible=source_visible, cache=source_cache,
                                          biased=not fast, training=training)
            result = result[0] if isinstance(result, tuple) else result
            hidden = self._add(hidden, result, "cross_attention", self.cross_attention.output_projection, fast,
                               training)
        normed = self.feed_forward_norm(hidden, training=training) if self.norm_first else hidden
        result = self.feed_forward(normed, biased=not fast, training=training)
        return self._add(hidden, result, "feed_forward", self.feed_forward.down, fast, training), seen, probabilities

    def _add(self, hidden, result, name, last, fast, training):
        """Add the result of a sub-layer, dropped; `last` is the projection whose bias a fast one has not added yet."""
        norm, dropout = getattr(self, f"{name}_norm"), getattr(self, f"{name}_dropout")
        if not fast:
            total = hidden + dropout(result, training=training)
            return total if self.norm_first else norm(total, training=training)
        inputs, randomness = [hidden, result, last.bias_vector()], randomness_of(dropout.path)
        if self.norm_first or self.config["norm"] != "layer":
            total = fused.add_dropped(inputs, randomness, dropout.rate)
            return total if self.norm_first else norm(total, training=training)
        return fused.add_normalized([*inputs, *norm.vectors()], randomness, dropout.rate, norm.epsilon)

    def get_config(self):
        return {**super().get_config(), **self.config}
