"""Masked language modelling, with or without next-sentence prediction (Devlin et al. 2018, arXiv:1810.04805)."""
import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfzoo.data.batches import Derived, TextBatches
from tfzoo.data.corpus import open_corpus, open_sentences
from tfzoo.data.encode import sentence_pairs, split_long
from tfzoo.data.masking import mask_tokens, step_generator
from tfzoo.data.packing import PackedBatches
from tfzoo.errors import ConfigError
from tfzoo.layers import LayerNorm, Linear, kernels
from tfzoo.layers.configured import arguments
from tfzoo.layers.feed_forward import activation_of
from tfzoo.tasks.heads import Head, score_words
from tfzoo.tasks.task import Task, cross_entropy, smooth
from tfzoo.text.segmented import SegmentedTokenizer


@keras.saving.register_keras_serializable(package="tfzoo")
class MaskedLMHead(Head):
    """Predict masked tokens as in BERT: dense layer, activation, norm, then the tied token table and a bias.

    If the inputs have `masked_positions`, only these positions are computed.

    Args:
        hidden_dim, vocab_size: int.
        activation: str, the activation after the dense layer.
        epsilon: float, the epsilon of the norm.
        next_sentence: bool, also predict from the pooled vector whether the second text follows the first.
        embedding_dim: int, width of the token table and of the dense layer's output; 0: hidden_dim.

    Call arguments: see tfzoo.tasks.heads; `body` provides the token table.

    Returns:
        dict with `logits`, float32 [B, P, V] at the masked positions, or [B, T, V] if none are given; or with the sums
        `loss` and `right` (see `projected_cross_entropy`). With next_sentence, it also has `pair_logits`, float32
        [B, 2] (0: follows, 1: does not).
    """

    def __init__(self, hidden_dim, vocab_size, activation="gelu", epsilon=1e-12, next_sentence=False,
                 embedding_dim=0, **layer):
        super().__init__(autocast=False, **layer)  # weights stay float32
        self.config = arguments(locals())
        self.pair = Linear(2, name="pair", dtype=self.dtype_policy) if next_sentence else None
        self.activation = activation_of(activation)
        self.dense = Linear(embedding_dim or hidden_dim, name="dense", dtype=self.dtype_policy)
        self.norm = LayerNorm(epsilon=epsilon, name="norm", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        self.dense.build((None, None, self.config["hidden_dim"]))
        self.norm.build((None, None, self.dense.units))
        if self.pair:
            self.pair.build((None, self.config["hidden_dim"]))
        self.bias = self.add_weight(name="bias", shape=(self.config["vocab_size"],), initializer="zeros",
                                    autocast=False)
        self.built = True

    def reads(self, inputs, body):
        positions = inputs.get("masked_positions")
        if positions is None or self.pair is None:
            return positions
        return ops.concatenate([ops.zeros_like(positions[:, :1]), positions], axis=1)  # the pooler reads position 0

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        positions = inputs.get("masked_positions")
        if positions is None:
            hidden = outputs["sequence"]
        elif "read" in outputs:
            hidden = outputs["read"] if self.pair is None else outputs["read"][:, 1:]
        else:
            hidden = tf.gather(outputs["sequence"], positions, axis=1, batch_dims=1)  # [B, P, D]
        hidden = self.norm(kernels.activate(*self.dense.product(hidden, training), self.activation))
        result = score_words(hidden, inputs, table=body.embeddings.token, bias=self.bias, only_read=only_read,
                             training=training)
        if self.pair:
            result["pair_logits"] = ops.cast(self.pair(outputs["pooled"]), "float32")
        return result


def masked(batches, tokenizer, seed, whole_word=False, pair_labels=None, segmented=None):
    """Mask tokens in Batches; the masks depend only on (seed, step).

    Args:
        batches: Batches of inputs.
        tokenizer: see `mask_tokens`.
        seed: int.
        whole_word: bool, whether to mask whole words.
        segmented: SegmentedTokenizer, if it encoded the texts.
        pair_labels: int [N], 1 if the second text of an example does not follow the first; None without pairs.

    Returns:
        Batches with the arrays from `mask_tokens` and, for pairs, `pair_labels`, int32 [B], and `pair_weights`,
        float32 [B].
    """
    def add(batch, step, rows):
        token_ids, starts = batch["token_ids"], None
        if segmented:
            token_ids, starts = segmented.unmark(token_ids)
        elif whole_word:
            starts = tokenizer.starts_word[token_ids]
        maskable = (batch["padding_mask"] > 0) & ~np.isin(token_ids, tokenizer.special_ids)
        hidden = mask_tokens(token_ids, maskable, tokenizer=tokenizer, rng=step_generator(seed, step), starts=starts)
        if pair_labels is None:
            return hidden
        real = rows >= 0
        return {**hidden, "pair_labels": np.where(real, pair_labels[rows], 0).astype(np.int32),
                "pair_weights": real.astype(np.float32)}

    return Derived(batches, add)


class MaskedLM(Task):
    """Predict 15% of the tokens, chosen at random, and with `next_sentence` whether the second text follows the first.

    Args:
        next_sentence: bool, train on pairs of texts, half of them from two different documents.
        whole_word: bool, mask all pieces of a word together.
        segmentation: str, where the words of Chinese text begin, for whole_word: "spaces" (at spaces in the data),
            "jieba", or "none" (every character is a word).
        pack: bool, pack several texts into one row (see PackedBatches); not allowed with next_sentence.

    Raises:
        ConfigError: if pack and next_sentence are both set, or segmentation is set without whole_word.
    """

    name, script = "masked_lm", "pretrain"

    def __init__(self, next_sentence=False, whole_word=False, segmentation="none", pack=False):
        if pack and next_sentence:
            raise ConfigError("pack and next_sentence are both set: choose one, since each pair takes its own row")
        if segmentation != "none" and not whole_word:
            raise ConfigError(f"--segmentation={segmentation} requires --whole_word")
        self.next_sentence, self.whole_word, self.pack = next_sentence, whole_word, pack
        self.segmentation = segmentation
        self.pooled = next_sentence

    def suits(self, traits):
        return not traits.causal

    def head(self, body, dropout):
        config = body.config
        return MaskedLMHead(config["hidden_dim"], config["vocab_size"], activation=config["activation"],
                            epsilon=config["epsilon"], next_sentence=self.next_sentence,
                            embedding_dim=config["embedding_dim"], name="head", dtype=body.dtype_policy)

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        if tokenizer.mask_id is None:
            raise ConfigError(f"masked_lm requires a tokenizer with a mask token: {tokenizer.kind} has none")
        if self.whole_word and tokenizer.starts_word is None:
            raise ConfigError("--whole_word: this tokenizer's tokens do not mark where words start; omit it, or "
                              "use a vocabulary whose tokens do (##, \u2581, \u0120)")
        room = tokenizer.room(max_length, 2 if self.next_sentence else 1)  # fail before the texts are encoded
        segmented = None if self.segmentation == "none" else SegmentedTokenizer(tokenizer, self.segmentation)
        encoder = segmented or tokenizer
        if self.pack:
            packed = PackedBatches(open_corpus(source, encoder), tokenizer, batch_size=batch_size,
                                   max_length=max_length, seed=seed, shuffle=training)
            return masked(packed, tokenizer, seed=seed, whole_word=self.whole_word, segmented=segmented)
        elsewhere = None
        if self.next_sentence:
            *texts, elsewhere = sentence_pairs(*open_sentences(source, encoder), room, seed=seed, name=source.name)
        else:
            texts = [split_long(open_corpus(source, encoder), room)]
        batches = TextBatches(tuple(texts), tokenizer, batch_size=batch_size, max_length=max_length, seed=seed,
                              shuffle=training, multiple=multiple)
        return masked(batches, tokenizer, seed=seed, whole_word=self.whole_word, pair_labels=elsewhere,
                      segmented=segmented)

    def counts(self, batch):
        pairs = {"pair_loss": float(batch["pair_weights"].sum())} if self.next_sentence else {}
        return {**super().counts(batch), **pairs}

    def objective(self, forward, batch):
        """Compute the loss (see Task): as in BERT, the mean over masked tokens plus the mean over pairs."""
        passes = []
        terms, sums = super().objective(lambda inputs: passes.append(forward(inputs)) or passes[0], batch)
        outputs, = passes
        if not self.next_sentence:
            return terms, sums
        loss, right = cross_entropy(outputs["pair_logits"], batch["pair_labels"], batch["pair_weights"])
        term = smooth(loss, outputs["pair_logits"], batch["pair_labels"], batch["pair_weights"], self.label_smoothing)
        return {**terms, "pair_loss": term}, {**sums, "pair_loss": loss, "pair_right": right,
                                              "pair_count": tf.reduce_sum(batch["pair_weights"])}

    def metrics(self, sums, answers=None, references=None):
        metrics = super().metrics(sums)
        if self.next_sentence:
            count = float(sums["pair_count"]) or 1.0
            metrics.update(pair_loss=float(sums["pair_loss"]) / count, pair_accuracy=float(sums["pair_right"]) / count)
        return metrics
