"""The training step on any strategy: gradient accumulation, all-reduce over replicas, clipping, update.

Each loss term is a sum over targets divided by their count in the global batch, and dropout is keyed by (seed, step,
layer, row of the global batch), so one replica, N replicas and N microbatches compute the same update. A non-finite
update is skipped on all replicas.
"""
import contextlib
import functools
import os

import numpy as np
import tensorflow as tf

from tfzoo.checkpoints.folder import is_finite
from tfzoo.data.loader import prefetch
from tfzoo.errors import ConfigError
from tfzoo.layers import context, training_step
from tfzoo.layers.products import FROZEN
from tfzoo.methods import Method, hash_base
from tfzoo.training.evaluator import Evaluator, within_memory
from tfzoo.training.penalties import coefficients_of, penalized
from tfzoo.training.strategy import check_batch, is_multi_worker, local_value, place


class Trainer:
    """Train a task model batch by batch.

    Args:
        model: TaskModel, built in the scope of the strategy.
        task: Task of the model; provides the objective and the metrics.
        optimizer: from tfzoo.training.optimizer, built in the same scope for the trainable variables; its `iterations`
            is the step. None if the trainer only evaluates.
        seed: int, the seed for dropout.
        clip_norm: float, maximum global norm of the gradient; 0: no clipping.
        microbatches: int, split each replica's rows into this many parts, computed one at a time (gradient
            accumulation).
        xla: bool, compile the forward and backward passes with XLA.
        remat: bool, rematerialize: store only block inputs, and recompute activations in the backward pass.
        strategy: tf.distribute.Strategy; None: TensorFlow's default.
        method: Method, which prepared the model before the optimizer was built; None: train all weights.
        penalties: dict, from `Settings.penalties`; None: no penalties.

    Raises:
        ConfigError: if microbatches is less than 1, or TensorFlow may use old weights (see docs/serving.md).
        ValueError: if the optimizer was built for variables other than the trainable ones.
    """

    def __init__(self, model, task, optimizer, seed=0, clip_norm=1.0, microbatches=1, xla=False, remat=False,
                 strategy=None, method=None, penalties=None):
        if microbatches < 1:
            raise ConfigError(f"microbatches must be at least 1, got {microbatches}")
        if os.environ.get(FROZEN) == "1":
            raise ConfigError(f"{FROZEN}=1 lets TensorFlow use old weights, so training would be wrong: unset it")
        trained = [id(variable) for variable in model.trainable_variables]
        if optimizer is not None and [id(variable) for variable in optimizer._trainable_variables] != trained:
            raise ValueError("the optimizer was built for variables other than the trainable ones: let the method "
                             "prepare the model first, then build the optimizer for model.trainable_variables")
        self.method = method or Method()
        self.penalties = coefficients_of(penalties or {}, model.trainable_variables)
        self._objective = self.method.objective(task.objective)
        self.model, self.task, self.optimizer, self.seed = model, task, optimizer, seed
        self.clip_norm, self.microbatches, self.remat = clip_norm, microbatches, remat
        self.strategy = strategy or tf.distribute.get_strategy()
        self.shared = is_multi_worker(self.strategy)  # other processes take part in each step
        self._gradients = tf.function(self._backward, jit_compile=xla, autograph=False)
        self._step = tf.function(lambda *inputs: self.strategy.run(self._replica_step, inputs), autograph=False)
        self.evaluator = Evaluator(model, task, xla=xla, strategy=self.strategy)
        self._swap = tf.function(self._swap_averages, autograph=False)

    @property
    def step(self):
        """Return the number of updates so far, skipped ones included."""
        return int(self.optimizer.iterations.numpy())

    @functools.cached_property
    def base(self):
        """Return the SHA-256 of the frozen weights, which checkpoints omit: str, or None if all are trainable."""
        return hash_base(self.model)

    @property
    def traces(self):
        """Return how many times the training step was traced, once per batch shape."""
        return self._step.experimental_get_tracing_count()

    def _backward(self, batch, step, first_row, counts):
        def forward(inputs, *, draw=0, embedded=None, keep=()):
            with context.changed(draw=draw):
                return self.model(inputs, only_read=True, embedded=embedded, keep=keep, training=True)

        with training_step(self.seed, step, first_row=first_row, remat=self.remat):
            trained = [variable.value for variable in self.model.trainable_variables]
            # Keras' `trainable` is not TensorFlow's: a tape that watches automatically would include frozen variables.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(trained)
                terms, sums = self._objective(forward, batch)
                loss = tf.add_n([terms[name] / counts[name] for name in sorted(terms)])
            gradients = tape.gradient(loss, trained)
        without = [variable.path for variable, gradient in zip(self.model.trainable_variables, gradients)
                   if gradient is None]
        if without:
            raise ConfigError(f"no gradient reaches {', '.join(without[:3])}{' ...' if len(without) > 3 else ''}: the "
                              f"loss of {self.task.name} does not use them; omit the --override that creates them")
        return [tf.convert_to_tensor(gradient) for gradient in gradients], sums

    def _replica_step(self, batch, counts, stop):
        replica = tf.distribute.get_replica_context()
        step = tf.cast(self.optimizer.iterations.value, tf.int64)
        size = next(iter(batch.values())).shape[0]
        first_row = tf.cast(replica.replica_id_in_sync_group, tf.int64) * size
        gradients, sums = self._accumulate(batch, step, first_row=first_row, counts=counts)
        sums["stop"] = tf.identity(stop)  # on this replica's device
        gradients, sums = replica.all_reduce(tf.distribute.ReduceOp.SUM, (gradients, sums))
        gradients = penalized(gradients, self.model.trainable_variables, self.penalties)
        gradients, stop = self.method.after_gradients(gradients, step), sums.pop("stop")
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm) & tf.math.is_finite(sums["loss"])
        scale = self.clip_norm / tf.maximum(norm, self.clip_norm) if self.clip_norm else 1.0
        self.optimizer.apply(gradients, finite=finite, scale=scale)
        return {key: tf.where(finite, value, tf.zeros_like(value)) for key, value in sums.items()}, norm, finite, stop

    def _accumulate(self, batch, step, first_row, counts):
        parts = self.microbatches
        rows = next(iter(batch.values())).shape[0] // parts
        if parts == 1:
            return self._gradients(batch, step, first_row, counts)
        batch = {key: tf.reshape(value, (parts, rows, *value.shape[1:])) for key, value in batch.items()}

        def part_of(number):
            part = {key: value[number] for key, value in batch.items()}
            return self._gradients(part, step, first_row + tf.cast(number, tf.int64) * rows, counts)

        def add(number, gradients, sums):
            more, values = part_of(number)
            return number + 1, [a + b for a, b in zip(gradients, more)], {key: sums[key] + values[key] for key in sums}

        # One at a time: parallel microbatches would need the memory that accumulation is meant to save.
        return tf.while_loop(lambda number, *_: number < parts, add, (tf.constant(1), *part_of(tf.constant(0))),
                             parallel_iterations=1)[1:]

    def train_step(self, batch, stop=False):
        """Run one update.

        Args:
            batch: dict of arrays [B, ...], the global batch.
            stop: bool, whether this process received a stop signal.

        Returns:
            (dict of metric sums over the global batch; float, the gradient norm before clipping; bool, whether loss and
            gradients are finite; float, positive if any process received a stop signal), all as tensors. If loss or
            gradients are not finite, the update is skipped and the sums are zero.

        Raises:
            ConfigError: if replicas x microbatches does not divide the batch, or a trainable weight gets no gradient.
            OutOfMemory: if the step does not fit into memory.
        """
        check_batch(self.strategy, len(next(iter(batch.values()))), self.microbatches)
        counts = {name: tf.constant(count or 1.0, tf.float32) for name, count in self.task.counts(batch).items()}
        advice = ("raise --accumulate_steps, lower --batch_size or --max_length, or use --remat, --precision=bfloat16 "
                  "or --optimizer=adafactor")
        with within_memory(self.model, batch, strategy=self.strategy, advice=advice, optimizer=self.optimizer,
                           parts=self.microbatches):
            result = self._step(place(self.strategy, batch), counts, tf.constant(float(stop)))
            return local_value(self.strategy, result)

    def train(self, data, until, stopped=bool):
        """Run updates up to a step, prefetching batches.

        Batches are indexed by step, so a resumed run sees the same batches as an uninterrupted one. Nothing is read
        back from the device.

        Args:
            data: Batches; `batch(step)` returns a dict of NumPy arrays.
            until: int, the last step.
            stopped: callable that returns whether this process received a stop signal: bool.

        Yields:
            (step, *results of `train_step`, number of real tokens in the batch, seconds spent waiting for the batch).
        """
        start = self.step
        for number, (batch, waited) in enumerate(prefetch(data.batch, range(start, until)), start + 1):
            yield number, *self.train_step(batch, stopped()), _count_tokens(batch), waited

    def is_finite(self):
        """Return whether all trainable weights are finite; even finite gradients may make weights overflow float32."""
        return all(map(is_finite, self.model.trainable_variables))

    @contextlib.contextmanager
    def averages(self):
        """Use the moving averages of the weights, if any, as the model's weights in the `with` block."""
        if not self.optimizer.use_ema:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def use_averages(self):
        """Replace the model's weights with their moving averages, if any; training cannot continue afterwards."""
        if self.optimizer.use_ema:
            self._swap()

    def _swap_averages(self):
        def swap(variable, average):
            old = tf.identity(variable)
            variable.assign(average)
            average.assign(old)

        for variable, average in zip(self.model.trainable_variables, self.optimizer._model_variables_moving_average):
            self.strategy.extended.update(variable.value, swap, (average.value,), group=False)

    def arrays(self):
        """Return a copy of the training state: dict of group ("model", "optimizer") -> dict of name -> array."""
        return {group: {name: np.asarray(variable.numpy()) for name, variable in variables.items()}
                for group, variables in self._groups().items()}

    def restore(self, arrays):
        """Restore the training state returned by `arrays`."""
        for group, variables in self._groups().items():
            for name, variable in variables.items():
                variable.assign(arrays[group][name])

    def _groups(self):
        groups = {"model": self.model.trainable_variables, "optimizer": self.optimizer.variables}
        return {group: _by_name(variables) for group, variables in groups.items()}


def _count_tokens(batch):
    return sum(np.count_nonzero(value) for key, value in batch.items() if key.endswith("padding_mask"))


def _by_name(variables):
    named = {}
    for variable in variables:
        name, number = variable.path, 1
        while name in named:  # Adafactor gives all row and column variables the same name
            number += 1
            name = f"{variable.path}#{number}"
        named[name] = variable
    return named
