"""The Transformer block that all encoders and decoders use; families differ only in its configuration.

post-norm (Vaswani et al. 2017, BERT)       pre-norm (GPT-2, T5, Llama)
    x = norm(x + attention(x))                  x = x + attention(norm(x))
    x = norm(x + feed_forward(x))               x = x + feed_forward(norm(x))
Cross-attention, if any, is a sub-layer between the two, with its own residual connection and norm.
"""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.layers import kernels
from tfzoo.layers.attention import Attention
from tfzoo.layers.configured import Configured, arguments
from tfzoo.layers.dropout import Dropout
from tfzoo.layers.feed_forward import FeedForward
from tfzoo.layers.norm import make_norm
from tfzoo.layers.taps import NO_TAPS


def _rows_of(tensor, positions):
    # Select the rows for query positions, int32 [B, P], from a mask, bias or rotary table, [B or 1, N, T, S].
    if tensor is None or tensor.shape[2] == 1:
        return tensor
    _, heads, rows, columns = ops.shape(tensor)
    tensor = ops.broadcast_to(tensor, (ops.shape(positions)[0], heads, rows, columns))
    return tf.gather(tensor, positions, axis=2, batch_dims=1)


@keras.saving.register_keras_serializable(package="tfzoo")
class Block(Configured):
    """Apply attention, then a feed-forward layer, each with dropout, a residual connection and a norm.

    Args:
        num_heads, hidden_dim, ffn_dim: int.
        activation: str, an activation that `FeedForward` supports.
        norm_first: bool, use pre-norm instead of post-norm (see the formulas at the top of this module).
        dropout: float, dropout rate for the sub-layer outputs and the attention probabilities.
        epsilon: float, the norms' epsilon.
        use_bias: bool, add a bias to every projection.
        initializer_range: float (see `Linear`).
        cross_attention: bool, also attend to `source` (for the decoder in an encoder-decoder).
        num_kv_heads, head_dim, scaled, qkv_bias: see Attention.
        norm: "layer" or "rms".

    Call arguments:
        hidden: float [B, T, D].
        visible: bool broadcastable to [B, H, T, S], the mask for self-attention (see Attention).
        rotary, bias: for self-attention (see Attention).
        source, source_visible: for cross-attention, float [B, S, D] or Keys, and a mask in the same form as `visible`.
        cache: Cache for self-attention, or None.
        read: int32 [B, P], the positions to compute; None computes all.
        rows: Rows if `hidden` is float [B x T, D], which is faster while not training; None otherwise, or with `read`.
        taps: Taps, for names below `attention` and `cross_attention`.
        training: bool.

    Returns:
        float [B, T, D], or [B, P, D] with `read`, or [B x T, D] with `rows`.
    """

    def __init__(self, num_heads, hidden_dim, ffn_dim, activation="gelu", norm_first=False, dropout=0.0,
                 epsilon=1e-12, use_bias=True, initializer_range=0.02, cross_attention=False, num_kv_heads=0,
                 head_dim=0, norm="layer", scaled=True, qkv_bias=False, **layer):
        super().__init__(**layer)
        self.config = arguments(locals())
        policy = self.dtype_policy
        self.norm_first = norm_first

        def attention(name):
            return Attention(num_heads, hidden_dim, dropout=dropout, use_bias=use_bias,
                             initializer_range=initializer_range, num_kv_heads=num_kv_heads, head_dim=head_dim,
                             scaled=scaled, qkv_bias=qkv_bias, name=name, dtype=policy)

        def norm_of(name):
            return make_norm(norm, epsilon, name=f"{name}_norm", dtype=policy)

        self.attention, self.attention_norm = attention("attention"), norm_of("attention")
        self.attention_dropout = Dropout(dropout, name="attention_dropout", dtype=policy)
        self.cross_attention = attention("cross_attention") if cross_attention else None
        if cross_attention:
            self.cross_attention_norm = norm_of("cross_attention")
            self.cross_attention_dropout = Dropout(dropout, name="cross_attention_dropout", dtype=policy)
        self.feed_forward = FeedForward(ffn_dim, hidden_dim, activation=activation,
                                        initializer_range=initializer_range, use_bias=use_bias, name="feed_forward",
                                        dtype=policy)
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

    def call(self, hidden, *, visible=None, rotary=None, bias=None, source=None, source_visible=None, cache=None,
             read=None, rows=None, taps=NO_TAPS, training=None):
        every, source_rotary = self._before(hidden, self.attention_norm), rotary
        normed = every
        if read is not None:  # compute keys and values for all positions, everything else only for `read`
            visible, bias = _rows_of(visible, read), _rows_of(bias, read)
            rotary = rotary and [_rows_of(table, read) for table in rotary]
            normed, hidden = (tf.gather(part, read, axis=1, batch_dims=1) for part in (normed, hidden))
        mixed = self.attention.mix(normed, None if read is None else every, visible=visible, rotary=rotary,
                                   source_rotary=source_rotary, bias=bias, cache=cache, rows=rows,
                                   taps=taps.below("attention"), training=training)
        hidden = self._after(hidden, mixed, last=self.attention.output_projection,
                             drop=self.attention_dropout.drop(training), norm=self.attention_norm, training=training)
        if self.cross_attention:
            mixed = self.cross_attention.mix(self._before(hidden, self.cross_attention_norm), source,
                                             visible=source_visible, rows=rows, taps=taps.below("cross_attention"),
                                             training=training)
            hidden = self._after(hidden, mixed, last=self.cross_attention.output_projection,
                                 drop=self.cross_attention_dropout.drop(training), norm=self.cross_attention_norm,
                                 training=training)
        inner = self.feed_forward.activated(self._before(hidden, self.feed_forward_norm), training)
        return self._after(hidden, inner, last=self.feed_forward.down, drop=self.feed_forward_dropout.drop(training),
                           norm=self.feed_forward_norm, training=training)

    def _before(self, hidden, norm):
        return norm.call(hidden) if self.norm_first else hidden

    def _after(self, hidden, inner, last, drop, norm, training):
        result, bias = last.product(inner, training)  # one pass adds the bias, dropout, residual and norm
        if self.norm_first:
            return kernels.add(hidden, result, bias=bias, drop=drop)
        return norm.add(hidden, result, bias=bias, drop=drop)
