"""The base of the tasks that score a whole text or a pair of texts from one vector."""
import numpy as np

from tfzoo.data.batches import Derived, TextBatches
from tfzoo.data.encode import encode_texts
from tfzoo.errors import ConfigError
from tfzoo.tasks.embedding import NAMES
from tfzoo.tasks.heads import ClassificationHead
from tfzoo.tasks.task import Task


def check_pooling(pooling):
    """Return a pooling (see ClassificationHead); raise ConfigError if there is none of that name."""
    if pooling != "auto" and pooling not in NAMES:
        raise ConfigError(f"pooling must be one of auto, {', '.join(NAMES)}, got {pooling!r}")
    return pooling


class TextTask(Task):
    """Base class of tasks with a ClassificationHead.

    Attributes:
        pooling: str, see ClassificationHead.
        width: int, C, the number of logits of a text.
    """

    paired, pooling = True, "auto"

    @property
    def pooled(self):
        """Return whether the body has a pooler: only if the head reads its vector."""
        return self.pooling == "auto"

    @property
    def width(self):
        return len(self.labels)

    def head(self, body, dropout, kind=ClassificationHead):
        if self.pooling == "first" and body.traits.causal:
            raise ConfigError("pooling is 'first', but the first token of a decoder does not see the others: choose "
                              "auto (the last token), mean or max")
        # As in the reference implementation, a decoder's head has no bias.
        return kind(self.width, body.config["hidden_dim"], dropout=dropout, use_bias=not body.traits.causal,
                    pooling=self.pooling, name="head", dtype=body.dtype_policy)

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        known = self.schema.targets[0] in source.columns
        encoded = tuple(encode_texts(tokenizer, texts, label=source.name, progress=None if known else False)
                        for texts in source.texts)
        batches = self.batches(encoded, tokenizer, source, batch_size=batch_size, max_length=max_length, seed=seed,
                               shuffle=training, multiple=multiple)
        return self.with_targets(batches, source, training) if known else batches

    def batches(self, encoded, tokenizer, source, **options):
        """Return the Batches of the encoded texts of a source (see TextBatches for the arguments)."""
        return TextBatches(encoded, tokenizer, **options)

    def with_targets(self, batches, source, training):
        """Return the Batches of a source with its targets (see `labelled`)."""
        raise ConfigError(f"{self.name} has no targets")


def labelled(batches, labels, weights=None, references=None):
    """Add the labels of each row to Batches.

    Args:
        batches: Batches.
        labels: int or float array [N, ...], the labels of each example.
        weights: float array [N] or [N, ...], the weights of its targets; None: 1.
        references: see Batches.

    Returns:
        Batches with `labels`, int32 or float32 [B, ...], and `weights`, float32 (0 for padding rows).
    """
    labels = np.asarray(labels)
    labels = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int32)
    weights = np.ones(len(labels), np.float32) if weights is None else np.asarray(weights, np.float32)

    def add(batch, step, rows):
        padding = rows < 0
        found = {"labels": labels[rows], "weights": weights[rows]}
        for value in found.values():
            value[padding] = 0
        return found

    return Derived(batches, add, references)
