"""Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2).

The query, key and value projections are separate. The softmax is computed in float32 regardless of the dtype policy.
"""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.errors import ConfigError
from tfzoo.layers import kernels
from tfzoo.layers.blockwise import attend_in_blocks, is_large
from tfzoo.layers.cache import Keys
from tfzoo.layers.configured import Configured, arguments
from tfzoo.layers.dropout import Dropout
from tfzoo.layers.linear import Linear, project_heads
from tfzoo.layers.products import multiply
from tfzoo.layers.taps import NO_TAPS


@keras.saving.register_keras_serializable(package="tfzoo")
class Attention(Configured):
    """Attend from each position in a text to the positions in the same text or another one.

    Args:
        num_heads, hidden_dim: int.
        dropout: float, dropout rate for the attention probabilities.
        use_bias: bool, add a bias to each of the four projections.
        initializer_range: float (see `Linear`).
        num_kv_heads: int, the number of key/value heads, G, each shared by a group of query heads (Ainslie et al. 2023,
            arXiv:2305.13245); 0 to use num_heads.
        head_dim: int, the head width, K; 0 to use hidden_dim / num_heads.
        scaled: bool, divide the scores by sqrt(K); T5 does not.
        qkv_bias: bool, add biases to the query, key and value projections even if use_bias is False.

    Call arguments:
        query: float [B, T, D], or [B x T, D] with `rows`.
        source: float [B, S, D] or the Keys from `project_source`, for cross-attention; None attends to `query` itself.
        visible: bool, broadcastable to [B, H, T, S], True where a key may be attended to; None for everywhere.
        rotary: (cosines, sines) from `rotary_table` for the queries, or None. If source_rotary is None, also for the
            keys.
        source_rotary: (cosines, sines) for the keys, or None.
        bias: float [1, H, T, S], added to the scores (see RelativePositions), or None.
        cache: Cache to extend with the new keys and values; None attends only to the new ones.
        rows: Rows for queries [B x T, D]; None otherwise.
        taps: Taps that may request `probabilities`, float [B, H, T, S], before dropout.
        training: bool.

    Returns:
        float in the shape of `query`.

    Raises:
        ConfigError: if num_heads does not divide hidden_dim and head_dim is 0, or num_kv_heads does not divide
            num_heads.
    """

    def __init__(self, num_heads, hidden_dim, dropout=0.0, use_bias=True, initializer_range=0.02, num_kv_heads=0,
                 head_dim=0, scaled=True, qkv_bias=False, **layer):
        super().__init__(**layer)
        if not head_dim and hidden_dim % num_heads:
            raise ConfigError(f"hidden_dim must be divisible by num_heads ({num_heads}), got {hidden_dim}")
        if num_kv_heads and num_heads % num_kv_heads:
            raise ConfigError(f"num_heads must be divisible by num_kv_heads ({num_kv_heads}), got {num_heads}")
        self.config = arguments(locals())
        self.num_heads, self.hidden_dim, self.head_dim = num_heads, hidden_dim, head_dim or hidden_dim // num_heads
        self.num_kv_heads = num_kv_heads or num_heads
        self.scale = self.head_dim ** -0.5 if scaled else 1.0
        # With unscaled scores and fan-in initialization, fold the missing 1 / sqrt(K) into the query's initializer.
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

    def call(self, query, source=None, *, training=None, **others):
        mixed = self.mix(query, source, training=training, **others)
        return self.output_projection(mixed, training=training)

    def mix(self, query, source=None, *, visible=None, rotary=None, source_rotary=None, bias=None, cache=None,
            rows=None, taps=NO_TAPS, training=None):
        """Return the concatenated outputs of all heads, the input to `output_projection`: float [..., H x K]."""
        drop = self.dropout.drop(training)
        if self._is_single(query, source, rotary=rotary, bias=bias, cache=cache, training=training):
            return self._mix_single(query, source, visible=visible, drop=drop, taps=taps, training=training)
        heads, keys = self._project(query, source, rotary=rotary, rows=rows, training=training,
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
        shape = (-1,) if rows else (ops.shape(mixed)[0], ops.shape(mixed)[2])
        return ops.reshape(kernels.transpose_heads(mixed), (*shape, self.query.units))

    def project_source(self, source, rotary=None, training=None):
        """Project `source`, float [B, S, D], to Keys, and rotate the keys by `rotary`, (cosines, sines) or None."""
        key, value = project_heads(source, [self.key, self.value], width=self.head_dim, training=training)
        return Keys(kernels.rotate(key, rotary), value)

    def _project(self, query, source, rotary, source_rotary, rows, training):
        if source is None:
            heads, key, value = project_heads(query, [self.query, self.key, self.value], width=self.head_dim, rows=rows,
                                              training=training)
            return kernels.rotate(heads, rotary), Keys(kernels.rotate(key, source_rotary), value)
        heads, = project_heads(query, [self.query], width=self.head_dim, rows=rows, training=training)
        keys = source if isinstance(source, Keys) else self.project_source(source, source_rotary, training)
        return kernels.rotate(heads, rotary), keys

    def _grouped_product(self, heads, other, **transposed):
        # [B, H, T, N] x [B, G, ...] -> [B, H, T, M]: each of the G key/value heads serves H / G query heads.
        if heads.shape[1] == self.num_kv_heads:
            return multiply(heads, other, **transposed)
        batch, count, length, width = ops.shape(heads)
        heads = ops.reshape(heads, (batch, self.num_kv_heads, count // self.num_kv_heads * length, width))
        product = multiply(heads, other, **transposed)
        return ops.reshape(product, (batch, count, length, ops.shape(product)[-1]))

    def _is_single(self, query, source, rotary, bias, cache, training):
        # Return whether one query per row attends to a source; then _mix_single need not compute keys and values.
        return query.shape.rank == 3 and query.shape[1] == 1 and source is not None and \
            not isinstance(source, Keys) and rotary is None and bias is None and cache is None and \
            self.num_kv_heads == self.num_heads and not self.key.drops(training) and not self.value.drops(training)

    def _mix_single(self, query, source, visible, drop, taps, training):
        # Instead of projecting every position of the source [B, S, D] to keys and values, multiply the query by the
        # key kernel, score it against the source itself, and multiply the mixed source by the value kernel.
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
