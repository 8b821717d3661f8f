"""AdamW as the language models use it, and its schedules, from Keras' own parts.

No weight decay on biases and norms; `BertAdamW` leaves out Adam's bias correction, as Google's BERT code does
(Devlin et al. 2018).
"""
import re

import keras
from keras import ops

from tfzoo.errors import ConfigError

NO_DECAY = r"(bias|norm/gamma|norm/beta)$"  # searched in the variables' paths
SCHEDULES = ("linear", "cosine", "constant")


@keras.saving.register_keras_serializable(package="tfzoo")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly to the peak, then fall to zero.

    Args:
        peak: float, the highest learning rate.
        steps: int, updates in all.
        warmup_steps: int, updates of the rise; the first update has peak / warmup_steps.
        kind: "linear", "cosine" (both reach 0 after the last step) or "constant".
    """

    def __init__(self, peak, steps, warmup_steps=0, kind="linear"):
        if kind not in SCHEDULES:
            raise ConfigError(f"schedule is {kind!r}: allowed are {', '.join(SCHEDULES)}")
        if not 0 <= warmup_steps <= steps:
            raise ConfigError(f"warmup_steps is {warmup_steps}: allowed is 0 to the {steps} steps of the run")
        self.peak, self.steps, self.warmup_steps, self.kind = peak, steps, warmup_steps, kind

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = (step + 1) / max(1, self.warmup_steps)
        done = ops.clip((step - self.warmup_steps) / max(1, self.steps - self.warmup_steps), 0.0, 1.0)
        fall = {"linear": 1 - done, "cosine": (1 + ops.cos(done * 3.141592653589793)) / 2,
                "constant": ops.ones_like(done)}[self.kind]
        return self.peak * ops.where(step < self.warmup_steps, rise, fall)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "warmup_steps": self.warmup_steps, "kind": self.kind}


@keras.saving.register_keras_serializable(package="tfzoo")
class BertAdamW(keras.optimizers.AdamW):
    """AdamW without bias correction: update = m / (sqrt(v) + epsilon)."""

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * m / (ops.sqrt(v) + self.epsilon))


OPTIMIZERS = {"adamw": keras.optimizers.AdamW, "bert_adamw": BertAdamW}


def make_optimizer(name, schedule, variables, weight_decay=0.01, beta_2=0.999, epsilon=1e-6):
    """Return an optimizer that decays no bias and no norm.

    Args:
        name: "adamw" or "bert_adamw".
        schedule: float or a Keras schedule.
        variables: list of Keras variables that will be trained.
        weight_decay, beta_2, epsilon: float.

    Raises:
        ConfigError: for an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(f"optimizer is {name!r}: allowed are {', '.join(OPTIMIZERS)}")
    optimizer = OPTIMIZERS[name](schedule, weight_decay=weight_decay, beta_2=beta_2, epsilon=epsilon,
                                 name=name)
    # By variable: Keras searches names in another name on TensorFlow than the one it shows.
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if re.search(NO_DECAY, v.path)])
    optimizer.build(variables)
    return optimizer
