"""What stands between the matrix products of a training step, each compiled into one pass over memory.

Without it every addition, cast and mask of a GELU or a norm is a pass of its own, and all of their results are kept for
the backward pass. Here the backward pass computes them again from what went in. Used while training by the trainer
(`step_randomness`); everything else runs the plain layers, which a test holds equal.
"""
import functools
import math

import tensorflow as tf


def jitted(function):
    return tf.function(function, jit_compile=True, autograph=False)


def fused(sums):
    """Make a decorator that compiles an element-wise function into one kernel and its gradient into another.

    The gradient starts from what went in. That of a vector, which is spread over all rows, is a sum over the rows.

    Args:
        sums: dict of the place of a vector -> the place of the input whose gradient it sums, for vectors that are added
            to an input; None sums what comes from above. Other vectors have sums of their own.

    Returns:
        Decorator of a function (list of float tensors, list of other tensors, *plain values) -> float tensor or list of
        them, with vectors given in float32. What it makes is called the same; gradients flow to the float tensors.
    """
    def decorate(function):
        @jitted
        def forward(inputs, others, *plain):
            return function([_widen(value) for value in inputs], others, *plain)

        @jitted
        def backward(upstream, inputs, others, *plain):
            spread = [tf.broadcast_to(_widen(value), inputs[0].shape) if value.shape.rank == 1 else value
                      for value in inputs]
            own = [value for place, value in enumerate(spread) if place not in sums]
            dtypes = [inputs[0 if value.shape.rank == 1 else place].dtype for place, value in enumerate(inputs)
                      if place not in sums]
            with tf.GradientTape() as tape:
                tape.watch(own)
                results = tf.nest.flatten(function(spread, others, *plain))
            return [tf.cast(gradient, dtype)
                    for gradient, dtype in zip(tape.gradient(results, own, list(upstream)), dtypes)]

        def call(inputs, others, *plain):
            @tf.custom_gradient
            def run(*inputs):
                def gradients(*upstream):
                    own = [place for place in range(len(inputs)) if place not in sums]
                    wide = dict(zip(own, backward(upstream, list(inputs), others, *plain)))
                    vectors = [place for place, value in enumerate(inputs) if value.shape.rank == 1]
                    sources = [sums.get(place, place) for place in vectors]
                    rows = sum_rows([upstream[0] if source is None else wide[source] for source in sources])
                    wide.update({place: tf.cast(row, inputs[place].dtype) for place, row in zip(vectors, rows)})
                    return [wide[place] for place in range(len(inputs))]
                return forward(list(inputs), others, *plain), gradients
            return run(*inputs)

        return functools.wraps(function)(call)

    return decorate


def _widen(value):
    return tf.cast(value, tf.float32) if value.shape.rank == 1 else value


@jitted
def sum_rows(tensors):
    """Sum each of some [..., N] to float32 [N]."""
    def summed(tensor):
        flat = tf.cast(tf.reshape(tensor, (-1, tensor.shape[-1])), tf.float32)
        parts = math.gcd(8, flat.shape[0])  # added first: XLA's sum of cast rows takes five times as long on a CPU
        return tf.reduce_sum(functools.reduce(tf.add, tf.unstack(tf.reshape(flat, (parts, -1, flat.shape[1])))), 0)
    return [summed(tensor) for tensor in tensors]


def sum_columns(values):
    """Sum float32 [..., N] to [..., 1]."""
    if tf.config.list_logical_devices("CPU") != tf.config.list_logical_devices():
        return tf.reduce_sum(values, -1, keepdims=True)  # where a product might round its inputs
    ones = tf.ones((values.shape[-1], 1))  # XLA adds up a row number by number on a CPU, but has a fast product
    return tf.reshape(tf.matmul(tf.reshape(values, (-1, values.shape[-1])), ones), (*values.shape[:-1], 1))


def max_columns(values):
    """Find the largest of float32 [..., N]: [..., 1]."""
    whole = values.shape[-1] // 16 * 16
    if not whole:
        return tf.reduce_max(values, -1, keepdims=True)
    lanes = tf.reshape(values[..., :whole], (*values.shape[:-1], whole // 16, 16))  # side by side, for the same reason
    lanes = tf.concat([tf.reduce_max(lanes, -2), values[..., whole:]], -1)
    return tf.reduce_max(lanes, -1, keepdims=True)


def _mix(bits):
    """Scramble uint32 so that each bit of the input moves half of the output's (the finalizer `lowbias32`)."""
    shift, times = tf.bitwise.right_shift, tf.constant
    bits = (bits ^ shift(bits, times(16, tf.uint32))) * times(0x7FEB352D, tf.uint32)
    bits = (bits ^ shift(bits, times(15, tf.uint32))) * times(0x846CA68B, tf.uint32)
    return bits ^ shift(bits, times(16, tf.uint32))


def keep_mask(shape, rate, key, step, first_row, offset=None):
    """Decide which elements of a slice of a global batch survive dropout, as a function of key, step, row and place.

    Args:
        shape: static shape, rows first.
        rate: float, the share to drop, exact to 2 ** -32.
        key: uint32 [2], of the run and the layer.
        step: integer scalar; first_row: integer scalar, where the slice begins in the global batch.
        offset: uint32 broadcastable to the shape, to add to the places of a slice that has a part of each row; None
            where it has the whole. Places count modulo 2 ** 32.

    Returns:
        bool of that shape.
    """
    key = _mix(key ^ _mix(tf.cast(step, tf.uint32) + tf.constant(0x9E3779B9, tf.uint32)))
    row = tf.cast(tf.cast(first_row, tf.int32) + tf.range(shape[0]), tf.uint32)
    one, other = (tf.reshape(_mix(_mix(row) ^ key[number]), (-1,) + (1,) * (len(shape) - 1)) for number in (0, 1))
    place = tf.reshape(tf.cast(tf.range(math.prod(shape[1:])), tf.uint32), (1, *shape[1:]))
    if offset is not None:
        place += offset
    # Two words a row: rows whose sequences overlapped by the one would still differ by the other.
    return _mix(place ^ one) ^ other >= tf.constant(round(rate * 2 ** 32), tf.uint32)


def _drop(values, rate, randomness, offset=None):
    if not rate:
        return values
    return tf.where(keep_mask(values.shape, rate, *randomness, offset), values * (1 / (1 - rate)), 0.0)


@fused({})
def dropout(inputs, randomness, rate):
    """Drop [values]; randomness: (key, step, first_row), see keep_mask."""
    return _drop(inputs[0], rate, randomness)


@fused({1: 0})
def bias_activation(inputs, others, activation):
    """Add a bias and activate: [float [..., F], bias float32 [F]] -> float [..., F]."""
    values, bias = inputs
    return tf.cast(activation(tf.cast(values, tf.float32) + bias), values.dtype)


@fused({1: 0, 3: 2})
def gated_activation(inputs, others, activation):
    """Give activation(gate + bias) x (values + bias): [gate float [..., F], bias float32 [F], values, bias]."""
    gate, of_gate, values, of_values = inputs
    return tf.cast(activation(tf.cast(gate, tf.float32) + of_gate) * (tf.cast(values, tf.float32) + of_values),
                   gate.dtype)


@fused({1: 0})
def split_heads(inputs, others, heads):
    """Add a bias and split projections: [float [B, T, sum of H x K], bias] -> [B, H, T, K] for each H of `heads`."""
    values, bias = inputs
    values = tf.cast(tf.cast(values, tf.float32) + bias, values.dtype)
    width = values.shape[2] // sum(heads)
    return [tf.transpose(tf.reshape(part, (*part.shape[:2], count, width)), (0, 2, 1, 3))
            for part, count in zip(tf.split(values, [count * width for count in heads], 2), heads)]


@fused({})
def masked_softmax(inputs, others, scale, rate, masked, length):
    """Give the dropped attention probabilities of [scores float [B, H, C, S]], which are scaled first.

    A second input, float [1, H, C, S], is added to the scaled scores.

    others: visible, bool broadcastable to the scores, or a 0-d True; key, step, first_row, see keep_mask; integer
    scalar, which of the `length` query rows is the first.
    """
    scores = inputs[0]
    visible, *randomness, first = others
    values = tf.cast(scores, tf.float32) * scale + tf.where(visible, 0.0, masked)
    if len(inputs) > 1:
        values += tf.cast(inputs[1], tf.float32)
    heads, rows, columns = scores.shape[1:]
    # A block drops what the whole [H, T, S] would: its places are those of the block and what lies between its heads.
    skipped = tf.cast(tf.range(heads) * (length - rows) + first, tf.uint32) * tf.constant(columns, tf.uint32)
    offset = tf.reshape(skipped, (1, -1, 1, 1))
    return tf.cast(_drop(_softmax(values), rate, randomness, offset), scores.dtype)


@fused({2: 1})
def add_dropped(inputs, randomness, rate):
    """Add [hidden float [B, T, D], result [B, T, D], bias float32 [D]]: hidden + dropped(result + bias)."""
    hidden, result, bias = inputs
    return tf.cast(_sum(hidden, result, bias, rate, randomness), hidden.dtype)


@fused({2: 1, 4: None})
def add_normalized(inputs, randomness, rate, epsilon):
    """Normalize what add_dropped gives: [hidden, result, bias, gamma float32 [D], beta float32 [D]]."""
    hidden, result, bias, gamma, beta = inputs
    total = _sum(hidden, result, bias, rate, randomness)
    return tf.cast(_normalize(total, epsilon) * gamma + beta, hidden.dtype)


@fused({2: None})
def normalized(inputs, others, epsilon):
    """Normalize [hidden float [B, T, D], gamma float32 [D], beta float32 [D]] over the last axis."""
    hidden, gamma, beta = inputs
    return tf.cast(_normalize(tf.cast(hidden, tf.float32), epsilon) * gamma + beta, hidden.dtype)


@fused({})
def rms_normalized(inputs, others, epsilon):
    """Divide [hidden float [B, T, D], gamma float32 [D]] over the last axis by its root mean square."""
    hidden, gamma = inputs
    return tf.cast(_divide(tf.cast(hidden, tf.float32), epsilon) * gamma, hidden.dtype)


def _sum(hidden, result, bias, rate, randomness):
    return tf.cast(hidden, tf.float32) + _drop(tf.cast(result, tf.float32) + bias, rate, randomness)


@tf.custom_gradient
def _softmax(values):
    powers = tf.exp(values - max_columns(values))
    result = powers / sum_columns(powers)

    def gradient(upstream):
        return result * (upstream - sum_columns(result * upstream))

    return result, gradient


def _normalize(values, epsilon):
    @tf.custom_gradient
    def run(values):
        size = values.shape[-1]
        centred = values - sum_columns(values) / size
        factor = tf.math.rsqrt(sum_columns(tf.square(centred)) / size + epsilon)
        result = centred * factor

        def gradient(upstream):
            return factor * (upstream - (sum_columns(upstream) + result * sum_columns(upstream * result)) / size)

        return result, gradient

    return run(values)


def _divide(values, epsilon):
    @tf.custom_gradient
    def run(values):
        size = values.shape[-1]
        factor = tf.math.rsqrt(sum_columns(tf.square(values)) / size + epsilon)
        result = values * factor

        def gradient(upstream):
            return factor * (upstream - result * sum_columns(upstream * result) / size)

        return result, gradient

    return run(values)
