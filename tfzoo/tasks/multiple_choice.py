"""Multiple choice: which of several texts continues or answers a text (Zellers et al. 2018, SWAG, arXiv:1808.05326).

Each choice is encoded as a pair with the text and gets one logit (Devlin et al. 2018, arXiv:1810.04805, section 4.4).
Rows may have different numbers of choices.
"""
import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfzoo.data.encode import EncodedTexts, encode_texts
from tfzoo.data.readers import Schema
from tfzoo.data.several import GroupedBatches
from tfzoo.records.answers import of_choice
from tfzoo.tasks.heads import ClassificationHead
from tfzoo.tasks.task import Task
from tfzoo.tasks.text_task import TextTask, check_pooling, labelled

MISSING = -1e9  # the logit of a choice that a row does not have: its probability is 0, and a row of these stays finite


@keras.saving.register_keras_serializable(package="tfzoo")
class ChoiceHead(ClassificationHead):
    """Score each text with one logit: see ClassificationHead, whose arguments it takes.

    Returns:
        dict with `logits`, float32 [B]: MISSING for a text that is wholly masked.
    """

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        logits = super().call(outputs, inputs, body, only_read, training)["logits"][:, 0]
        mask = inputs.get("padding_mask")
        return {"logits": logits if mask is None else ops.where(ops.any(mask > 0, axis=1), logits, MISSING)}


def _check(row, labelled):
    count = len(row["choices"])
    if count < 2:
        return f"choices has {count} items, but must have at least two"
    if "choice" in row and row["choice"] >= count:
        return f"label is {row['choice']}, but must be below {count}, the number of choices"
    return ""


class MultipleChoice(TextTask):
    """Choose one of several texts that belong to a text, [B, N, T].

    Args:
        pooling: str, see ClassificationHead.
    """

    name, script, axes, width, paired = "multiple_choice", "finetune", 3, 1, False
    schema = Schema(inputs=("text", "choices"), targets=("choice",), endings=(".jsonl",), check=_check)
    better, shown = ("accuracy", max), ("loss", "accuracy")
    text_columns = ("text", "choices")

    def __init__(self, pooling="auto"):
        self.pooling = check_pooling(pooling)

    def head(self, body, dropout):
        return super().head(body, dropout, ChoiceHead)

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        choices, known = source.columns["choices"], "choice" in source.columns
        sizes = np.array([len(each) for each in choices])
        columns = (source.columns["text"], [choice for each in choices for choice in each])
        texts, others = (encode_texts(tokenizer, column, label=source.name, progress=None if known else False)
                         for column in columns)
        texts = EncodedTexts(texts.tokens, np.repeat(texts.starts, sizes), np.repeat(texts.ends, sizes))
        batches = GroupedBatches((texts, others), tokenizer, sizes, batch_size=batch_size, max_length=max_length,
                                 seed=seed, shuffle=training, multiple=multiple)
        return labelled(batches, np.array(source.columns["choice"])) if known else batches

    def predict(self, model, batch, outputs):
        return {"probabilities": tf.nn.softmax(outputs["logits"])}

    def encode(self, tokenizer, texts, max_length, pairs=None):
        """Encode texts and their choices in a TensorFlow graph (see Task).

        Args:
            tokenizer, max_length: see Task.
            texts: tf.string [B].
            pairs: tf.string [B, N], the choices; an empty string is none.

        Returns:
            dict of tensors [B, N, T], and `cut`, int32 [B].
        """
        rows, choices = tf.unstack(tf.shape(pairs))
        batch = super().encode(tokenizer, tf.repeat(texts, choices), max_length, tf.reshape(pairs, (-1,)))
        given = tf.cast(pairs != "", tf.int32)
        batch = {key: tf.reshape(value, (rows, choices, *tf.unstack(tf.shape(value)[1:])))
                 for key, value in batch.items()}
        return {**batch, "padding_mask": batch["padding_mask"] * given[..., None],
                "cut": tf.reduce_sum(batch["cut"] * given, 1)}

    def serve(self, predictions, batch):
        return {"label": tf.argmax(predictions["probabilities"], -1, output_type=tf.int32),
                **super().serve(predictions, batch)}

    def answers(self, predictions, batches):
        return of_choice(predictions["probabilities"], getattr(batches, "base", batches).sizes)

    def metrics(self, sums, answers=None, references=None):
        metrics = Task.metrics(self, sums)
        return {"loss": metrics["loss"], "accuracy": metrics["accuracy"]}
