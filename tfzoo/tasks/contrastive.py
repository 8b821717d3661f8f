"""Contrastive learning of text embeddings: SimCSE (Gao et al. 2021, arXiv:2104.08821), with or without supervision;
multiple negatives ranking (Henderson et al. 2017, arXiv:1705.00652); and regression of cosine similarities
(Reimers & Gurevych 2019, arXiv:1908.10084).

Unlike in these, the negatives of a row are the other texts of a fixed group of rows of the global batch, so that the
loss does not depend on how the batch is split; texts that are equal, or positives of an equal anchor, are no negatives.
"""
import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfzoo.data.batches import Derived
from tfzoo.data.encode import encode_texts
from tfzoo.data.readers.schema import Schema
from tfzoo.data.several import SeveralTexts
from tfzoo.errors import ConfigError, DataError
from tfzoo.layers import Linear
from tfzoo.layers.configured import arguments
from tfzoo.metrics.correlation import is_constant, pearson, spearman
from tfzoo.metrics.retrieval import cosines, retrieval_scores
from tfzoo.progress import tell
from tfzoo.tasks.embedding import checked, pool, pooled_by, prepared, prepared_in_graph, unit
from tfzoo.tasks.heads import Head
from tfzoo.tasks.task import Task
from tfzoo.tasks.text_task import check_pooling

GROUP = 32  # rows
NEVER = -1e9  # the logit of a text that is not a negative


def _check(row, labelled):
    if not labelled:
        return ""
    pair, scored, negatives = "text_pair" in row, "value" in row, row.get("negatives", [])
    for name, text in (("text", row["text"]), ("text_pair", row.get("text_pair", ".")),
                       *((f"negatives[{number}]", text) for number, text in enumerate(negatives))):
        if not text.strip():
            return f"{name} is empty"
    if (scored or negatives) and not pair:
        return f"a {'label (the score of a pair)' if scored else 'list of negatives'} requires text_pair"
    if scored and negatives:
        return "both label and negatives: a row has either a score or negatives"
    if pair and not scored:
        row["negatives"] = negatives
    return ""


GROUPS = Schema(optional=("text_pair",), optional_targets=("negatives", "value"), check=_check,
                needs=("text", "text, optionally text_pair, and with it a list of negatives or a number as label"))


@keras.saving.register_keras_serializable(package="tfzoo")
class EmbeddingHead(Head):
    """Pool the hidden states of a text.

    Args:
        hidden_dim: int.
        embedding: dict, how to pool (see tfzoo.tasks.embedding).
        projected: bool, whether vectors pass a dense layer with tanh in training, as in unsupervised SimCSE.

    Call arguments: see tfzoo.tasks.heads.

    Returns:
        dict with `embedding`, float32 [B, D].
    """

    def __init__(self, hidden_dim, embedding, projected=False, **layer):
        super().__init__(**layer)
        self.config = arguments(locals())
        self.dense = Linear(hidden_dim, name="dense", dtype=self.dtype_policy) if projected else None

    def build(self, input_shape=None):
        if self.dense is not None:
            self.dense.build((None, self.config["hidden_dim"]))
        self.built = True

    def reads(self, inputs, body):
        rows = next((inputs[key] for key in ("padding_mask", "token_ids") if inputs.get(key) is not None), None)
        first = self.config["embedding"]["pooling"] == ["cls"] and rows is not None
        return ops.zeros((ops.shape(rows)[0], 1), "int32") if first else None

    def call(self, outputs, inputs=None, body=None, only_read=False, training=None):
        sequence = outputs["read" if "read" in outputs else "sequence"]
        real = inputs.get("padding_mask")
        real = tf.ones(tf.shape(sequence)[:2], tf.int32) if real is None else real[:, :tf.shape(sequence)[1]]
        vectors = pool(sequence, real, self.config["embedding"])
        if self.dense is not None and training:
            vectors = ops.cast(ops.tanh(self.dense(vectors)), "float32")
        return {"embedding": vectors}


class Contrastive(Task):
    """Learn vectors whose cosine similarity is that of the texts.

    What is learned depends on the columns of the data: texts alone (each text is its own positive, with other dropout),
    pairs with or without hard negatives, or pairs with a score.

    Args:
        pooling: str, "first", "mean" or "max"; "auto" keeps `embedding`.
        similarity_temperature: float, cosines are divided by it.
        group_size: int, the number of rows among which negatives are chosen.
        min_score, max_score: float, the scores that correspond to the cosines 0 and 1; None until `adapt` reads them
            from the training data.
        embedding: dict, how vectors are computed (see tfzoo.tasks.embedding); None: the mean over tokens.
        projected: bool, see EmbeddingHead; `adapt` sets it.
    """

    name, script, schema, pooled = "contrastive", "pretrain finetune", GROUPS, False
    answered = True
    shown = ("loss", "accuracy", "spearman", "recall@1", "mrr")

    def __init__(self, pooling="auto", similarity_temperature=0.05, group_size=None, min_score=None, max_score=None,
                 embedding=None, projected=False):
        if min_score is not None and max_score is not None and not min_score < max_score:
            raise ConfigError(f"--min_score={min_score:g} must be less than --max_score={max_score:g}")
        self.pooling, self.group_size = check_pooling(pooling), group_size
        self.similarity_temperature = similarity_temperature
        self.min_score, self.max_score, self.projected = min_score, max_score, projected
        # Texts are stripped because sentence-transformers does.
        self.embedding = checked(embedding, "embedding") if embedding else {
            **pooled_by("mean" if pooling == "auto" else pooling), "strip": True}

    @property
    def prompt(self):
        """Return the text that is put before each text: str."""
        return self.embedding["prompts"].get(self.embedding["default_prompt"], "")

    def adapt(self, source, embedding=None):
        """Choose the pooling of the model to start from, and take the range of scores from the training data.

        Raises:
            ConfigError: if the embedding settings are not supported, or the groups leave no negatives.
            DataError: if the scores have no range, or exceed the range that was set.
        """
        if self.pooling == "auto" and embedding:
            self.embedding = embedding
        problem = self.embedding["problem"] or (self.prompt and not self.embedding["include_prompt"] and (
            "the model pools without its default prompt, which cannot be trained"))
        if problem:
            raise ConfigError(f"{problem}; give --pooling=mean, first or max")
        scores, pairs = source.columns.get("value"), "text_pair" in source.columns
        self.projected = not pairs and self.embedding["pooling"] == ["cls"]
        if self.group_size == 1 and scores is None and not any(source.columns.get("negatives", ())):
            raise ConfigError("--group_size=1 leaves no negatives: raise it, or --batch_size")
        if scores is not None:
            self._fit_scores(source.name, scores)

    def _fit_scores(self, name, scores):
        low, high = self.limits(scores)
        if not low < high:
            raise DataError(f"{name}: all {len(scores):,} scores (label) are {low:g}, so they have no range: give "
                            "--min_score and --max_score")
        beyond = next((number for number, score in enumerate(scores, 1) if not low <= score <= high), None)
        if beyond:
            raise DataError(f"{name}: the score of example {beyond} is {scores[beyond - 1]:g}, but must be from "
                            f"--min_score={low:g} to --max_score={high:g}")
        self.min_score, self.max_score = float(low), float(high)
        tell(f"{name}: scores from {low:g} to {high:g} are learned as cosines from 0 to 1")

    def limits(self, scores):
        """Return the scores that mean the cosines 0 and 1, by default the least and the greatest: (low, high)."""
        return tuple(fixed if fixed is not None else choose(scores) for fixed, choose in (
            (self.min_score, min), (self.max_score, max)))

    def targets(self, scores):
        """Return the cosines that correspond to scores: float64 array [N]."""
        low, high = self.limits(scores)
        return (np.asarray(scores) - low) / ((high - low) or 1.0)

    def head(self, body, dropout):
        return EmbeddingHead(body.config["hidden_dim"], self.embedding, self.projected, name="head",
                             dtype=body.dtype_policy)

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        columns = source.columns
        fixed = 1 + ("text_pair" in columns)
        sets = [[*row[:fixed], *(row[2] if len(row) > 2 else ())] for row in zip(*(
            columns[name] for name in ("text", "text_pair", "negatives") if name in columns))]
        number_of = {text: number for number, text in enumerate(dict.fromkeys(text for row in sets for text in row))}
        numbers = np.full((len(sets), max(map(len, sets))), -1)
        for row, texts in zip(numbers, sets):
            row[:len(texts)] = [number_of[text] for text in texts]
        known = {"value", "negatives"} & columns.keys()
        encoded = encode_texts(tokenizer, prepared(number_of, self.embedding, self.prompt), label=source.name,
                               progress=None if known or training else False)
        base = SeveralTexts(encoded, numbers, tokenizer, fixed=fixed, batch_size=batch_size, max_length=max_length,
                            seed=seed, shuffle=training, multiple=multiple)
        if not training:
            self.better = ("spearman", max) if "value" in known else ("mrr", max) if known else ("loss", min)
        return ContrastiveBatches(base, self, columns.get("value"), ranked="negatives" in known)

    def objective(self, forward, batch):
        vectors, texts, weights = forward(batch)["embedding"], batch["texts"], batch["weights"]
        if "scores" in batch:
            vectors = unit(vectors)
            losses = (tf.reduce_sum(vectors[:, 0] * vectors[:, 1], -1) - batch["scores"]) ** 2
            right = tf.zeros_like(losses)
        else:
            if texts.shape[1] == 1:
                vectors = tf.concat([vectors, forward(batch, draw=1)["embedding"]], 1)
                texts = tf.concat([texts, texts], 1)
            losses, right = ranking_losses(vectors, texts, self.group_size or GROUP, self.similarity_temperature)
        loss = tf.reduce_sum(losses * weights)
        return {"loss": loss}, {"loss": loss, "right": tf.reduce_sum(right * weights), "count": tf.reduce_sum(weights)}

    def encode(self, tokenizer, texts, max_length, pairs=None):
        tokens = tokenizer.encode(prepared_in_graph(texts, self.embedding, self.prompt))
        cut = tf.cast(tokens.row_lengths(), tf.int32) - tokenizer.room(max_length, 1)
        return {**tokenizer.join([tokens], max_length), "cut": tf.maximum(cut, 0)}

    def predict(self, model, batch, outputs):
        return {"embedding": outputs["embedding"]}

    def answers(self, predictions, batches):
        """Return the vectors of each example (see Task).

        Returns:
            list of dict: `embedding`, float32 [D], of the text; for pairs also `pair_embedding` and `similarity`
            (float, the cosine), and for hard negatives `negative_embeddings`, float32 [N, D].
        """
        vectors = predictions["embedding"]
        if vectors.shape[1] == 1:
            return [{"embedding": row[0]} for row in vectors]
        found = [{"embedding": row[0], "pair_embedding": row[1], "similarity": float(value)}
                 for row, value in zip(vectors, cosines(vectors[:, 0], vectors[:, 1]))]
        if vectors.shape[1] > 2:
            for answer, row in zip(found, vectors):
                answer["negative_embeddings"] = row[2:]
        return found

    def metrics(self, sums, answers=None, references=None):
        """Compute metrics (see Task).

        Given answers, these are `pearson` and `spearman` of scores and cosines, or `recall@1`, `recall@5`, `recall@10`
        and `mrr` of pairs without scores.
        """
        count = float(sums["count"]) or 1.0
        found = {"loss": float(sums["loss"]) / count, "accuracy": float(sums["right"]) / count}
        if answers is None or not references:
            return found
        if "scores" in references:
            found.pop("accuracy", None)
            values, scores = [answer["similarity"] for answer in answers], references["scores"]
            if is_constant(scores) or is_constant(values):
                tell(f"all {len(scores):,} {'scores' if is_constant(scores) else 'cosines'} are equal: pearson and "
                     "spearman are undefined and reported as 0")
            return {**found, "pearson": pearson(values, scores), "spearman": spearman(values, scores)}
        return {**found, **{name: float(values.mean()) for name, values in query_scores(
            answers, references["texts"])[1].items()}}


class ContrastiveBatches(Derived):
    """Batches of SeveralTexts with weights and scores.

    Args:
        base: SeveralTexts.
        task: Contrastive.
        scores: list of float, or None.
        ranked: bool, whether the texts are to be ranked: pairs for evaluation.
    """

    def __init__(self, base, task, scores=None, ranked=False):
        references = {"scores": scores} if scores else {"texts": base.texts} if ranked else None
        super().__init__(base, self._targets, references)
        self._task, self._scores = task, task.targets(scores) if scores else None
        known = not scores or None not in (task.min_score, task.max_score)
        self._range = None if known else task.limits(scores)  # the model was trained without scores

    def _targets(self, batch, step, rows):
        found = {"weights": (rows >= 0).astype(np.float32)}
        if self._scores is not None:
            found["scores"] = np.where(rows >= 0, self._scores[rows], 0).astype(np.float32)
        return found

    def notes(self, source, max_length):
        """Return notes for the user (see Batches)."""
        texts, notes = self.base.texts, super().notes(source, max_length)
        own = (texts[:, 2:] >= 0) & ((texts[:, 2:] == texts[:, :1]) | (texts[:, 2:] == texts[:, 1:2]))
        same = int((texts[:, 0] == texts[:, 1]).sum()) if self.base.fixed == 2 else 0
        counts = ((int(own.sum()), "hard negatives equal the text or text_pair of their row, and are left out"),
                  (same, "pairs have the same tokens in text and text_pair"))
        group = self._task.group_size or GROUP
        notes += [f"{source.name}: {count:,} {what}" for count, what in counts if count]
        if self._scores is None and self.batch_size % group:  # only in evaluation
            notes.append(f"{source.name}: the loss compares fewer rows than the --group_size={group} of training, "
                         f"since that does not divide --batch_size={self.batch_size}")
        if self._range:
            notes.append(f"{source.name}: the loss takes its scores from {self._range[0]:g} to {self._range[1]:g} as "
                         "cosines from 0 to 1, since the model was trained without scores")
        return notes


def ranking_losses(vectors, texts, group, temperature):
    """Compute the cross-entropy of each row's positive among the candidates of its group.

    The candidates are the positives and hard negatives of all rows in the group, except texts that equal the anchor or
    a positive of an equal anchor.

    Args:
        vectors: float32 [B, N, D], the vectors of anchor, positive and negatives.
        texts: int32 [B, N], equal for equal texts; -1 for none.
        group: int, the number of consecutive rows in a group; the last group of the batch may have fewer.
        temperature: float.

    Returns:
        (float32 [B], float32 [B]): the losses, and 1 where the positive is the most similar candidate, else 0.
    """
    rows, count, width = vectors.shape
    size = min(group, rows)
    more = -rows % size
    vectors = tf.reshape(tf.pad(unit(vectors), [[0, more], [0, 0], [0, 0]]), (-1, size, count, width))
    texts = tf.reshape(tf.pad(texts, [[0, more], [0, 0]], constant_values=-1), (-1, size, count))
    anchors, positives = texts[:, :, 0, None], texts[:, :, 1, None]
    others = tf.reshape(texts[:, :, 1:], (-1, 1, size * (count - 1)))
    logits = tf.matmul(vectors[:, :, 0], tf.reshape(vectors[:, :, 1:], (-1, size * (count - 1), width)),
                       transpose_b=True) / temperature  # [groups, rows, candidates]
    alike = tf.cast(anchors == tf.transpose(anchors, (0, 2, 1)), tf.float32)
    answers = tf.matmul(alike, tf.cast(positives == others, tf.float32)) > 0
    own = tf.one_hot(tf.range(size) * (count - 1), size * (count - 1), on_value=True, off_value=False)[None]
    left = (others >= 0) & (others != anchors) & ~answers & ~own
    mine = tf.reduce_sum(tf.where(own, logits, 0.0), -1)
    wrong = tf.where(left, logits, NEVER)
    losses = tf.reduce_logsumexp(tf.concat([mine[..., None], wrong], -1), -1) - mine
    right = tf.cast(mine > tf.reduce_max(wrong, -1), tf.float32)
    return tf.reshape(losses, (-1,))[:rows], tf.reshape(right, (-1,))[:rows]


def query_scores(answers, texts):
    """Score the ranking of the texts for each different anchor, among all different positives and hard negatives.

    Args:
        answers: list of dict, from `Contrastive.answers`.
        texts: int [N, K], equal for equal texts: anchor, positive and hard negatives; -1 for none.

    Returns:
        (list of Q int, dict of float64 [Q]): the anchors, and their scores (see `retrieval_scores`).
    """
    vectors, relevant = {}, {}
    for answer, row in zip(answers, texts.tolist()):
        for text, vector in zip(row[1:], (answer["pair_embedding"], *answer.get("negative_embeddings", ()))):
            vectors.setdefault(text, vector)
        relevant.setdefault(row[0], (answer["embedding"], []))[1].append(row[1])
    vectors.pop(-1, None)
    place = {text: number for number, text in enumerate(vectors)}
    return list(relevant), retrieval_scores(
        [vector for vector, _ in relevant.values()], list(vectors.values()),
        relevant=[[place[text] for text in right] for _, right in relevant.values()],
        ignored=[[place[text]] if text in place else [] for text in relevant])
