"""F1 and subset accuracy of sets of labels, at a fixed threshold and at the best one, with scikit-learn's results.

As in scikit-learn, a ratio with a zero denominator is 0: a label that neither occurs nor is predicted counts as 0 in
macro F1, and so does a row without true and predicted labels in sample F1.
"""
import numpy as np

THRESHOLD = 0.5
MOST_REPORTED = 100  # labels, as in confusion.py


def _f1(right, predicted, true):
    return 2 * right / np.maximum(predicted + true, 1)


def _is_exact(right, predicted, true):
    return ((right == predicted) & (right == true)).astype(np.float64)


# Metric -> (the axis over which labels are counted: all, rows (per label) or labels (per row); score of each count).
SCORES = {"micro_f1": (None, _f1), "macro_f1": (0, _f1), "sample_f1": (1, _f1), "subset_accuracy": (1, _is_exact)}


def label_set_metrics(true, probabilities, labels):
    """Compute the metrics of predicted sets of labels.

    Args:
        true: bool [N, C].
        probabilities: float [N, C]; a label is predicted if its probability is at least the threshold.
        labels: list of C str.

    Returns:
        dict of float: `micro_f1`, `macro_f1`, `sample_f1` and `subset_accuracy` (the share of rows whose labels are all
        right) at the threshold 0.5; if C is at most 100, `f1/LABEL` at 0.5; the same four as `best_*`, each the maximum
        over all thresholds; and `best_threshold`, the one that gives `best_micro_f1`.
    """
    true, probabilities = np.asarray(true, bool), np.asarray(probabilities)

    def scored(name, threshold):
        found, (axis, score) = probabilities >= threshold, SCORES[name]
        return score(*(part.sum(axis).astype(np.float64) for part in (true & found, found, true)))

    thresholds = {name: _best(true, probabilities, *SCORES[name]) for name in SCORES}
    return {**{name: float(np.mean(scored(name, THRESHOLD))) for name in SCORES},
            **{f"best_{name}": float(np.mean(scored(name, value))) for name, value in thresholds.items()},
            "best_threshold": thresholds["micro_f1"], **(dict(zip(
                (f"f1/{label}" for label in labels), scored("macro_f1", THRESHOLD).tolist()))
                if len(labels) <= MOST_REPORTED else {})}


def _best(true, probabilities, axis, score):
    # The threshold with the highest mean of scores, each of which changes only where its own counts do.
    rows, columns = np.indices(true.shape)
    group = (np.zeros_like(rows) if axis is None else columns if axis == 0 else rows).ravel()
    count = group.max() + 1
    order = np.argsort(-probabilities.ravel(), kind="stable")  # the order in which labels enter the predictions
    group, right, values = group[order], true.ravel()[order], probabilities.ravel()[order]
    total = np.bincount(group, right, count)
    inner = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=count)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    sums = np.cumsum(right[inner])
    hits, seen = np.empty(len(order)), np.empty(len(order))
    hits[inner] = sums - np.where(first > 0, sums[first - 1], 0)
    seen[inner] = np.arange(1, len(order) + 1) - first
    change = score(hits, seen, total[group]) - score(hits - right, seen - 1, total[group])
    start = score(np.zeros(count), np.zeros(count), total).mean()
    scores = start + np.cumsum(change) / count
    last = np.append(values[1:] != values[:-1], True)  # equal probabilities enter together
    place = np.flatnonzero(last)[scores[last].argmax()]
    return float(values[place]) if scores[place] > start else float(np.nextafter(values[0], values.dtype.type(np.inf)))
