"""Evaluate on any strategy, from metric sums if they suffice, otherwise from all predictions in example order."""
import contextlib

import numpy as np
import tensorflow as tf

from tfzoo.data.loader import prefetch
from tfzoo.errors import OutOfMemory
from tfzoo.layers import context
from tfzoo.tasks.predictor import in_order
from tfzoo.training.strategy import local_value, place


@contextlib.contextmanager
def within_memory(model, batch, strategy, advice, optimizer=None, parts=1):
    """Convert TensorFlow's out-of-memory errors in the `with` block to OutOfMemory, with sizes and advice.

    Args:
        model: TaskModel; the message reports the size of its weights.
        batch: dict of arrays [B, ...], the global batch.
        strategy: tf.distribute.Strategy.
        advice: str, how to reduce memory use.
        optimizer: Keras optimizer, or None; the message reports the size of its state.
        parts: int, number of microbatches; reported in the message.

    Raises:
        OutOfMemory: if the computation does not fit into memory.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError, MemoryError) as error:
        # If memory runs out while a constant is folded, TensorFlow reports an invalid argument.
        if isinstance(error, tf.errors.InvalidArgumentError) and "Cannot parse tensor from proto" not in str(error):
            raise
        parameters, slots = (sum(np.prod(variable.shape) * tf.as_dtype(variable.dtype).size for variable in variables)
                             for variables in (model.weights, optimizer.variables if optimizer else ()))
        *rows, length = next(value.shape for key, value in batch.items() if key.endswith("token_ids"))
        raise OutOfMemory(
            f"out of memory: a batch of {' x '.join(map(str, rows))} x {length} tokens in {parts} microbatch(es) on "
            f"{strategy.num_replicas_in_sync} device(s), plus {parameters:,.0f} bytes of parameters and {slots:,.0f} "
            f"bytes of optimizer state on each; {advice}") from error


class Evaluator:
    """Evaluate a task model.

    Args:
        model: TaskModel, built in the scope of the strategy.
        task: Task of the model.
        xla: bool, compile the forward pass with XLA.
        strategy: tf.distribute.Strategy; None: TensorFlow's default.
        keep: bool, compute `answers` even if the task's metrics do not require them.

    Attributes:
        answers: list of dict, the answers from the last `evaluate`, in the order of the examples; None if they were not
            computed.
    """

    def __init__(self, model, task, xla=False, strategy=None, keep=False):
        self.model, self.task, self.strategy = model, task, strategy or tf.distribute.get_strategy()
        self.answers, self._predicts, self._xla = None, keep or task.answered, xla
        self._outputs = tf.function(self._forward, jit_compile=xla, autograph=False)
        self._run = tf.function(lambda batch: self.strategy.run(self._replica, (batch,)), autograph=False)

    def _forward(self, batch):
        passes = []

        def forward(inputs, *, draw=0, embedded=None, keep=()):
            passes.append(self.model(inputs, only_read=True, embedded=embedded, keep=keep, training=False))
            return passes[-1]

        sums = self.task.objective(forward, batch)[1]
        with context.changed(compiled=self._xla):
            return sums, self.task.predict(self.model, batch, passes[0]) if self._predicts else {}

    def _replica(self, batch):
        sums, predictions = self._outputs(batch)
        replica = tf.distribute.get_replica_context()
        sums = replica.all_reduce(tf.distribute.ReduceOp.SUM, sums)
        if self.strategy.num_replicas_in_sync > 1 and predictions:
            predictions = replica.all_gather(predictions, axis=0)  # rows in replica order
        return sums, predictions

    def evaluate(self, data, progress=None):
        """Compute the task's metrics over one pass through the data, counting each example once.

        Args:
            data: Batches.
            progress: callable that takes an iterable of batches and their number, and returns the wrapped iterable;
                None: no progress bar.

        Returns:
            dict of float.

        Raises:
            OutOfMemory: if a batch does not fit into memory.
        """
        totals, found, rows = {}, [], []
        steps = range(data.batches_per_epoch)
        batches = (batch for batch, _ in prefetch(data.batch, steps))
        for step, batch in zip(steps, batches if progress is None else progress(batches, len(steps))):
            with within_memory(self.model, batch, strategy=self.strategy, advice="lower --batch_size or --max_length"):
                sums, predictions = local_value(self.strategy, self._run(place(self.strategy, batch)))
            for key, value in sums.items():
                totals[key] = totals.get(key, 0.0) + value.numpy().astype(np.float64)
            if predictions:
                found.append({key: value.numpy() for key, value in predictions.items()})
                rows.append(data.rows(step))
        self.answers = self.task.answers(in_order(found, rows), data) if found else None
        return self.task.metrics(totals, self.answers if self.task.answered else None, data.references)
