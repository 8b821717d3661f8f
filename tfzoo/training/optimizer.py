"""Optimizers and learning-rate schedules for language models, based on Keras' classes.

Keras' optimizers reduce, clip and apply gradients on each replica; these take gradients that are already summed over
the global batch, and skip the update if the gradients are not finite. By default, biases and norms get no weight decay.
`BertAdamW` omits Adam's bias correction, as Google's BERT code does (Devlin et al. 2018).
"""
import functools
import re

import keras
import tensorflow as tf
from keras import ops

from tfzoo.errors import ConfigError
from tfzoo.methods.method import compiled
from tfzoo.training.fields import NO_DECAY

SCHEDULES = ("linear", "cosine", "polynomial", "inverse_sqrt", "constant")


@keras.saving.register_keras_serializable(package="tfzoo")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Learning-rate schedule: linear warmup to the peak, then decay.

    Args:
        peak: float, the maximum learning rate.
        steps: int, total number of updates.
        warmup_steps: int, number of warmup updates; the first one uses the rate peak / warmup_steps.
        kind: "linear", "cosine", "polynomial" (all three reach 0 after the last step), "inverse_sqrt" (Vaswani et al.
            2017, section 5.3: peak x sqrt(warmup_steps / step)) or "constant".
        power: float, exponent for "polynomial": peak x (remaining fraction of the steps after warmup) ** power.

    Raises:
        ConfigError: if the kind is unknown, or the warmup is longer than the run.
    """

    def __init__(self, peak, steps, warmup_steps=0, kind="linear", power=2.0):
        if kind not in SCHEDULES:
            raise ConfigError(f"schedule must be one of {', '.join(SCHEDULES)}, got {kind!r}")
        if not 0 <= warmup_steps <= steps:
            raise ConfigError(f"warmup_steps must be from 0 to {steps}, the length of the run, got {warmup_steps}")
        self.peak, self.steps, self.warmup_steps, self.kind, self.power = peak, steps, warmup_steps, kind, power

    def __call__(self, step):
        step, warmup = ops.cast(step, "float32"), max(1, self.warmup_steps)
        done = ops.clip((step - self.warmup_steps) / max(1, self.steps - self.warmup_steps), 0.0, 1.0)
        fall = {"linear": lambda: 1 - done, "cosine": lambda: (1 + ops.cos(done * 3.141592653589793)) / 2,
                "polynomial": lambda: (1 - done) ** self.power, "constant": lambda: ops.ones_like(done),
                "inverse_sqrt": lambda: ops.sqrt(warmup / ops.maximum(step + 1, warmup))}[self.kind]()
        return self.peak * ops.where(step < self.warmup_steps, (step + 1) / warmup, fall)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "warmup_steps": self.warmup_steps, "kind": self.kind,
                "power": self.power}


class GlobalUpdate:
    """Mixin for Keras optimizers: an `apply` for gradients that are already summed over all replicas.

    Weight decay, update and moving average are applied either to all variables or to none. `iterations` also
    counts skipped updates, so it equals the step of the run.
    """

    rate_scales = None  # learning-rate factors by variable index

    def apply(self, grads, trainable_variables=None, finite=True, scale=1.0):
        """Update the variables that the optimizer was built for.

        Args:
            grads: list of tensors, one per variable, the same on all replicas.
            trainable_variables: ignored; Keras' `fit` passes the variables that the optimizer was built for.
            finite: bool or bool scalar tensor, the same on all replicas; False skips the update.
            scale: float or float scalar tensor, factor applied to the gradients, for clipping.
        """
        variables, rate = [variable.value for variable in self._trainable_variables], self.learning_rate
        # Computed once for all variables, since tracing it for each one was slow.
        shared = self._corrected(rate), tf.convert_to_tensor(rate * (self.weight_decay or 0.0))
        tf.__internal__.distribute.interim.maybe_merge_call(
            self._update_all, self._distribution_strategy, variables, list(grads), *shared,
            tf.convert_to_tensor(scale, tf.float32), tf.convert_to_tensor(finite))
        self._iterations.assign_add(1)

    def _corrected(self, rate):
        return tf.convert_to_tensor(rate)

    def _update_all(self, distribution, variables, grads, rate, decay, scale, finite):
        def update_all():
            for variable, gradient in zip(variables, grads):
                distribution.extended.update(variable, self._update_one, (gradient, rate, decay, scale), group=False)
            return tf.constant(True)

        # One condition around all variables: tracing one per variable and device took most of the startup time.
        finite = distribution.experimental_local_results(finite)[0]
        tf.cond(finite, update_all, lambda: tf.constant(False))

    def _update_one(self, variable, gradient, rate, decay, scale):
        index = self._get_variable_index(variable)
        if self.rate_scales is not None:
            rate, decay = rate * self.rate_scales[index], decay * self.rate_scales[index]
        if not (self.weight_decay and self._use_weight_decay(variable)):
            decay = tf.zeros_like(decay)
        self._update_decayed(variable, gradient, rate=rate, scale=scale, decay=decay)
        if self.use_ema:
            average = self._model_variables_moving_average[index]
            self.assign_add(average, (variable - average) * (1 - self.ema_momentum))

    def _update_decayed(self, variable, gradient, rate, scale, decay):
        variable.assign_sub(variable * decay)
        self.update_step(gradient * scale, variable, rate)


@functools.partial(tf.function, jit_compile=True, autograph=False)
def _adam(variable, m, v, gradient, rate, scale, decay, beta_1, beta_2, epsilon):
    # Updates the three variables, given as resource handles, in place and in a single pass over memory.
    handles = (variable, m, v)
    old, old_m, old_v = (tf.raw_ops.ReadVariableOp(resource=handle, dtype=gradient.dtype) for handle in handles)
    gradient = gradient * scale
    new_m = old_m + (gradient - old_m) * (1 - beta_1)
    new_v = old_v + (tf.square(gradient) - old_v) * (1 - beta_2)
    new = old - old * decay - new_m * rate / (tf.sqrt(new_v) + epsilon)
    for handle, value in zip(handles, (new, new_m, new_v)):
        tf.raw_ops.AssignVariableOp(resource=handle, value=value)


class AdamW(GlobalUpdate, keras.optimizers.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101).

    This is Keras' update, compiled into one kernel that takes a third of the time; a test checks that both agree.
    """

    def _update_decayed(self, variable, gradient, rate, scale, decay):
        index = self._get_variable_index(variable)
        # Pass handles: tf.function traces once for all distributed variables of a shape, and captures the first one.
        handles = [each.handle for each in (variable, self._momentums[index].value, self._velocities[index].value)]
        _adam(*handles, gradient, rate, scale, decay, self.beta_1, self.beta_2, self.epsilon)

    def _corrected(self, rate):
        step = ops.cast(self.iterations + 1, "float32")
        return rate * ops.sqrt(1 - self.beta_2 ** step) / (1 - self.beta_1 ** step)


class BertAdamW(AdamW):
    """AdamW without bias correction: update = m / (sqrt(v) + epsilon)."""

    _corrected = GlobalUpdate._corrected


class Lamb(GlobalUpdate, keras.optimizers.Lamb):
    """LAMB: Adam with updates scaled per layer, for large batches (You et al. 2020, arXiv:1904.00962)."""


class Adafactor(GlobalUpdate, keras.optimizers.Adafactor):
    """Adafactor, with factored second moments (Shazeer and Stern 2018, arXiv:1804.04235).

    The schedule caps the relative step size.
    """


OPTIMIZERS = {"adamw": AdamW, "bert_adamw": BertAdamW, "lamb": Lamb, "adafactor": Adafactor}


def rate_scales(paths, layer_decay):
    """Return layer-wise learning-rate factors: layer_decay ** (number of layers above the variable).

    The embeddings and the projection after them form the lowest layer. The blocks follow in order, with a decoder's
    blocks above its encoder's. A stack's relative position bias belongs to its first block, and an encoder's final norm
    to its last. Everything else (pooler, final norm, head) forms the top layer, which has the full rate.

    Args:
        paths: list of str, the paths of all variables of the model.
        layer_decay: float in (0, 1].

    Returns:
        dict of path -> float.

    Reference:
        Clark et al. 2020, ELECTRA, arXiv:2003.10555, appendix B. ELECTRA's code counts an additional layer below the
        head; other implementations, such as BEiT's, do not.

    Example:
        >>> rate_scales(["embeddings/token", "block_00/attention_norm/gamma", "head/dense/bias"], 0.5)
        {'embeddings/token': 0.25, 'block_00/attention_norm/gamma': 0.5, 'head/dense/bias': 1.0}
    """
    names = {path.split("/")[0] for path in paths}
    blocks = sorted((name for name in names if re.search(r"(^|_)block_\d+$", name)),
                    key=lambda name: (name.startswith("decoder_"), int(name.split("_")[-1])))
    depths, top = {"embeddings": 0, "projection": 0}, len(blocks) + 1
    depths.update({name: depth for depth, name in enumerate(blocks, 1)})
    for stack in ("encoder", "decoder"):
        own = [depths[name] for name in blocks if name.startswith(stack)] or [top]
        depths[f"{stack}_relative"] = own[0]
        if stack == "encoder":
            depths["encoder_norm"] = own[-1]
    return {path: layer_decay ** (top - depths.get(path.split("/")[0], top)) for path in paths}


def make_optimizer(name, schedule, variables, weight_decay=0.01, beta_2=0.999, epsilon=1e-6, no_decay=NO_DECAY,
                   layer_decay=1.0, ema_decay=0.0, paths=None):
    """Build an optimizer; call this in the scope of the variables' strategy.

    Args:
        name: "adamw", "bert_adamw", "lamb" or "adafactor".
        schedule: float or a Keras schedule.
        variables: list of Keras variables to train.
        weight_decay, beta_2, epsilon: float; Adafactor uses only weight_decay.
        no_decay: str, a regular expression; variables whose path contains a match get no weight decay.
        layer_decay: float in (0, 1] (see `rate_scales`).
        ema_decay: float in [0, 1), decay of the exponential moving average of the weights; 0: no average.
        paths: list of str, the paths of all weights in the model, used to count layers for `layer_decay`; required if
            some weights are frozen. None: the paths of `variables`.

    Returns:
        keras.optimizers.Optimizer with GlobalUpdate, built.

    Raises:
        ConfigError: if the name is unknown, or no_decay is not a valid regular expression.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {name!r}")
    pattern = compiled("no_decay", no_decay)
    fixed = [v for v in variables if no_decay and pattern.search(v.path)]
    own = {} if name == "adafactor" else {"beta_2": beta_2, "epsilon": epsilon}
    if ema_decay:
        own.update(use_ema=True, ema_momentum=ema_decay)
    optimizer = OPTIMIZERS[name](schedule, weight_decay=weight_decay, name=name, **own)
    # Exclude by variable: on TensorFlow, Keras matches var_names against names that differ from those it displays.
    optimizer.exclude_from_weight_decay(var_list=fixed)
    optimizer.build(variables)
    if layer_decay != 1:
        scales = rate_scales(paths or [v.path for v in variables], layer_decay)
        optimizer.rate_scales = [scales[v.path] for v in variables]
    if ema_decay:  # Keras starts from zeros and replaces them in the update at step 0, which may be skipped
        for variable, average in zip(variables, optimizer._model_variables_moving_average):
            average.assign(variable)
    return optimizer
