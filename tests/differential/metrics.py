"""Metrics on random labels, compared with scikit-learn's."""
import numpy as np
from sklearn import metrics as sklearn_metrics

from tfzoo.metrics.confusion import confusion_metrics
from tfzoo.metrics.entities import class_metrics


def check(reference_python, count, seed):
    """Compare the metrics of random cases with few and many labels.

    Args:
        reference_python: unused, because scikit-learn is a requirement of tfzoo.
        count: int, the number of cases.
        seed: int.

    Returns:
        List of str, one for each difference.
    """
    rng, findings = np.random.default_rng(seed), []
    for number in range(count):
        labels, rows = int(rng.integers(2, rng.choice([3, 10, 100, 5000]))), int(rng.integers(1, 500))
        true, predicted = rng.integers(labels, size=(2, rows))
        predicted = np.where(rng.random(rows) < rng.random(), true, predicted)
        names = [f"label {index}" for index in range(labels)]
        counts = np.stack([np.bincount(ids, minlength=labels) for ids in (true[true == predicted], true, predicted)])
        ours = {"classification": confusion_metrics(counts, names)}
        words = [[names[index] for index in part] for part in (true, predicted)]
        ours["tagging"] = class_metrics(words[:1], words[1:], names)
        theirs = _scores(true, predicted, names)
        for kind, scores in ours.items():
            findings += [f"case {number} ({labels} labels, {rows} rows), {kind}: {name} is {scores.get(name)}, "
                         f"but {theirs.get(name)} in scikit-learn" for name in scores.keys() | theirs.keys()
                         if abs(scores.get(name, np.inf) - theirs.get(name, -np.inf)) > 1e-12]
    return findings


def _scores(true, predicted, names):
    scores = {name: getattr(sklearn_metrics, f"{name}_score")(true, predicted, average="macro", zero_division=0)
              for name in ("f1", "precision", "recall")}
    scores["accuracy"] = sklearn_metrics.accuracy_score(true, predicted)
    scores["mcc"] = sklearn_metrics.matthews_corrcoef(true, predicted)
    if len(names) <= 100:
        present = np.union1d(true, predicted)
        each = sklearn_metrics.f1_score(true, predicted, average=None, labels=present, zero_division=0)
        scores.update({f"f1/{names[index]}": value for index, value in zip(present, each)})
    return scores
