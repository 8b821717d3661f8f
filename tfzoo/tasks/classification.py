"""Classification of a text or a pair of texts (Devlin et al. 2018, arXiv:1810.04805, section 4.1)."""
import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfzoo.data.batches import Derived, TextBatches, TextWindows
from tfzoo.data.encode import encode_texts
from tfzoo.data.readers import LABELLED
from tfzoo.errors import ConfigError, shown
from tfzoo.layers import Dropout, Linear
from tfzoo.metrics.confusion import confusion_metrics
from tfzoo.tasks.evidence import of_classes
from tfzoo.tasks.task import Task, cross_entropy, smooth


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

    With windows, a row of a batch is one window, and each of the W windows of a text is trained with the label of the
    text and the weight 1 / W. Every text thus has the weight 1 in the loss, and an epoch sees each window once. A
    prediction is made from the logits of all windows of a text, pooled. In evaluation, the loss is the weighted mean
    over windows, and all other metrics count each text once, by its pooled prediction.

    Args:
        labels: list of str, in the order of the logits.
        long: str, what happens to texts longer than max_length: "cut" truncates them, "windows" splits them into
            windows. Pairs of texts can only be truncated.
        overlap: int, the number of tokens that consecutive windows share; None for a quarter of a window.
        long_pooling: str, "mean" or "max" of the logits of a text's windows, for each label.

    Raises:
        ConfigError: if `long` or `long_pooling` is unknown.
    """

    name, script, schema = "classification", "finetune", LABELLED
    labelled = paired = pooled = True
    better, shown = ("accuracy", max), ("loss", "accuracy", "f1")

    def __init__(self, labels, long="cut", overlap=None, long_pooling="mean"):
        self.labels, self.long, self.overlap, self.long_pooling = list(labels), long, overlap, long_pooling
        for name, allowed in (("long", ("cut", "windows")), ("long_pooling", ("mean", "max"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} must be {' or '.join(allowed)}, got {shown(getattr(self, name))}")
        if overlap is not None and (type(overlap) is not int or overlap < 0):
            raise ConfigError(f"overlap must be an integer >= 0, got {shown(overlap)}")

    @property
    def settings(self):
        return {"long": self.long, "overlap": self.overlap, "long_pooling": self.long_pooling}

    @property
    def answered(self):
        """Return whether the metrics require answers: with windows, those of a text are merged in its answer."""
        return self.long == "windows"

    def head(self, body, dropout):
        # As in the reference implementation, a decoder's head has no bias.
        return ClassificationHead(len(self.labels), body.config["hidden_dim"], dropout=dropout,
                                  use_bias=not body.traits.causal, name="head", dtype=body.dtype_policy)

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        references = source.columns.get("label")
        known = references is not None
        encoded = tuple(encode_texts(tokenizer, texts, label=source.name, progress=None if known else False)
                        for texts in source.texts)
        options = {"batch_size": batch_size, "max_length": max_length, "seed": seed, "shuffle": training,
                   "multiple": multiple}
        if self.long == "cut":
            batches = TextBatches(encoded, tokenizer, **options)
            return labelled(batches, source.label_ids(self.labels), references=references) if known else batches
        if len(encoded) > 1:
            raise ConfigError(f"--long=windows: {source.name} has pairs of texts, which cannot be split into windows; "
                              "use --long=cut")
        batches = TextWindows(*encoded, tokenizer, **options, overlap=self.overlap)
        return labelled(batches, source.label_ids(self.labels), 1 / batches.windows, references) if known else batches

    def objective(self, forward, batch):
        logits, count = forward(batch)["logits"], len(self.labels)
        loss, right = cross_entropy(logits, batch["labels"], batch["weights"])
        best = tf.argmax(logits, -1, output_type=tf.int32)
        # Margins of the confusion matrix: with thousands of labels, the matrix itself would be larger than a model.
        counts = [tf.math.unsorted_segment_sum(weights, ids, count) for weights, ids in (
            (batch["weights"] * tf.cast(best == batch["labels"], tf.float32), best),
            (batch["weights"], batch["labels"]), (batch["weights"], best))]
        term = smooth(loss, logits, batch["labels"], batch["weights"], self.label_smoothing)
        return {"loss": term}, {"loss": loss, "right": right, "count": tf.reduce_sum(batch["weights"]),
                                "labels": tf.stack(counts)}

    def predict(self, model, batch, outputs):
        logits = outputs["logits"]
        return {"probabilities": tf.nn.softmax(logits), **({"logits": logits} if self.long == "windows" else {})}

    def answers(self, predictions, batches):
        rows = predictions["probabilities"]
        if self.long == "windows":
            rows = self._pooled(rows, predictions["logits"], batches.windows)
        return [{"label": self.labels[int(row.argmax())], "probabilities": dict(zip(self.labels, row.tolist()))}
                for row in rows]

    def _pooled(self, probabilities, logits, counts):
        # The probabilities of each text, from the logits of its windows, which are neighbours.
        firsts, logits = np.cumsum(counts) - counts, logits.astype(np.float64)
        pooled = np.maximum.reduceat(logits, firsts) if self.long_pooling == "max" else \
            np.add.reduceat(logits, firsts) / counts[:, None]
        powers = np.exp(pooled - pooled.max(-1, keepdims=True))
        single = (counts == 1)[:, None]  # unchanged to the last bit
        return np.where(single, probabilities[firsts], powers / powers.sum(-1, keepdims=True)).astype(np.float32)

    def serve(self, predictions, batch):
        best = tf.argmax(predictions["probabilities"], -1)
        return {"label": tf.gather(tf.constant(self.labels), best),
                **super().serve({"probabilities": predictions["probabilities"]}, batch)}

    def evidence(self, answers, references, source):
        return of_classes(self.labels, answers, references, source)

    def metrics(self, sums, answers=None, references=None):
        counts = sums["labels"]
        if answers is not None:
            index = {label: number for number, label in enumerate(self.labels)}
            true, found = (np.array([index[label] for label in each]) for each in (
                references, [answer["label"] for answer in answers]))
            counts = [np.bincount(each, minlength=len(self.labels)) for each in (true[true == found], true, found)]
        return {"loss": super().metrics(sums)["loss"], **confusion_metrics(counts, self.labels)}


def labelled(batches, labels, weights=None, references=None):
    """Add one label per row to Batches.

    Args:
        batches: Batches.
        labels: int [N], the label id of each example.
        weights: float [N], the weight of each row of an example; None for 1.
        references: see `Batches`.

    Returns:
        Batches with `labels`, int32 [B], and `weights`, float32 [B] (0 for padding rows).
    """
    def add(batch, step, rows):
        real = rows >= 0
        return {"labels": np.where(real, labels[rows], 0).astype(np.int32),
                "weights": (real if weights is None else np.where(real, weights[rows], 0)).astype(np.float32)}

    return Derived(batches, add, references)
