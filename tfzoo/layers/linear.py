"""A projection of the last axis, computed as one 2-D matrix product, which is the fast path for bfloat16 on a CPU.

Only this module reads kernels, so code that adapts, masks or rounds them belongs here and takes effect everywhere.
"""
import keras
import tensorflow as tf
from keras import ops

from tfzoo.errors import ConfigError, shown
from tfzoo.layers import context, kernels
from tfzoo.layers.dropout import Dropout
from tfzoo.layers.initializers import truncated_normal, uniform
from tfzoo.layers.products import fuses, multiply


@keras.saving.register_keras_serializable(package="tfzoo")
class Linear(keras.layers.Layer):
    """Project the last axis: `inputs @ kernel + bias`, plus the output of a low-rank adapter if there is one.

    An adapter adds alpha / rank x dropout(inputs) A B, with A [D, r] and B [r, units], where B is initially zero
    (Hu et al. 2021, LoRA, arXiv:2106.09685). Both are float32 under any dtype policy, as Adam's moments require.

    Args:
        units: int, width of the output.
        use_bias: bool, add a bias.
        initializer_range: float, standard deviation of the truncated normal initializer; 0 to use 1 / sqrt(D).
        rank: int, r of the adapter; 0 for no adapter.
        alpha: float, numerator of the adapter's scale alpha / rank.
        adapter_dropout: float, dropout rate for the adapter's inputs.

    Call arguments:
        inputs: float [..., D], or [B, ..., D] with adapter_dropout.
        training: bool.

    Returns:
        float [..., units] in the compute dtype.

    Raises:
        ConfigError: if rank exceeds the smaller dimension of the kernel, alpha is not positive, or adapter_dropout is
            not in [0, 1).

    Attributes:
        initial_bias: float, or float32 [units], what the bias is initialized to when the layer is built.
    """

    initial_bias = 0.0

    def __init__(self, units, use_bias=True, initializer_range=0.02, rank=0, alpha=8.0, adapter_dropout=0.0, **layer):
        super().__init__(**layer)
        self.units, self.use_bias, self.initializer_range = units, use_bias, initializer_range
        self.rank, self.alpha, self.adapter_dropout = rank, alpha, adapter_dropout
        self.lora_a = self.lora_b = self.dropout = None

    def build(self, input_shape):
        spread = self.initializer_range or input_shape[-1] ** -0.5
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units),
                                      initializer=truncated_normal(spread, "kernel"))
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer=keras.initializers.Constant(
            self.initial_bias)) if self.use_bias else None
        self.built = True
        if self.rank:
            self.add_adapter(**self.adapter)

    @property
    def adapter(self):
        """Return the adapter's settings as keyword arguments for `add_adapter`: dict, empty if there is no adapter."""
        return {"rank": self.rank, "alpha": self.alpha, "adapter_dropout": self.adapter_dropout} if self.rank else {}

    def add_adapter(self, rank, alpha=8.0, adapter_dropout=0.0):
        """Add an adapter to a built layer; the output does not change until the adapter is trained.

        For arguments and errors, see the class.
        """
        self.check_adapter(rank, alpha, adapter_dropout)
        self.rank, self.alpha, self.adapter_dropout = rank, float(alpha), float(adapter_dropout)
        inputs, locked = self.kernel.shape[0], self._tracker.locked
        self._tracker.unlock()  # as in Keras' own enable_lora
        with self._open_name_scope():
            self.lora_a, self.lora_b = (
                self.add_weight(name=name, shape=shape, initializer=initializer, dtype="float32", autocast=False)
                for name, shape, initializer in (("lora_a", (inputs, rank), uniform(inputs ** -0.5, "lora_a")),
                                                 ("lora_b", (rank, self.units), "zeros")))
            self.dropout = Dropout(self.adapter_dropout, name="adapter_dropout", dtype=self.dtype_policy)
            self.dropout.build()
        if locked:
            self._tracker.lock()

    def check_adapter(self, rank, alpha, adapter_dropout):
        """Raise ConfigError if `add_adapter` would raise it."""
        most = min(self.kernel.shape)
        if self.lora_a is not None:
            raise ConfigError(f"{self.path} already has an adapter of rank {self.rank}: merge it first")
        if type(rank) is not int or not 1 <= rank <= most:
            raise ConfigError(f"rank must be an integer from 1 to {most}, the smaller dimension of "
                              f"{self.path}/kernel, got {shown(rank)}")
        if not _is_number(alpha) or alpha <= 0:
            raise ConfigError(f"alpha must be a finite number above 0, got {shown(alpha)}")
        if not _is_number(adapter_dropout) or not 0 <= adapter_dropout < 1:
            raise ConfigError(f"adapter_dropout must be at least 0 and less than 1, got {shown(adapter_dropout)}")

    def merge_adapter(self):
        """Merge the adapter into the kernel, in float32, and remove it; do nothing if there is no adapter."""
        if self.lora_a is None:
            return
        self.kernel.assign_add(self.alpha / self.rank * tf.matmul(self.lora_a, self.lora_b))
        for variable in (self.lora_a, self.lora_b):
            self._untrack_variable(variable)
        self._tracker.unlock()
        self._tracker.untrack(self.dropout)
        self.lora_a = self.lora_b = self.dropout = None
        self._tracker.lock()
        self.rank = 0

    def call(self, inputs, training=None):
        return project(inputs, [self], training, bias=self._cast_bias())

    def _cast_bias(self):
        return None if self.bias is None else context.cast(self.bias, self.compute_dtype)

    def base(self):
        """Return the kernel without the adapter, or where weights are stored, with it: [D, units], compute dtype."""
        if context.stores() and self.rank:
            return context.prepared((id(self.kernel), "merged"), self._merged)
        return context.cast(self.kernel, self.compute_dtype)

    def weight(self):
        """Return the kernel with the adapter merged in, ignoring adapter dropout; shape and dtype are as in `base`."""
        return self.base() if self.lora_a is None or context.stores() else self._merged()

    def _merged(self):
        low_rank = self.alpha / self.rank * tf.matmul(self.lora_a, self.lora_b)
        kernel = tf.cast(ops.cast(self.kernel, self.compute_dtype), tf.float32)
        return tf.cast(kernel + low_rank, self.compute_dtype)

    def drops(self, training):
        """Return whether a call applies adapter dropout, which `weight` ignores."""
        return bool(training and self.rank and self.adapter_dropout)

    def delta(self, inputs, training=None):
        """Return the adapter's output, float [..., units], for inputs [B, ..., D]; None if there is no adapter."""
        return _deltas(inputs, [self], training)

    def product(self, inputs, training=None):
        """Return an output and the bias that is still to be added, for callers that let `kernels` add it.

        Returns:
            (float [..., units], Keras variable [units] or None, or `kernels.ADDED` if TensorFlow fuses the bias, and
            what follows, with the product).
        """
        if self.bias is not None and fuses(inputs) and (not self.rank or context.stores()):
            return self.call(inputs, training), kernels.ADDED
        return project(inputs, [self], training), self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "use_bias": self.use_bias,
                "initializer_range": self.initializer_range, **self.adapter}


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def project(inputs, linears, training=None, bias=None):
    """Apply several Linear layers, with their adapters but without their biases, in one matrix product.

    Args:
        inputs: float [..., D].
        linears: list of Linear, all with input width D.
        training: bool.
        bias: float [sum of units], their concatenated biases, or None not to add them.

    Returns:
        float [..., sum of units], the concatenated outputs.
    """
    weight = linears[0].base() if len(linears) == 1 else _joined(
        [linear.kernel for linear in linears], lambda: tf.concat([linear.base() for linear in linears], 1))
    if inputs.shape.rank == 2:
        product = multiply(inputs, weight, bias=bias)
    else:
        flat = multiply(ops.reshape(inputs, (-1, weight.shape[0])), weight, bias=bias)
        product = ops.reshape(flat, (*ops.shape(inputs)[:-1], weight.shape[1]))
    delta = None if context.stores() else _deltas(inputs, linears, training)
    return product if delta is None else product + delta


def _joined(variables, join, dtype=None):
    # A concatenation of variables (see context.prepared).
    return context.prepared((dtype, *map(id, variables)), join)


def _deltas(inputs, linears, training):
    # Two thin products for all adapters: the A matrices are concatenated, the B matrices form a block-diagonal matrix.
    adapted = [linear for linear in linears if linear.rank]
    if not adapted:
        return None
    dtype, width, units = inputs.dtype, inputs.shape[-1], sum(linear.units for linear in linears)
    downs = [tf.cast(linear.lora_a * (linear.alpha / linear.rank), dtype) for linear in adapted]
    if any(linear.drops(training) for linear in adapted):  # each has its own dropout mask
        dropped = [linear.dropout(inputs, training=training) for linear in adapted]
        low = tf.concat([multiply(ops.reshape(each, (-1, width)), down) for each, down in zip(dropped, downs)], 1)
    else:
        low = multiply(ops.reshape(inputs, (-1, width)), tf.concat(downs, 1))
    first, ups = 0, []
    for linear in linears:
        if linear.rank:
            ups.append(tf.pad(tf.cast(linear.lora_b, dtype), [[0, 0], [first, units - first - linear.units]]))
        first += linear.units
    return ops.reshape(multiply(low, tf.concat(ups, 0)), (*ops.shape(inputs)[:-1], units))


def project_heads(inputs, linears, width, rows=None, training=None):
    """Project `inputs` to heads of the given width K: list of float [B, H, T, K], one per Linear.

    The inputs are float [B, T, D], or [B x T, D] with their Rows.

    One product for all layers is faster in a training step, which has many rows, and in a decoding loop, which
    concatenates the kernels once; elsewhere, concatenating them would cost more than it saves.
    """
    if not context.current().fused and not context.decodes():
        return [kernels.split_heads(*linear.product(inputs, training), heads=(linear.units // width,), rows=rows)[0]
                for linear in linears]
    heads = tuple(linear.units // width for linear in linears)
    if all(linear.bias is None for linear in linears):
        return kernels.split_heads(project(inputs, linears, training), None, heads, rows=rows)
    joins = fuses(inputs)
    dtype = linears[0].compute_dtype if context.current().fused or joins else "float32"
    bias = _joined([linear.bias for linear in linears], lambda: tf.concat(
        [ops.zeros(linear.units, dtype) if linear.bias is None else ops.cast(linear.bias, dtype)
         for linear in linears], 0), dtype)
    if joins:
        return kernels.split_heads(project(inputs, linears, training, bias=bias), None, heads, rows=rows)
    trained = any(linear.bias is not None and linear.bias.trainable for linear in linears)
    return kernels.split_heads(project(inputs, linears, training), bias, heads=heads, rows=rows, trained=trained)
