"""Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2).

Separate query, key and value projections; the softmax is computed in float32 whatever the compute dtype.
"""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.errors import ConfigError
from tfzoo.layers import fused
from tfzoo.layers.dropout import Dropout, randomness_of
from tfzoo.layers.linear import Linear

MASKED = -1e9  # finite, so that a row with nothing to look at gives finite numbers


@keras.saving.register_keras_serializable(package="tfzoo")
class Attention(keras.layers.Layer):
    """Attend from each position of a text to the positions of the same or another one.

    Args:
        num_heads, hidden_dim: int; heads are hidden_dim / num_heads wide.
        dropout: float, on the probabilities.
        use_bias: bool, on the four projections.
        initializer_range: float.

    Call arguments:
        query: float [B, T, D].
        source: float [B, S, D] for cross-attention; None attends to `query` itself.
        visible: bool, True may be seen, broadcastable to [B, H, T, S]; None shows all.
        cache: dict of key and value, float [B, H, S, K]: with `cache_index` the new columns are written there and the
            whole cache is attended to; without it the cache is the projected source of cross-attention.
        cache_index: integer scalar tensor, the column of the first query.
        return_probabilities: bool.
        biased: bool, False leaves the bias of the output to the caller.

    Returns:
        float [B, T, D]; with a cache or the probabilities [B, H, T, S]: a tuple (output, cache, probabilities).

    Raises:
        ConfigError: where num_heads does not divide hidden_dim.
    """

    def __init__(self, num_heads, hidden_dim, dropout=0.0, use_bias=True, initializer_range=0.02, **layer):
        super().__init__(**layer)
        if hidden_dim % num_heads:
            raise ConfigError(f"hidden_dim is {hidden_dim}: num_heads ({num_heads}) must divide it")
        self.config = {"num_heads": num_heads, "hidden_dim": hidden_dim, "dropout": dropout, "use_bias": use_bias,
                       "initializer_range": initializer_range}
        self.num_heads, self.hidden_dim, self.head_dim = num_heads, hidden_dim, hidden_dim // num_heads
        self.query, self.key, self.value, self.output_projection = (
            Linear(hidden_dim, use_bias, initializer_range, name=name, dtype=self.dtype_policy)
            for name in ("query", "key", "value", "output"))
        self.dropout = Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        for child in (self.query, self.key, self.value, self.output_projection, self.dropout):
            child.build((None, None, self.hidden_dim))
        self.built = True

    def _heads(self, tensor):
        batch, length = ops.shape(tensor)[:2]
        tensor = ops.reshape(tensor, (batch, length, self.num_heads, self.head_dim))
        return ops.transpose(tensor, (0, 2, 1, 3))  # [B, H, T, K]

    def _project_together(self, inputs, projections):
        """Project in one product, which is faster than one for each: float [B, T, D] -> list of [B, H, T, K]."""
        kernel = tf.concat([tf.convert_to_tensor(projection.kernel) for projection in projections], 1)
        bias = tf.concat([projection.bias_vector() for projection in projections], 0)
        flat = tf.matmul(tf.reshape(inputs, (-1, self.hidden_dim)), kernel)
        flat = tf.reshape(flat, (*inputs.shape[:2], kernel.shape[1]))
        return fused.split_heads([flat, bias], [], len(projections), self.num_heads)

    def project_source(self, source):
        """Return the cache of cross-attention: dict of key and value, float [B, H, S, K]."""
        return {"key": self._heads(self.key(source)), "value": self._heads(self.value(source))}

    def call(self, query, source=None, visible=None, cache=None, cache_index=None, return_probabilities=False,
             biased=True, training=None):
        batch, length = ops.shape(query)[:2]
        randomness = randomness_of(self.dropout.path)
        fast = training and randomness is not None and cache is None and not return_probabilities
        if fast and source is None:
            heads, *seen = self._project_together(query, [self.query, self.key, self.value])
            seen = dict(zip(("key", "value"), seen))
        elif fast:
            heads, = self._project_together(query, [self.query])
            seen = dict(zip(("key", "value"), self._project_together(source, [self.key, self.value])))
        else:
            heads = self._heads(self.query(query))
            seen = cache
            if cache is None or cache_index is not None:
                seen = self.project_source(query if source is None else source)
        if cache_index is not None:
            seen = {name: ops.slice_update(cache[name], (0, 0, cache_index, 0), ops.cast(seen[name], cache[name].dtype))
                    for name in ("key", "value")}
        scores, scale = tf.matmul(heads, seen["key"], transpose_b=True), self.head_dim ** -0.5  # [B, H, T, S]
        if fast:
            probabilities, others = None, [tf.constant(True) if visible is None else visible, *randomness]
            dropped = fused.masked_softmax([scores], others, scale, self.dropout.rate, MASKED)
        else:
            scores = ops.cast(scores, "float32") * scale
            if visible is not None:
                scores = scores + ops.where(visible, 0.0, MASKED)
            probabilities = ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype)
            dropped = self.dropout(probabilities, training=training)
        mixed = ops.transpose(ops.matmul(dropped, seen["value"]), (0, 2, 1, 3))  # [B, T, H, K]
        output = self.output_projection(ops.reshape(mixed, (batch, length, self.hidden_dim)), biased=biased)
        if cache is None and not return_probabilities:
            return output
        return output, seen, probabilities

    def get_config(self):
        return {**super().get_config(), **self.config}
