"""The training loop: forward and backward compiled by XLA or not, microbatches, clip after the sum, apply.

The loss is the sum over target tokens divided by their count over the whole batch, so that microbatches give the update
of the whole batch; dropout is keyed by (seed, step, layer, row), so they draw its bits too.
"""
import numpy as np
import tensorflow as tf

from tfzoo.data.loader import prefetch
from tfzoo.errors import ConfigError
from tfzoo.layers import step_randomness


class Trainer:
    """Update a task model batch by batch.

    Args:
        model: TaskModel.
        task: of the model, gives the objective and the metrics.
        optimizer: Keras optimizer, built for the model's variables; its `iterations` is the step.
        seed: int, of dropout.
        clip_norm: float, the largest global norm of the gradient; 0 for no clipping.
        microbatches: int, parts of a batch that are computed one after the other.
        xla: bool, compile forward and backward.

    Raises:
        ConfigError: for less than one microbatch.
    """

    def __init__(self, model, task, optimizer, seed=0, clip_norm=1.0, microbatches=1, xla=False):
        if microbatches < 1:
            raise ConfigError(f"microbatches is {microbatches}: allowed is 1 or more")
        self.model, self.task, self.optimizer, self.seed = model, task, optimizer, seed
        self.clip_norm, self.microbatches = clip_norm, microbatches
        self._gradients = tf.function(self._backward, jit_compile=xla)
        self._outputs = tf.function(self._forward, jit_compile=xla)
        self._step = tf.function(self._update)

    @property
    def step(self):
        """Return the count of updates done."""
        return int(self.optimizer.iterations)

    def _backward(self, batch, step, first_row, count):
        with tf.GradientTape() as tape, step_randomness(self.seed, step, first_row):
            loss, sums = self.task.objective(self.model(batch, training=True), batch)
            loss = loss / count
        gradients = tape.gradient(loss, self.model.trainable_variables)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], sums

    def _forward(self, batch):
        return self.task.objective(self.model(batch, training=False), batch)[1]

    def _update(self, batch):
        step = tf.cast(self.optimizer.iterations.value, tf.int64)
        count = tf.maximum(tf.reduce_sum(batch["weights"]), 1.0)
        rows = batch["weights"].shape[0] // self.microbatches
        gradients = sums = None
        for number in range(self.microbatches):
            part = {key: value[number * rows:(number + 1) * rows] for key, value in batch.items()}
            more, values = self._gradients(part, step, tf.constant(number * rows, tf.int64), count)
            gradients = more if gradients is None else [one + two for one, two in zip(gradients, more)]
            sums = values if sums is None else {key: sums[key] + values[key] for key in sums}
        norm = tf.linalg.global_norm(gradients)
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm, use_norm=norm)
        self.optimizer.apply(gradients)
        return sums, norm

    def train_step(self, batch):
        """Make one update.

        Args:
            batch: dict of arrays with B rows, labels and weights among them.

        Returns:
            (dict of metric sums, gradient norm before clipping), tensors.

        Raises:
            ConfigError: where the microbatches do not divide the batch.
        """
        rows = len(batch["weights"])
        if rows % self.microbatches:
            raise ConfigError(f"batch of {rows}: {self.microbatches} microbatches must divide it")
        return self._step({key: tf.constant(value) for key, value in batch.items()})

    def train(self, data, until):
        """Make updates until a step, each on the batch that `data` gives for it.

        The data go on where the step stands, so a resumed run sees what the uninterrupted one would have. Nothing is
        read back from the device.

        Args:
            data: gives `batch(step)`, a dict of NumPy arrays.
            until: int, the step to end with.

        Yields:
            (step, dict of metric sums, gradient norm, real tokens in the batch); sums and norm are tensors.
        """
        start = self.step
        for number, batch in enumerate(prefetch(data.batch, range(start, until)), start + 1):
            sums, norm = self.train_step(batch)
            yield number, sums, norm, int(batch["padding_mask"].sum())

    def evaluate(self, data, progress=None):
        """Return the task's metrics over one pass of the data, each example counted once: dict of float.

        Args:
            data: gives `batch(step)` and `batches_per_epoch`.
            progress: callable of an iterable of batches and their count, which wraps it; None shows nothing.
        """
        totals = {}
        batches = prefetch(data.batch, range(data.batches_per_epoch))
        for batch in batches if progress is None else progress(batches, data.batches_per_epoch):
            sums = self._outputs({key: tf.constant(value) for key, value in batch.items()})
            for key, value in sums.items():
                totals[key] = totals.get(key, 0.0) + value.numpy().astype(np.float64)
        return self.task.metrics(totals, data.raw_bytes)

    def arrays(self):
        """Return copies of all that training changes: dict of groups of name -> array."""
        return {"model": {v.path: v.numpy() for v in self.model.trainable_variables},
                "optimizer": {v.path: v.numpy() for v in self.optimizer.variables}}

    def restore(self, arrays):
        """Put back what `arrays` gave."""
        for group, variables in (("model", self.model.trainable_variables), ("optimizer", self.optimizer.variables)):
            for variable in variables:
                variable.assign(arrays[group][variable.path])
