"""Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2).

Separate query, key and value projections; the softmax is computed in float32 whatever the compute dtype. Scores of long
texts are made for a block of query rows at a time, and again for the gradients (Rabe & Staats 2021, arXiv:2112.05682,
without their blocks of keys), so that memory grows with the length and not with its square.
"""
import math

import keras
import tensorflow as tf
from keras import ops

from tfzoo.errors import ConfigError
from tfzoo.layers import fused
from tfzoo.layers.dropout import Dropout, randomness_of
from tfzoo.layers.linear import Linear
from tfzoo.layers.positions import rotate

MASKED = -1e9  # finite, so that a row with nothing to look at gives finite numbers
LARGE = 2 ** 26  # more scores [B, H, T, S] than these (256 MB in float32) are made in blocks
BLOCK = 128  # query rows in a block: with heads 64 wide its scores have as many elements as two of [B, S, D]


def attend_in_blocks(mix, queries, keys, values, visible):
    """Attend from one block of query rows after the other; the gradients compute each block again.

    Args:
        mix: callable (queries float [B, H, C, K], keys, values, visible bool or None, first row) -> float [B, H, C, K].
        queries: float [B, H, T, K], of static shape; keys, values: float [B, H, S, K].
        visible: bool broadcastable to [B, H, T, S], or None.

    Returns:
        float [B, T, H, K].
    """
    batch, heads, length, width = queries.shape
    count = math.ceil(length / BLOCK)
    rows = math.ceil(length / count)  # C
    padded = tf.pad(queries, ((0, 0), (0, 0), (0, count * rows - length), (0, 0)))
    blocks = tf.transpose(tf.reshape(padded, (batch, heads, count, rows, width)), (2, 0, 1, 3, 4))

    def mix_block(number, queries, keys, values):
        seen = visible
        if visible is not None and visible.shape[2] != 1:  # what the padding sees is cut off, and no mask is padded
            seen = tf.gather(visible, tf.minimum(number * rows + tf.range(rows), length - 1), axis=2)
        return mix(queries, keys, values, seen, number * rows)

    @tf.custom_gradient
    def run(*inputs):
        blocks, keys, values = map(tf.stop_gradient, inputs)  # or an eager tape would keep what is inside

        def gradients(upstream):
            def add(number, of_blocks, *sums):
                inputs = [blocks[number], keys, values]
                with tf.GradientTape() as tape:
                    tape.watch(inputs)
                    mixed = mix_block(number, *inputs)
                of_block, *more = tape.gradient(mixed, inputs, upstream[number])
                sums = [total + tf.cast(part, total.dtype) for total, part in zip(sums, more)]
                return number + 1, of_blocks.write(number, of_block), *sums

            start = (tf.constant(0), tf.TensorArray(blocks.dtype, count, element_shape=blocks.shape[1:]),
                     tf.zeros(keys.shape), tf.zeros(values.shape))  # float32: many blocks add to them
            _, of_blocks, *sums = tf.while_loop(lambda number, *_: number < count, add, start, parallel_iterations=1,
                                                maximum_iterations=count)
            return of_blocks.stack(), *(tf.cast(total, keys.dtype) for total in sums)

        # One after the other, or the blocks would share the memory that they are there to save.
        return tf.map_fn(lambda given: mix_block(*given, keys, values), (tf.range(count), blocks),
                         fn_output_signature=blocks.dtype, parallel_iterations=1), gradients

    mixed = tf.transpose(run(blocks, keys, values), (1, 0, 3, 2, 4))  # [B, T / C, C, H, K]
    return tf.reshape(mixed, (batch, count * rows, heads, width))[:, :length]


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
        source: float [B, S, D] for cross-attention; None attends to `query` itself.
        visible: bool, True may be seen, broadcastable to [B, H, T, S]; None shows all.
        rotary: (cosines, sines) of rotary_table for the queries, and without source_rotary for the keys; None: none.
        source_rotary: the same for the keys.
        bias: float [1, H, T, S], added to the scores, see RelativePositions; None: nothing.
        cache: dict of key and value, float [B, G, S, K]: with `cache_index` the new columns are written there and the
            whole cache is attended to; without it the cache is the projected source of cross-attention.
        cache_index: integer scalar tensor, the column of the first query.
        return_probabilities: bool.
        biased: bool, False leaves the bias of the output to the caller.

    Returns:
        float [B, T, D]; with a cache or the probabilities [B, H, T, S]: a tuple (output, cache, probabilities).

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

    def _heads(self, tensor):
        batch, length, width = ops.shape(tensor)
        tensor = ops.reshape(tensor, (batch, length, width // self.head_dim, self.head_dim))
        return ops.transpose(tensor, (0, 2, 1, 3))  # [B, H, T, K]

    def _project_together(self, inputs, projections):
        """Project in one product, which is faster than one for each: float [B, T, D] -> list of [B, H, T, K]."""
        kernel = tf.concat([tf.convert_to_tensor(projection.kernel) for projection in projections], 1)
        bias = tf.concat([projection.bias_vector() for projection in projections], 0)
        flat = tf.matmul(tf.reshape(inputs, (-1, self.hidden_dim)), kernel)
        flat = tf.reshape(flat, (*inputs.shape[:2], kernel.shape[1]))
        return fused.split_heads([flat, bias], [], tuple(each.units // self.head_dim for each in projections))

    def project_source(self, source, rotary=None):
        """Return keys, turned by a table of rotary_table, and values: dict of key and value, float [B, G, S, K]."""
        return {"key": rotate(self._heads(self.key(source)), rotary), "value": self._heads(self.value(source))}

    def _grouped(self, tensor):
        """Put the query heads that share a key head below each other: [B, H, T, N] -> [B, G, H / G x T, N]."""
        batch, heads, length, width = ops.shape(tensor)
        if heads == self.num_kv_heads:
            return tensor
        return ops.reshape(tensor, (batch, self.num_kv_heads, heads // self.num_kv_heads * length, width))

    def _scores(self, heads, key):
        scores = tf.matmul(self._grouped(heads), key, transpose_b=True)
        return ops.reshape(scores, (*ops.shape(heads)[:3], ops.shape(key)[2]))  # [B, H, T, S]

    def _mixed(self, probabilities, value):
        mixed = tf.matmul(self._grouped(probabilities), value)
        return ops.reshape(mixed, (*ops.shape(probabilities)[:3], self.head_dim))  # [B, H, T, K]

    def _probabilities(self, scores, visible, bias):
        scores = ops.cast(scores, "float32") * self.scale
        if bias is not None:
            scores = scores + ops.cast(bias, "float32")
        if visible is not None:
            scores = scores + ops.where(visible, 0.0, MASKED)
        return ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype)

    def _dropped(self, scores, visible, first, length, randomness, bias=None):
        others = [tf.constant(True) if visible is None else visible, *randomness, first]
        inputs = [scores] if bias is None else [scores, bias]
        return fused.masked_softmax(inputs, others, self.scale, self.dropout.rate, MASKED, length)

    def _mix(self, heads, key, value, visible, first, length, randomness, bias=None):
        """Mix values for the queries from row `first` of `length`, dropping where there is randomness: [B, H, T, K]."""
        scores = self._scores(heads, key)
        if randomness is None:
            return self._mixed(self._probabilities(scores, visible, bias), value)
        return self._mixed(self._dropped(scores, visible, first, length, randomness, bias), value)

    def _mix_source(self, query, source, visible, randomness):
        """Attend with one query a row [B, 1, D] without keys and values of the source [B, S, D]: [B, 1, D].

        The query goes through the keys' kernel and meets the source itself; the mixed source goes through the values'.
        """
        heads = tf.reshape(self.query(query), (-1, self.num_heads, self.head_dim))
        keys, values = (tf.reshape(tf.convert_to_tensor(projection.kernel), (-1, self.num_heads, self.head_dim))
                        for projection in (self.key, self.value))
        moved = tf.einsum("bhk,dhk->bhd", heads, keys)
        scores = tf.matmul(moved, source, transpose_b=True)  # [B, H, S]
        bias = tf.reshape(self.key.bias_vector(), (self.num_heads, self.head_dim))
        scores += tf.reduce_sum(heads * bias, -1, keepdims=True)
        dropped = self._dropped(scores[:, :, None], visible, tf.constant(0), 1, randomness)[:, :, 0]
        mixed = tf.einsum("bhd,dhk->bhk", tf.matmul(dropped, source), values)
        bias = tf.reshape(self.value.bias_vector(), (self.num_heads, self.head_dim))
        mixed += tf.reduce_sum(dropped, -1, keepdims=True) * bias
        return tf.reshape(mixed, (-1, 1, self.query.units))

    def _drawn_randomness(self):
        """Key the dropout of a step of plain Keras training: the blocks must draw the same bits twice."""
        key = self.dropout.seed_generator.next() if self.dropout.rate else tf.zeros(2)
        return [tf.cast(key, tf.uint32), tf.constant(0), tf.constant(0)]

    def call(self, query, source=None, visible=None, rotary=None, source_rotary=None, bias=None, cache=None,
             cache_index=None, return_probabilities=False, biased=True, training=None):
        batch, length = ops.shape(query)[:2]
        randomness = randomness_of(self.dropout.path) if training else None
        lean = cache is None and not return_probabilities
        fast = lean and randomness is not None
        source_rotary = rotary if source_rotary is None else source_rotary
        plain = rotary is None and bias is None and self.num_kv_heads == self.num_heads
        if fast and plain and length == 1 and source is not None:
            mixed = self._mix_source(query, source, visible, randomness)
            return self.output_projection(mixed, biased=biased)
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
                seen = self.project_source(query if source is None else source, source_rotary)
        heads = rotate(heads, rotary, fast)
        if fast:
            seen["key"] = rotate(seen["key"], source_rotary, fast)
        if cache_index is not None:
            seen = {name: ops.slice_update(cache[name], (0, 0, cache_index, 0), ops.cast(seen[name], cache[name].dtype))
                    for name in ("key", "value")}
        shape, probabilities = (*heads.shape[:3], seen["key"].shape[2]), None
        if lean and bias is None and None not in shape and math.prod(shape) > LARGE:
            if training and randomness is None:
                randomness = self._drawn_randomness()
            mixed = attend_in_blocks(lambda *given: self._mix(*given, length, randomness), heads, seen["key"],
                                     seen["value"], visible)
        else:
            if fast:
                mixed = self._mix(heads, seen["key"], seen["value"], visible, tf.constant(0), length, randomness, bias)
            else:
                probabilities = self._probabilities(self._scores(heads, seen["key"]), visible, bias)
                mixed = self._mixed(self.dropout(probabilities, training=training), seen["value"])
            mixed = ops.transpose(mixed, (0, 2, 1, 3))  # [B, T, H, K]
        output = self.output_projection(ops.reshape(mixed, (batch, length, self.query.units)), biased=biased)
        return output if lean else (output, seen, probabilities)

    def get_config(self):
        return {**super().get_config(), **self.config}
