"""A body with a task's head, as an ordinary Keras model that has the task as an attribute."""
import keras
from keras import ops

from tfzoo.layers import context
from tfzoo.models import DictModel
from tfzoo.tasks.registry import task_of


@keras.saving.register_keras_serializable(package="tfzoo")
class TaskModel(DictModel):
    """Keras model that combines a body with a task's head.

    Args:
        body: Body.
        head: keras.layers.Layer (see tfzoo.tasks.heads).
        task: Task, or a dict of its name, labels and settings; None if unknown, as in files from older releases.

    Call arguments:
        inputs: dict of int32 tensors (see Body); for a masked language model also masked_positions [B, P]. With several
            texts per row, all tensors that describe tokens are [B, N, T], and all outputs begin with [B, N].
        only_read: bool, compute only the positions that the head reads in the body's last block. If the inputs also
            contain labels and weights, the head of a language model returns the sums `loss` and `right`, not logits.
        embedded, keep: see Body.
        training: bool.

    Returns:
        dict with the head's outputs, including float32 `logits` or the sums `loss` and `right`, and the body's outputs.
        With only_read, `read` [B, P, D] replaces `sequence` unless the head reads all positions.
    """

    def __init__(self, body, head, task=None, **model):
        super().__init__(autocast=False, **model)  # autocasting would round the target weights
        self.body = body
        self.head = head
        self.task = task_of(task["name"], task["labels"], **task["settings"]) if isinstance(task, dict) else task
        if not head.built:
            head.build()
        self.built = True

    @property
    def input_names(self):
        """Return the names of an exported model's inputs (see Body): tuple of str."""
        return self.body.input_names

    def call(self, inputs, *, only_read=False, embedded=None, keep=(), training=None):
        if "token_ids" in inputs and len(inputs["token_ids"].shape) == 3:
            return self._call_several(inputs, only_read=only_read, keep=keep, training=training)
        given = inputs  # `embedded` may be longer than the token ids that it replaces
        if embedded is not None:
            given = {key: value for key, value in inputs.items() if key != "token_ids"}
        read = self.head.reads(given, self.body) if only_read else None
        outputs = self.body(inputs, read=read, embedded=embedded, keep=keep, training=training)
        return {**outputs, **self.head(outputs, inputs=inputs, body=self.body, only_read=only_read, training=training)}

    def _call_several(self, inputs, **options):
        # Each text becomes a row of its own, numbered through the global batch: dropout masks depend on that number.
        rows, texts = ops.shape(inputs["token_ids"])[:2]
        flat = {key: ops.reshape(value, (-1, ops.shape(value)[-1])) if len(value.shape) == 3 else value
                for key, value in inputs.items()}
        with context.changed(first_row=context.current().first_row * texts):
            outputs = self.call(flat, **options)
        return {key: ops.reshape(value, (rows, texts, *ops.shape(value)[1:])) for key, value in outputs.items()}

    def logits(self, outputs):
        """Compute float32 logits from the outputs of the body alone, as in decoding."""
        return self.head(outputs, inputs={}, body=self.body)["logits"]

    def get_config(self):
        task = self.task and {"name": self.task.name, "labels": self.task.labels, "settings": self.task.settings}
        return {"body": keras.saving.serialize_keras_object(self.body),
                "head": keras.saving.serialize_keras_object(self.head), "task": task, "name": self.name}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        body = keras.saving.deserialize_keras_object(config.pop("body"))
        return cls(body, keras.saving.deserialize_keras_object(config.pop("head")), **config)
