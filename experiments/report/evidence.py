"""What a report shows about the answers of each kind of task, compared with the references example by example."""
import dataclasses
import typing

import numpy as np

from experiments.report.bootstrap import Score, correlation, f1, macro, precision, recall, share
from tfzoo.errors import DataError
from tfzoo.metrics.bleu import bleu_of
from tfzoo.metrics.confusion import MOST_REPORTED
from tfzoo.metrics.rouge import rouge_scores
from tfzoo.metrics.squad import answer_metrics
from tfzoo.records.tags import entities, types_of
from tfzoo.tasks.contrastive import query_scores


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The answers of a task compared with the references, example by example.

    Attributes:
        scores: dict of name to bootstrap.Score; those that `Task.metrics` returns too have the same name and value.
        errors: float [N], how bad each answer is, for example its loss; 0 for right answers.
        unit: str, what `errors` is.
        example: callable that maps the index of an example to a dict: `texts`, list of dict with `name`, `text` and
            `spans` (list of dict with `start`, `end`, in code points, `type` and `of`, "gold" or "predicted"); `gold`
            and `predicted`, str; and other entries, str or numbers.
        groups: dict of title to (names of G groups, counts int [N, G, 3]): how many right, true and predicted instances
            of each group, such as an entity type, an example has.
        labels: list of C str, the classes of a classifier, or None.
        true, predicted: int [M], the classes of M instances (examples or words), or None.
        probabilities: float [M, C], or None.
        positive: bool [M, C], the sets of labels that are right, for tasks without `true`, or None.
        confidence: (float [K], bool [K]), the probabilities of K decisions and whether they are right, or None.
        right: bool [N], for tasks that are scored by accuracy, or None.
    """

    scores: dict
    errors: np.ndarray
    unit: str
    example: typing.Callable
    groups: dict = dataclasses.field(default_factory=dict)
    labels: list = None
    true: np.ndarray = None
    predicted: np.ndarray = None
    probabilities: np.ndarray = None
    positive: np.ndarray = None
    confidence: tuple = None
    right: np.ndarray = None


def one_hot_counts(true, predicted, count):
    """Return how many right, true and predicted instances of each class each example has: uint8 [N, C, 3].

    Args:
        true, predicted: int [N].
        count: int, C.
    """
    classes = np.arange(count)
    is_true, is_predicted = true[:, None] == classes, predicted[:, None] == classes
    return np.stack([is_true & is_predicted, is_true, is_predicted], -1).astype(np.uint8)


_RATIOS = {"f1": f1, "precision": precision, "recall": recall}


def of_classes(labels, answers, references, source):
    """Return the Evidence of a classifier.

    Args:
        labels: list of C str.
        answers: list of N dict with `label` and `probabilities`.
        references: list of N str, the labels.
        source: Source of the N examples.
    """
    index = {label: number for number, label in enumerate(labels)}
    true, predicted = (np.array([index[label] for label in each]) for each in (
        references, [answer["label"] for answer in answers]))
    probabilities = np.array([[answer["probabilities"][label] for label in labels] for answer in answers])
    right = true == predicted
    of_gold = probabilities[np.arange(len(true)), true]
    losses = -np.log(np.maximum(of_gold, np.finfo(np.float32).tiny))
    scores, groups = {"accuracy": Score(right)}, {}
    if len(labels) <= MOST_REPORTED:
        counts = one_hot_counts(true, predicted, len(labels))
        scores |= {name: Score(counts, macro(ratio)) for name, ratio in _RATIOS.items()}
        groups = {"class": (labels, counts)}

    def example(number):
        return {"texts": _texts(source, number), "gold": references[number], "predicted": answers[number]["label"],
                "probability": float(probabilities[number].max()), "probability of gold": float(of_gold[number])}

    return Evidence(scores, np.where(right, 0, losses), "loss", example, groups, labels=labels, true=true,
                    predicted=predicted, probabilities=probabilities, confidence=(probabilities.max(1), right),
                    right=right)


def _texts(source, number):
    # The texts of an example; entities whose relation is asked for are marked.
    marks = source.columns["entities"][number] if "entities" in source.columns else []
    spans = [{"start": mark["start"], "end": mark["end"], "type": str(mark.get("type", "")), "of": "gold"}
             for mark in marks]
    return [{"name": name, "text": source.columns[name][number], "spans": spans if name == "text" else []}
            for name in ("text", "text_pair") if name in source.columns]


def of_label_sets(labels, answers, references, source):
    """Return the Evidence of a multi-label classifier.

    Args:
        labels: list of C str.
        answers: list of N dict with `labels` and `probabilities`.
        references: int [N, C], 1 for each label of an example.
        source: Source of the N examples.
    """
    true = np.asarray(references, bool)
    found = np.array([[label in answer["labels"] for label in labels] for answer in answers])
    probabilities = np.array([[answer["probabilities"][label] for label in labels] for answer in answers])
    counts, right = np.stack([true & found, true, found], -1), (true == found).all(1)
    scores = {"micro_f1": Score(counts.sum(1), f1), "sample_f1": Score(f1(counts.sum(1))),
              "subset_accuracy": Score(right)}
    if len(labels) <= MOST_REPORTED:
        scores["macro_f1"] = Score(counts, lambda totals, count: f1(totals).mean(-1))
    of_gold = np.maximum(np.where(true, probabilities, 1 - probabilities), np.finfo(np.float32).tiny)

    def example(number):
        named = {name: ", ".join(label for label, there in zip(labels, row) if there) or "(none)"
                 for name, row in (("gold", true[number]), ("predicted", found[number]))}
        return {"texts": _texts(source, number), **named}

    return Evidence(scores, np.where(right, 0, -np.log(of_gold).sum(1)), "loss", example,
                    {"label": (labels, counts)} if len(labels) <= MOST_REPORTED else {}, labels=labels, positive=true,
                    probabilities=probabilities, confidence=(probabilities.ravel(), true.ravel()), right=right)


def of_choices(answers, source):
    """Return the Evidence of multiple choice.

    Args:
        answers: list of N dict with `label`, an index, and `probabilities`, a list.
        source: Source of the N examples, with `choices` and `choice`.
    """
    true, choices = np.array(source.columns["choice"]), source.columns["choices"]
    right = true == np.array([answer["label"] for answer in answers])
    of_gold = np.array([answer["probabilities"][place] for answer, place in zip(answers, true)])
    losses = -np.log(np.maximum(of_gold, np.finfo(np.float32).tiny))

    def example(number):
        chosen = answers[number]["label"]
        return {"texts": _texts(source, number), "gold": choices[number][true[number]],
                "predicted": choices[number][chosen], "probability": answers[number]["probabilities"][chosen],
                "probability of gold": float(of_gold[number])}

    return Evidence({"accuracy": Score(right)}, np.where(right, 0, losses), "loss", example, right=right,
                    confidence=(np.array([max(answer["probabilities"]) for answer in answers]), right))


def of_numbers(answers, references, source):
    """Return the Evidence of regression.

    Args:
        answers: list of N dict with `value`.
        references: list of N float.
        source: Source of the N examples.
    """
    values = np.array([answer["value"] for answer in answers])
    errors = (values - references) ** 2
    scores = {"mse": Score(errors), "pearson": correlation(values, references),
              "spearman": correlation(values, references, ranked=True)}
    return Evidence(scores, errors, "squared error", lambda number: {
        "texts": _texts(source, number), "gold": float(references[number]), "predicted": float(values[number])})


def of_similarities(answers, scores, targets, source):
    """Return the Evidence of embeddings of pairs with scores.

    Args:
        answers: list of N dict with `similarity`.
        scores: list of N float.
        targets: float [N], the cosines that correspond to the scores.
        source: Source of the N examples.
    """
    cosines = np.array([answer["similarity"] for answer in answers])
    return Evidence({"pearson": correlation(cosines, scores), "spearman": correlation(cosines, scores, ranked=True)},
                    (cosines - targets) ** 2, "squared error of the cosine", lambda number: {
                        "texts": _texts(source, number), "gold": float(scores[number]),
                        "predicted": float(cosines[number])})


def of_rankings(answers, texts, source):
    """Return the Evidence of embeddings of pairs without scores, by the ranks of the second texts.

    Args:
        answers: list of N dict, from `Contrastive.answers`.
        texts: int [N, K], see `query_scores`.
        source: Source of the N examples.
    """
    anchors, scored = query_scores(answers, texts)
    place = {anchor: number for number, anchor in enumerate(anchors)}
    rows = np.array([place[anchor] for anchor in texts[:, 0].tolist()])
    weights = 1 / np.bincount(rows)[rows]  # an anchor is one query, however many examples have it
    scores = {name: Score(np.stack([values[rows] * weights, weights], 1), share) for name, values in scored.items()}
    return Evidence(scores, 1 - scored["mrr"][rows], "1 - reciprocal rank", lambda number: {
        "texts": _texts(source, number), "gold": source.columns["text_pair"][number],
        "predicted": f"similarity {answers[number]['similarity']:.3f}",
        "reciprocal rank": float(scored["mrr"][rows[number]])})


def of_tags(labels, answers, references, types=None, read=entities):
    """Return the Evidence of a tagger.

    Args:
        labels: list of str, the tags.
        answers: list of N dict with `tokens` and `tags`.
        references: list of N lists of str, the tags of each sentence, in the scheme of `labels`.
        types: list of str, the types of entities; None if the tags are classes of words.
        read: callable that returns the entities in predicted tags.
    """
    found = [answer["tags"] for answer in answers]
    same = [sum(one == other for one, other in zip(*each)) for each in zip(references, found)]
    scores = {"accuracy": Score(np.array([(right, len(tags)) for right, tags in zip(same, found)]), share)}
    if types is None:
        index = {label: number for number, label in enumerate(labels)}
        ids = [[np.array([index[tag] for tag in tags], int) for tags in each] for each in (references, found)]
        counts = np.array([one_hot_counts(true, guess, len(labels)).sum(0, dtype=int) for true, guess in zip(*ids)])
        scores |= {name: Score(counts, macro(ratio)) for name, ratio in _RATIOS.items()}
        errors = np.array([len(tags) - right for tags, right in zip(found, same)], float)
        return Evidence(scores, errors, "wrong words", _marked(answers, [
            [_different(one, other), _different(other, one)] for one, other in zip(references, found)]),
            {"class": (labels, counts)}, labels=labels, **dict(zip(("true", "predicted"), map(np.concatenate, ids))))
    spans = [[entities(tags), read(guess)] for tags, guess in zip(references, found)]
    types = sorted({*types, *(span[0] for pair in spans for each in pair for span in each)})
    counts = np.array([[[sum(span[0] == kind for span in each) for each in ({*one} & {*other}, {*one}, {*other})]
                        for kind in types] for one, other in spans], int).reshape(len(spans), len(types), 3)
    scores |= {name: Score(counts.sum(1), ratio) for name, ratio in _RATIOS.items()}
    errors = np.array([len({*one} ^ {*other}) for one, other in spans], float)
    return Evidence(scores, errors, "missing and wrong entities", _marked(answers, spans),
                    {"entity type": (types, counts)})


def _different(tags, others):
    return [(tag, place, place + 1) for place, (tag, other) in enumerate(zip(tags, others)) if tag != other]


def _marked(answers, spans):
    # The function that returns a sentence with its gold and predicted spans of words, in code points.
    def example(number):
        words = answers[number]["tokens"]
        ends = np.cumsum([len(word) + 1 for word in words], dtype=int) - 1
        text, named = " ".join(words), {}
        marks = [{"start": int(ends[first]) - len(words[first]), "end": int(ends[end - 1]), "type": kind, "of": of}
                 for of, each in zip(("gold", "predicted"), spans[number]) for kind, first, end in each]
        for of in ("gold", "predicted"):
            named[of] = "; ".join(f"{mark['type']}: {text[mark['start']:mark['end']]}" for mark in marks
                                  if mark["of"] == of)
        return {"texts": [{"name": "text", "text": text, "spans": marks}], **named}

    return example


def of_questions(answers, references, source, odds=None, scoring="squad"):
    """Return the Evidence of extracted answers, scored at threshold 0.

    Args:
        answers: list of N dict with `nbest`.
        references: list of N lists of str, the correct answers; [] if there is none.
        source: Questions.
        odds: list of N float, see `answer_metrics`; None: each question is answered.
        scoring: str, "squad" or "cmrc2018".
    """
    found = [{} if not answer["nbest"] or odds is not None and odds[number] > 0 else answer["nbest"][0]
             for number, answer in enumerate(answers)]
    pairs = [answer_metrics([golds], [answer.get("answer", "")], None, scoring)
             for golds, answer in zip(references, found)]
    each = {name: np.array([pair[name] for pair in pairs]) for name in ("exact_match", "f1")}
    scores = {name: Score(values) for name, values in each.items()}
    has = np.array([bool(golds) for golds in references])
    if not has.all():
        for prefix, part in (("HasAns_", has), ("NoAns_", ~has)):
            scores |= {f"{prefix}{name}": Score(np.stack([values * part, part], 1), share)
                       for name, values in each.items() if part.any()}

    def example(number):
        spans = [{"start": one["answer_start"], "end": one["answer_start"] + len(one["text"]), "type": "", "of": "gold"}
                 for one in source.columns["answers"][number]]
        if found[number]:
            spans.append({"start": found[number]["start"], "end": found[number]["end"], "type": "", "of": "predicted"})
        unique = {tuple(span.values()): span for span in spans}
        texts = [{"name": name, "text": source.columns[name][number], "spans": marks} for name, marks in (
            ("question", []), ("context", list(unique.values())))]
        return {"texts": texts, "gold": " | ".join(dict.fromkeys(references[number])) or "(no answer)",
                "predicted": found[number].get("answer", "") or "(no answer)"}

    return Evidence(scores, 100 - each["f1"], "100 - F1", example)


def _bleu_statistics(answers, references, language):
    # What sacreBLEU computes `bleu` and `chrf` of any set of answers from: dict of name to (int [N, K], the counts of
    # n-grams and words of each answer; callable that maps their sums, [K], to the score).
    from sacrebleu.metrics import CHRF

    def statistics(metric):
        # sacreBLEU's own significance tests use these two methods.
        counts = np.array(metric._extract_corpus_statistics(answers, [references]))
        return counts, lambda sums: metric._compute_score_from_stats(sums.tolist()).score

    return {"bleu": statistics(bleu_of(language)), "chrf": statistics(CHRF())}


def of_texts(answers, references, sources, language=None):
    """Return the Evidence of generated texts.

    Args:
        answers: list of N dict with `text`.
        references, sources: list of N str, what should have been generated, and from what.
        language: str, see `bleu_metrics`; None: neither BLEU nor chrF.
    """
    texts = [answer["text"] for answer in answers]
    statistics = _bleu_statistics(texts, references, language or "")
    scores = {name: Score(counts, _each_row(of)) for name, (counts, of) in statistics.items() if language is not None}
    scores |= {name: Score(np.array(values)) for name, values in rouge_scores(texts, references).items()}
    counts, of = statistics["chrf"]

    def example(number):
        return {"texts": [{"name": "source", "text": sources[number], "spans": []}], "gold": references[number],
                "predicted": texts[number]}

    return Evidence(scores, np.where(scores["exact_match"].values == 100, 0, 100 - _each_row(of)(counts)),
                    "100 - chrF", example)


def _each_row(of):
    return lambda rows, count=None: np.array([of(row) for row in rows])


def _of_tagging(task, answers, references, source):
    return of_tags(task.labels, answers, task.in_scheme(references), types_of(task.labels) if task.entities else None,
                   task.read_entities)


def _of_completion(task, answers, references, source):
    prompts = source.columns.get("prompt") or [
        "\n".join(f"{message['role']}: {message['content']}" for message in messages[:-1])
        for messages in source.columns["messages"]]
    return of_texts(answers, references, prompts)


def _of_pairs(task, answers, references, source):
    if not references:
        raise DataError(f"{source.name}: --report requires pairs of texts (text and text_pair)")
    if "scores" in references:
        return of_similarities(answers, references["scores"], task.targets(references["scores"]), source)
    return of_rankings(answers, references["texts"], source)


_EVIDENCE = {
    "classification": lambda task, answers, references, source: of_classes(task.labels, answers, references, source),
    "multi_label": lambda task, answers, references, source: of_label_sets(task.labels, answers, references, source),
    "multiple_choice": lambda task, answers, references, source: of_choices(answers, source),
    "regression": lambda task, answers, references, source: of_numbers(answers, references, source),
    "tagging": _of_tagging,
    "question_answering": lambda task, answers, references, source: of_questions(
        answers, references, source, *task.rules(answers, references)),
    "seq2seq": lambda task, answers, references, source: of_texts(
        answers, references, source.columns["source"], task.language(references)),
    "completion": _of_completion, "contrastive": _of_pairs}
REPORTED = tuple(_EVIDENCE)  # the tasks that have reports


def evidence_of(task, answers, references, source):
    """Return the Evidence of a task's answers.

    Args:
        task: Task, one of REPORTED.
        answers: list of dict, from `Task.answers`.
        references: the `references` of the Batches.
        source: Source that the Batches were made from.
    """
    return _EVIDENCE[task.name](task, answers, references, source)
