"""The numbers of a report: scores with confidence intervals, tables, curves, and the worst errors."""
import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from experiments.report.bootstrap import RESAMPLES, Score, bootstrap, f1, interval, mcnemar, paired, precision, recall
from experiments.report.calibration import calibration

FORMAT_VERSION = 1
CLASSES, IN_TABLE, CURVES, POINTS, ERRORS = 30, 100, 10, 101, 50  # limits
LONGEST = 3000  # characters of a text that are shown with an error


def numbers_of(about, metrics, evidence, other=None, seed=0):
    """Compute the numbers of a report.

    Args:
        about: dict of str to JSON values, shown at the top, such as the model and the data.
        metrics: dict of float, from `Evaluator.evaluate`.
        evidence: Evidence of the same answers (see experiments.report.evidence).
        other: (name, metrics, Evidence) of another model's answers for the same examples, to compare with; or None.
        seed: int, determines the resamples.

    Returns:
        dict of JSON values: `format_version`, `about`, `examples`, `metrics`, `resamples`, `seed`, `intervals` (for
        each score `value`, `low` and `high`), `tables` (by title, a list of rows), and, if the task has them,
        `confusion`, `precision_recall` and `calibration`; `unit`, what the errors are sorted by, and `errors`; and
        with `other`, `compare`.
    """
    draws = bootstrap({**evidence.scores, **{(title,): Score(counts, f1) for title, (_, counts) in
                                             evidence.groups.items()}}, seed=seed)
    found = {"format_version": FORMAT_VERSION, "about": about, "examples": len(evidence.errors),
             "metrics": metrics, "resamples": RESAMPLES, "seed": seed,
             "intervals": {name: {"value": score.value, **dict(zip(("low", "high"), interval(draws[name])))}
                           for name, score in evidence.scores.items()},
             "tables": {title: _rows(names, np.asarray(counts, int).sum(0), draws[title,])
                        for title, (names, counts) in evidence.groups.items()}}
    if evidence.true is not None:
        found |= _classes(evidence)
    if evidence.probabilities is not None:
        found["precision_recall"] = _curves(evidence)
    if evidence.confidence is not None:
        found["calibration"] = calibration(*evidence.confidence)
    wrong = [number for number in np.argsort(-evidence.errors, kind="stable")[:ERRORS] if evidence.errors[number] > 0]
    found |= {"unit": evidence.unit, "wrong": int((evidence.errors > 0).sum()), "errors": [
        {"example": int(number), evidence.unit: float(evidence.errors[number]), **_shortened(evidence.example(number))}
        for number in wrong]}
    if other is not None:
        found["compare"] = _compared(evidence, draws, other, seed)
    return _plain(found)


def _rows(names, counts, draws=None):
    # A table of counts int [G, 3] (right, true, predicted), the most frequent groups first.
    rows = []
    for number in np.argsort(-counts[:, 1], kind="stable")[:IN_TABLE]:
        row = {"name": names[number], **{key: ratio(counts[number]) for key, ratio in (
            ("f1", f1), ("precision", precision), ("recall", recall))}}
        if draws is not None:
            row["low"], row["high"] = interval(draws[:, number])
        rows.append({**row, **dict(zip(("right", "true", "predicted"), counts[number].tolist()))})
    return rows


def _classes(evidence):
    labels, true, predicted, size = evidence.labels, evidence.true, evidence.predicted, len(evidence.labels)
    counts = np.stack([np.bincount(each, minlength=size) for each in (true[true == predicted], true, predicted)], 1)
    found = {} if evidence.groups else {"tables": {"class": _rows(labels, counts)}}
    chosen = np.sort(np.argsort(-counts[:, 1:].sum(1), kind="stable")[:CLASSES])
    place = np.full(size, len(chosen))  # the last row and column hold all other classes
    place[chosen] = np.arange(len(chosen))
    width = len(chosen) + 1
    matrix = np.bincount(place[true] * width + place[predicted], minlength=width * width).reshape(width, width)
    names = [labels[number] for number in chosen]
    if size > len(chosen):
        names.append(f"({size - len(chosen)} others)")
    found["confusion"] = {"labels": names, "counts": matrix[:len(names), :len(names)].tolist()}
    return found


def _curves(evidence):
    # Precision and recall of the most frequent classes, one by one.
    labels, true, positive, curves = evidence.labels, evidence.true, evidence.positive, {}
    counts = np.bincount(true, minlength=len(labels)) if positive is None else positive.sum(0)
    for number in np.argsort(-counts, kind="stable")[:CURVES]:
        if counts[number]:
            there = true == number if positive is None else positive[:, number]
            scores = evidence.probabilities[:, number]
            precisions, recalls, _ = precision_recall_curve(there, scores)
            some = np.unique(np.linspace(0, len(recalls) - 1, POINTS).round().astype(int))
            curves[labels[number]] = {"average_precision": float(average_precision_score(there, scores)),
                                      "recall": recalls[some].tolist(), "precision": precisions[some].tolist()}
    return curves


def _shortened(example):
    # Of a long text, the part around its first span; spans outside it are not marked.
    return {**example, "texts": [_part(each) for each in example["texts"]]}


def _part(each):
    first = min((span["start"] for span in each["spans"]), default=0)
    begin = max(0, min(first - LONGEST // 4, len(each["text"]) - LONGEST))
    spans = [{**span, "start": span["start"] - begin, "end": span["end"] - begin} for span in each["spans"]]
    return {**each, "text": each["text"][begin:begin + LONGEST], "before": begin,
            "after": max(0, len(each["text"]) - begin - LONGEST),
            "spans": [span for span in spans if span["start"] >= 0 and span["end"] <= LONGEST]}


def _compared(evidence, draws, other, seed):
    name, metrics, theirs = other
    shared = {key: score for key, score in theirs.scores.items() if key in evidence.scores}
    their_draws = bootstrap(shared, seed=seed)
    found = {"with": name, "metrics": metrics, "scores": {
        key: {"value": evidence.scores[key].value, "other": score.value,
              **paired(evidence.scores[key].value, score.value, draws[key], their_draws[key])}
        for key, score in shared.items()}}
    if evidence.right is not None and theirs.right is not None:
        found["mcnemar"] = mcnemar(evidence.right, theirs.right)
    return found


def _plain(value):
    # JSON has no NaN or infinity, and NumPy's numbers are not its own.
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
