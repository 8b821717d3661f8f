"""Extractive question answering (Rajpurkar et al. 2016, SQuAD, arXiv:1606.05250).

A context that does not fit is cut into overlapping windows, which compete by the sum of their logits, as in Devlin et
al. 2018 (arXiv:1810.04805). Unlike there, all parts of a window up to `max_answer` tokens are scored, not only those
between the 20 best starts and ends. A model whose training data have questions without answers may answer "".
"""
import numpy as np
import tensorflow as tf

from tfzoo.data.questions import QUESTION_TOKENS, QUESTIONS, QuestionBatches, null_position, question_room
from tfzoo.errors import ConfigError
from tfzoo.metrics.squad import answer_metrics, cjk_share
from tfzoo.tasks.heads import PositionHead
from tfzoo.tasks.task import Task, cross_entropy, smooth

N_BEST, LISTED = 20, 5  # the answers that share the probability, and those of them that are returned
NONE = -1e30  # the logit of what cannot be chosen


class QuestionAnswering(Task):
    """Predict where the answer to a question starts and ends in a context.

    Args:
        overlap: int, the number of tokens that neighboring windows share; None: a quarter of a window's context.
        max_answer: int, the maximum number of tokens of an answer.
        null_threshold: float, answer "" if the score of no answer exceeds that of the best answer by more; None: never
            answer "".
        scoring: str, the rules of exact match and F1: "squad", "cmrc2018", or "auto", for the rules of CMRC 2018 if
            most letters of the contexts are Chinese, Japanese or Korean.
    """

    name, script, pooled, schema = "question_answering", "finetune", False, QUESTIONS
    answered = paired = True
    better, shown = ("f1", max), ("loss", "exact_match", "f1", "best_f1")
    text_columns = ("question", "context")
    truncated = f"questions were truncated to {QUESTION_TOKENS} tokens, or half a row"

    def __init__(self, overlap=None, max_answer=30, null_threshold=None, scoring="auto"):
        self.overlap, self.max_answer, self.null_threshold, self.scoring = overlap, max_answer, null_threshold, scoring
        self._searches = False

    def adapt(self, source, embedding=None):
        if self.scoring == "auto":
            self.scoring = _scoring_of(dict.fromkeys(source.columns["context"]))
        self._searches = self.null_threshold is None and source.unanswerable > 0
        self.null_threshold = 0.0 if self._searches else self.null_threshold

    def adopt(self, results):
        if self._searches and "best_f1_threshold" in results:
            self.null_threshold = results["best_f1_threshold"]

    def head(self, body, dropout):
        return PositionHead(2, body.config["hidden_dim"], dropout, name="head", dtype=body.dtype_policy)

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        return QuestionBatches(source, tokenizer, batch_size=batch_size, max_length=max_length, seed=seed,
                               training=training, multiple=multiple, overlap=self.overlap)

    def objective(self, forward, batch):
        """Compute the loss (see Task) of a batch that has `labels`, int32 [B, 2] (start, end), and `weights` [B]."""
        logits = tf.transpose(forward(batch)["logits"], (0, 2, 1))  # [B, 2, T]
        if "padding_mask" in batch:  # so that the loss does not depend on the padded length
            logits = tf.where(batch["padding_mask"][:, None] > 0, logits, NONE)
        weights = tf.repeat(batch["weights"][:, None] / 2, 2, 1)
        loss, right = cross_entropy(logits, batch["labels"], weights)
        term = smooth(loss, logits, batch["labels"], weights, self.label_smoothing)
        return {"loss": term}, {"loss": loss, "right": right, "count": tf.reduce_sum(weights)}

    def predict(self, model, batch, outputs):
        """Return the best answers of each window.

        Returns:
            dict: `scores`, float32 [B, N_BEST], the sums of the logits of the best answers in descending order (NONE:
            there are no more); `firsts` and `lasts`, int32 [B, N_BEST], their columns; `null`, float32 [B], the score
            of no answer; and `window`, int32 [B].
        """
        logits = tf.where(batch["context_mask"][..., None] > 0, outputs["logits"], NONE)
        starts, ends = logits[..., 0], tf.pad(logits[..., 1], [[0, 0], [0, self.max_answer - 1]], constant_values=NONE)
        width = tf.shape(starts)[1]
        sums = tf.stack([starts + ends[:, more:more + width] for more in range(self.max_answer)], -1)
        sums = tf.reshape(tf.maximum(sums, NONE), (tf.shape(sums)[0], width * self.max_answer))
        sums = tf.pad(sums, [[0, 0], [0, N_BEST]], constant_values=NONE)  # at least N_BEST columns
        scores, places = tf.math.top_k(sums, N_BEST)
        firsts = places // self.max_answer
        null = tf.gather(outputs["logits"], batch["null_position"], axis=1, batch_dims=1)
        return {"scores": scores, "firsts": firsts, "lasts": firsts + places % self.max_answer,
                "null": tf.reduce_sum(null, -1), "window": batch["window"]}

    def answers(self, predictions, batches):
        """Return one answer per question: list of dict.

        Each has `id`, if the questions have ids; `answer`, its text, and `start` and `end`, its code points in the
        context (0 for ""); `score`, its probability among the best answers; `nbest`, the best of these, each with
        `answer`, `start`, `end` and `score`; and `null_odds`, the score of no answer minus that of the best answer.
        """
        columns, owners = batches.source.columns, batches.owners[predictions["window"]]
        edges = np.searchsorted(owners, np.arange(len(batches.source) + 1))
        return [{**({"id": columns["id"][example]} if "id" in columns else {}), **self._answer(
            {key: value[first:end] for key, value in predictions.items()}, batches, example)}
            for example, (first, end) in enumerate(zip(edges, edges[1:]))]

    def _answer(self, found, batches, example):
        best, null, answerable = {}, float(found["null"].min()), self.null_threshold is None
        order = np.argsort(-found["scores"], axis=None, kind="stable")
        for row, place in zip(*np.unravel_index(order, found["scores"].shape)):
            score = float(found["scores"][row, place])
            if score <= NONE / 2 or len(best) == N_BEST:
                break
            span = tuple(batches.token(found["window"][row], found[key][row, place]) for key in ("firsts", "lasts"))
            best.setdefault(span, score)  # windows share spans
        odds = null - max(best.values(), default=NONE)
        sums = np.array([*best.values(), *([] if answerable else [null])])
        shares = np.exp(sums - sums.max(initial=NONE))
        shares = (shares / shares.sum()).tolist() if len(sums) else [0.0]
        context, listed = batches.source.columns["context"][example], []
        for span, share in zip(best, shares[:LISTED]):
            start, end = batches.place(example, *span)
            listed.append({"answer": context[start:end], "start": start, "end": end, "score": share})
        empty = not listed or not answerable and odds > self.null_threshold
        chosen = {"answer": "", "start": 0, "end": 0, "score": shares[-1]} if empty else listed[0]
        return {**chosen, "null_odds": odds, "nbest": listed}

    def metrics(self, sums, answers=None, references=None):
        """Compute metrics (see Task); given answers, those of `answer_metrics`.

        The scores at threshold 0 and the best ones are reported for data in which some questions have no answer.
        """
        base = super().metrics(sums)
        if answers is None:
            return {"loss": base["loss"], "accuracy": base["accuracy"]}
        best = [answer["nbest"][0]["answer"] if answer["nbest"] else "" for answer in answers]
        odds, scoring = self.rules(answers, references)
        return {"loss": base["loss"], **answer_metrics(references, best, odds, scoring, self.null_threshold or None)}

    def rules(self, answers, references):
        """Return how to score: (the `null_odds` of the answers, or None; the name of the rules)."""
        odds = None if self.null_threshold is None else [answer["null_odds"] for answer in answers]
        golds = [gold for golds in references for gold in golds]
        return odds, _scoring_of(golds) if self.scoring == "auto" else self.scoring

    def encode(self, tokenizer, texts, max_length, pairs=None):
        """Encode questions and contexts (see Task) of one window each, with the places of the contexts' tokens."""
        if tokenizer.kind != "wordpiece":
            raise ConfigError(f"a {tokenizer.kind} tokenizer gives no character offsets in a SavedModel yet; export a "
                              "model trained with WordPiece")
        room, (before, between, _) = tokenizer.room(max_length, 2), tokenizer.around
        contexts = tf.strings.unicode_transcode(pairs, "UTF-8", "UTF-8", errors="replace")
        asked, (tokens, starts, ends) = tokenizer.encode(texts), tokenizer.encode_with_offsets(contexts)
        question, context = (tf.cast(part.row_lengths(), tf.int32) for part in (asked, tokens))
        kept = tf.minimum(question, question_room(room))
        inside = tf.minimum(context, room - kept)
        batch = tokenizer.join([asked[:, :question_room(room)], tokens], max_length)
        column = (len(before) + len(between) + kept)[:, None]
        columns = tf.range(tf.shape(batch["token_ids"])[1])[None]
        null = null_position(tokenizer.around, kept, inside)
        return {**batch, "context_mask": tf.cast((columns >= column) & (columns < column + inside[:, None]), tf.int32),
                "null_position": tf.zeros_like(kept) + null, "window": tf.zeros_like(kept), "context": contexts,
                "column": column, "starts": starts.to_tensor(0), "ends": ends.to_tensor(0),
                "cut": question - kept + context - inside}

    def serve(self, predictions, batch):
        """Return answer tf.string [B], start and end int32 [B] in code points, score float32 [B], and cut int32 [B]."""
        scores, null, answerable = predictions["scores"], predictions["null"][:, None], self.null_threshold is None
        shares = tf.nn.softmax(scores if answerable else tf.concat([scores, null], 1))
        there = scores[:, :1] > NONE / 2
        chosen = there if answerable else there & (null - scores[:, :1] <= self.null_threshold)
        start, end = (tf.where(chosen, tf.gather(tf.pad(batch[key], [[0, 0], [0, 1]]), tf.where(
            chosen, predictions[column][:, :1] - batch["column"], 0), batch_dims=1), 0)[:, 0]
            for key, column in (("starts", "firsts"), ("ends", "lasts")))
        rest = tf.strings.substr(tf.strings.join([batch["context"], " "]), end,
                                 tf.strings.length(batch["context"], unit="UTF8_CHAR") + 1 - end, unit="UTF8_CHAR")
        accents = (tf.strings.length(each, unit="UTF8_CHAR")
                   for each in (rest, tf.strings.regex_replace(rest, r"^\p{Mn}+", "")))
        end += tf.where(chosen[:, 0], tf.subtract(*accents), 0)  # see QuestionBatches.place
        score = tf.where(chosen, shares[:, :1], tf.zeros_like(null) if answerable else shares[:, -1:])[:, 0]
        answer = tf.strings.substr(batch["context"], start, end - start, unit="UTF8_CHAR")
        return {"answer": answer, "start": start, "end": end, "score": score, "cut": batch["cut"]}


def _scoring_of(texts):
    return "cmrc2018" if cjk_share(texts) > 0.5 else "squad"
