"""Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2).

Separate query, key and value projections; the softmax is computed in float32 whatever the compute dtype.
"""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.errors import ConfigError
from tfzoo.layers import kernels
from tfzoo.layers.blockwise import attend_in_blocks, is_large
from tfzoo.layers.cache import Keys
from tfzoo.layers.dropout import Dropout
from tfzoo.layers.linear import Linear, project_heads
from tfzoo.layers.products import multiply
from tfzoo.layers.taps import NO_TAPS


@keras.saving.register_keras_serializable(package="tfzoo")
class Attention(keras.layers.Layer):
    """Attend from each position of a text to the positions of the same or another one.

    Args:
        num_heads, hidden_dim: int.
        dropout: float, on the probabilities.
        use_bias: bool, on the four projections.
        initializer_range: float.
        num_kv_heads: int, G, heads of keys and values, which groups of query heads share (Ainslie et al. 2023,
            arXiv:2305.13245); 0 is num_heads.
        head_dim: int, K; 0 is hidden_dim / num_heads.
        scaled: bool, divide the scores by sqrt(K); T5 does not.
        qkv_bias: bool, a bias on query, key and value even without use_bias.

    Call arguments:
        query: float [B, T, D].
        source: float [B, S, D], or the Keys of `project_source`, for cross-attention; None attends to `query` itself.
        visible: bool, True may be seen, broadcastable to [B, H, T, S]; None shows all.
        rotary: (cosines, sines) of rotary_table for the queries, and without source_rotary for the keys; None: none.
        source_rotary: the same for the keys.
        bias: float [1, H, T, S], added to the scores, see RelativePositions; None: nothing.
        cache: Cache, which the new keys and values extend; None: no others are attended to.
        taps: Taps, of `probabilities` float [B, H, T, S], none dropped.
        training: bool.

    Returns:
        float [B, T, D].

    Raises:
        ConfigError: where num_heads does not divide hidden_dim, or num_kv_heads num_heads.
    """

    def __init__(self, num_heads, hidden_dim, dropout=0.0, use_bias=True, initializer_range=0.02, num_kv_heads=0,
                 head_dim=0, scaled=True, qkv_bias=False, **layer):
        super().__init__(**layer)
        if not head_dim and hidden_dim % num_heads:
            raise ConfigError(f"hidden_dim is {hidden_dim}: num_heads ({num_heads}) must divide it")
        if num_kv_heads and num_heads % num_kv_heads:
            raise ConfigError(f"num_heads is {num_heads}: num_kv_heads ({num_kv_heads}) must divide it")
        self.config = {"num_heads": num_heads, "hidden_dim": hidden_dim, "dropout": dropout, "use_bias": use_bias,
                       "initializer_range": initializer_range, "num_kv_heads": num_kv_heads, "head_dim": head_dim,
                       "scaled": scaled, "qkv_bias": qkv_bias}
        self.num_heads, self.hidden_dim, self.head_dim = num_heads, hidden_dim, head_dim or hidden_dim // num_heads
        self.num_kv_heads = num_kv_heads or num_heads
        self.scale = self.head_dim ** -0.5 if scaled else 1.0
        # Where scores are not divided and weights begin by their fan-in, what is left out begins in the query's.
        of_query = initializer_range or (hidden_dim ** -0.5 * (1 if scaled else self.head_dim ** -0.5))
        self.query, self.key, self.value = (
            Linear(heads * self.head_dim, use_bias or qkv_bias, spread, name=name, dtype=self.dtype_policy)
            for name, heads, spread in (("query", num_heads, of_query),
                                        ("key", self.num_kv_heads, initializer_range),
                                        ("value", self.num_kv_heads, initializer_range)))
        self.output_projection = Linear(hidden_dim, use_bias, initializer_range, name="output", dtype=self.dtype_policy)
        self.dropout = Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        for child in (self.query, self.key, self.value, self.dropout):
            child.build((None, None, self.hidden_dim))
        self.output_projection.build((None, None, self.query.units))
        self.built = True

    def call(self, query, source=None, *, visible=None, rotary=None, source_rotary=None, bias=None, cache=None,
             taps=NO_TAPS, training=None):
        mixed = self.mix(query, source, visible=visible, rotary=rotary, source_rotary=source_rotary, bias=bias,
                         cache=cache, taps=taps, training=training)
        return self.output_projection(mixed, training=training)

    def mix(self, query, source=None, *, visible=None, rotary=None, source_rotary=None, bias=None, cache=None,
            taps=NO_TAPS, training=None):
        """Return what `output_projection` takes, the mixed values of all heads: float [B, T, H x K]."""
        drop = self.dropout.drop(training)
        if self._is_single(query, source, rotary=rotary, bias=bias, cache=cache, training=training):
            return self._mix_single(query, source, visible=visible, drop=drop, taps=taps, training=training)
        heads, keys = self._project(query, source, rotary=rotary, training=training,
                                    source_rotary=rotary if source_rotary is None else source_rotary)
        keys = keys if cache is None else cache.extend(keys)
        length = heads.shape[2]

        def mix(heads, key, value, visible, first=0, bias=None):
            scores = self._grouped_product(heads, key, transpose_b=True)  # [B, H, T, S]
            probabilities = kernels.softmax(scores, self.scale, visible=visible, bias=bias, drop=drop, first=first,
                                            length=length)
            return self._grouped_product(probabilities, value)  # [B, H, T, K]

        if taps.wants("probabilities"):
            scores = self._grouped_product(heads, keys.key, transpose_b=True)
            probabilities = taps.note("probabilities", kernels.softmax(scores, self.scale, visible=visible, bias=bias))
            mixed = self._grouped_product(kernels.dropout(probabilities, drop), keys.value)
        elif bias is None and is_large(heads, keys.key):
            mixed = attend_in_blocks(mix, heads, *keys, visible)
        else:
            mixed = mix(heads, *keys, visible, bias=bias)
        batch, _, length, _ = ops.shape(mixed)
        return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (batch, length, self.query.units))

    def project_source(self, source, rotary=None, training=None):
        """Return the Keys of a source float [B, S, D], turned by a table of rotary_table."""
        key, value = project_heads(source, [self.key, self.value], width=self.head_dim, training=training)
        return Keys(kernels.rotate(key, rotary), value)

    def _project(self, query, source, rotary, source_rotary, training):
        """Return the heads of the queries, float [B, H, T, K], and the Keys."""
        if source is None:
            heads, key, value = project_heads(query, [self.query, self.key, self.value], width=self.head_dim,
                                              training=training)
            return kernels.rotate(heads, rotary), Keys(kernels.rotate(key, source_rotary), value)
        heads, = project_heads(query, [self.query], width=self.head_dim, training=training)
        keys = source if isinstance(source, Keys) else self.project_source(source, source_rotary, training)
        return kernels.rotate(heads, rotary), keys

    def _grouped_product(self, heads, other, **transposed):
        """Multiply [B, H, T, N] with [B, G, ...], whose heads groups of H / G share: [B, H, T, M]."""
        batch, count, length, width = ops.shape(heads)
        if count != self.num_kv_heads:
            heads = ops.reshape(heads, (batch, self.num_kv_heads, count // self.num_kv_heads * length, width))
        product = multiply(heads, other, **transposed)
        return ops.reshape(product, (batch, count, length, ops.shape(product)[-1]))

    def _is_single(self, query, source, rotary, bias, cache, training):
        """Return whether one query a row attends to a source, which can do without keys and values of its own."""
        return query.shape[1] == 1 and source is not None and not isinstance(source, Keys) and \
            rotary is None and bias is None and cache is None and self.num_kv_heads == self.num_heads and \
            not self.key.drops(training) and not self.value.drops(training)

    def _mix_single(self, query, source, visible, drop, taps, training):
        """Attend with one query a row [B, 1, D] without keys and values of the source [B, S, D]: [B, 1, H x K].

        The query goes through the keys' kernel and meets the source itself; the mixed source goes through the values'.
        """
        heads = tf.reshape(self.query(query, training=training), (-1, self.num_heads, self.head_dim))
        keys, values = (tf.reshape(projection.weight(), (-1, self.num_heads, self.head_dim))
                        for projection in (self.key, self.value))
        moved = tf.einsum("bhk,dhk->bhd", heads, keys)
        scores = multiply(moved, source, transpose_b=True)  # [B, H, S]
        if self.key.bias is not None:
            scores += tf.reduce_sum(heads * self._bias_of(self.key), -1, keepdims=True)
        if taps.wants("probabilities"):
            taps.note("probabilities", kernels.softmax(scores[:, :, None], self.scale, visible))
        dropped = kernels.softmax(scores[:, :, None], self.scale, visible, drop=drop)[:, :, 0]
        mixed = tf.einsum("bhd,dhk->bhk", multiply(dropped, source), values)
        if self.value.bias is not None:
            mixed += tf.reduce_sum(dropped, -1, keepdims=True) * self._bias_of(self.value)
        return tf.reshape(mixed, (-1, 1, self.query.units))

    def _bias_of(self, projection):
        return tf.reshape(ops.cast(projection.bias, self.compute_dtype), (self.num_heads, self.head_dim))

    def get_config(self):
        return {**super().get_config(), **self.config}
