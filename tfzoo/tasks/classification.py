"""Classification of a text or a pair of texts (Devlin et al. 2018, arXiv:1810.04805, section 4.1)."""
import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfzoo.data.batches import Derived, TextBatches
from tfzoo.data.encode import encode_texts
from tfzoo.data.readers import LABELLED
from tfzoo.layers import Dropout, Linear
from tfzoo.metrics.confusion import confusion_metrics
from tfzoo.tasks.task import Task, cross_entropy


@keras.saving.register_keras_serializable(package="tfzoo")
class ClassificationHead(keras.layers.Layer):
    """Classify a text from the pooled vector, or from its last real token if the body has no pooler.

    Args:
        num_labels, hidden_dim: int.
        dropout: float, dropout rate before the projection.
        use_bias: bool, whether the projection has a bias.

    Call arguments: see tfzoo.tasks.heads.

    Returns:
        dict with `logits`, float32 [B, C].
    """

    def __init__(self, num_labels, hidden_dim, dropout=0.1, use_bias=True, **layer):
        super().__init__(**layer)
        self.config = {"num_labels": num_labels, "hidden_dim": hidden_dim, "dropout": dropout, "use_bias": use_bias}
        self.dropout = Dropout(dropout, name="dropout", dtype=self.dtype_policy)
        self.dense = Linear(num_labels, use_bias, name="dense", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        self.dropout.build()
        self.dense.build((None, self.config["hidden_dim"]))
        self.built = True

    def reads(self, inputs, body):
        rows = next((inputs[key] for key in ("padding_mask", "token_ids") if inputs.get(key) is not None), None)
        if rows is None:  # the row length is known only from the body's `embedded`
            return None
        shape = ops.shape(rows)
        return ops.zeros((shape[0], 1), "int32") if body.traits.pooled else self._last(inputs, shape)

    def _last(self, inputs, shape):
        # The last real position of each row, int32 [B, 1]; shape is (B, T).
        columns, mask = ops.arange(shape[1], dtype="int32"), inputs.get("padding_mask")
        last = columns if mask is None else columns * ops.cast(mask, "int32")
        return tf.reduce_max(ops.broadcast_to(last, shape), axis=1, keepdims=True)  # ops.max refuses an empty batch

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        vector = outputs.get("pooled")
        if vector is None and "read" in outputs:
            vector = outputs["read"][:, 0]
        elif vector is None:
            last = self._last(inputs, ops.shape(outputs["sequence"])[:2])
            vector = tf.gather(outputs["sequence"], last, axis=1, batch_dims=1)[:, 0]
        return {"logits": ops.cast(self.dense(self.dropout(vector, training=training)), "float32")}

    def get_config(self):
        return {**super().get_config(), **self.config}


class Classification(Task):
    """Assign one of `labels` to a text or a pair of texts.

    Args:
        labels: list of str, in the order of the logits.
    """

    name, script, schema = "classification", "finetune", LABELLED
    labelled = paired = pooled = True
    better, shown = ("accuracy", max), ("loss", "accuracy", "f1")

    def __init__(self, labels):
        self.labels = list(labels)

    def head(self, body, dropout):
        # As in the reference implementation, a decoder's head has no bias.
        return ClassificationHead(len(self.labels), body.config["hidden_dim"], dropout=dropout,
                                  use_bias=not body.traits.causal, name="head", dtype=body.dtype_policy)

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        known = "label" in source.columns
        encoded = tuple(encode_texts(tokenizer, texts, label=source.name, progress=None if known else False)
                        for texts in source.texts)
        batches = TextBatches(encoded, tokenizer, batch_size=batch_size, max_length=max_length, seed=seed,
                              shuffle=training, multiple=multiple)
        return labelled(batches, source.label_ids(self.labels)) if known else batches

    def objective(self, forward, batch):
        logits, count = forward(batch)["logits"], len(self.labels)
        loss, right = cross_entropy(logits, batch["labels"], batch["weights"])
        best = tf.argmax(logits, -1, output_type=tf.int32)
        # Margins of the confusion matrix: with thousands of labels, the matrix itself would be larger than a model.
        counts = [tf.math.unsorted_segment_sum(weights, ids, count) for weights, ids in (
            (batch["weights"] * tf.cast(best == batch["labels"], tf.float32), best),
            (batch["weights"], batch["labels"]), (batch["weights"], best))]
        return {"loss": loss}, {"loss": loss, "right": right, "count": tf.reduce_sum(batch["weights"]),
                                "labels": tf.stack(counts)}

    def predict(self, model, batch, outputs):
        return {"probabilities": tf.nn.softmax(outputs["logits"])}

    def answers(self, predictions, batches):
        return [{"label": self.labels[int(row.argmax())], "probabilities": dict(zip(self.labels, row.tolist()))}
                for row in predictions["probabilities"]]

    def serve(self, predictions, batch):
        best = tf.argmax(predictions["probabilities"], -1)
        return {"label": tf.gather(tf.constant(self.labels), best), **super().serve(predictions, batch)}

    def metrics(self, sums, answers=None, references=None):
        return {"loss": super().metrics(sums)["loss"], **confusion_metrics(sums["labels"], self.labels)}


def labelled(batches, labels):
    """Add one label per row to Batches.

    Args:
        batches: Batches.
        labels: int [N], the label id of each example.

    Returns:
        Batches with `labels`, int32 [B], and `weights`, float32 [B] (0 for padding rows).
    """
    def add(batch, step, rows):
        real = rows >= 0
        return {"labels": np.where(real, labels[rows], 0).astype(np.int32), "weights": real.astype(np.float32)}

    return Derived(batches, add)
