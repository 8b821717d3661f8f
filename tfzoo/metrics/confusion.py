"""Accuracy, macro-averaged precision, recall and F1, and Matthews' correlation, as scikit-learn computes them."""
import numpy as np

MOST_REPORTED = 100  # labels; thousands of F1 scores would clutter metrics.jsonl and TensorBoard


def confusion_metrics(counts, labels):
    """Compute classification metrics from the diagonal, row sums and column sums of a confusion matrix.

    Args:
        counts: [3, C], three counts (or sums of weights) for each label: correct predictions (the diagonal of the
            matrix), true occurrences (row sums) and predictions (column sums).
        labels: list of C str.

    Returns:
        dict of float: `accuracy`; `f1`, `precision` and `recall`, averaged over all labels that occur at least once,
        as a true label or as a prediction, as in scikit-learn; `mcc` (see `matthews`); and, if C is at most 100,
        `f1/LABEL` for each label in these averages. A ratio with a zero denominator is 0.
    """
    counts = np.asarray(counts, np.float64)
    present = np.flatnonzero(counts[1:].any(0))
    right, true, predicted = counts[:, present]
    precision, recall = right / np.where(predicted, predicted, 1), right / np.where(true, true, 1)
    f1 = 2 * right / (true + predicted)
    result = {"accuracy": right.sum() / (true.sum() or 1.0), **{
        name: values.mean() if len(present) else 0.0
        for name, values in (("f1", f1), ("precision", precision), ("recall", recall))}, "mcc": matthews(counts)}
    if len(labels) <= MOST_REPORTED:
        result.update({f"f1/{labels[index]}": value for index, value in zip(present, f1)})
    return {name: float(value) for name, value in result.items()}


def matthews(counts):
    """Compute Matthews' correlation coefficient for any number of labels (Gorodkin 2004, R_K).

    Args:
        counts: [3, C], see `confusion_metrics`.

    Returns:
        float from -1 to 1; 0 if it is undefined because the true labels or the predictions are all the same.
    """
    right, true, predicted = np.asarray(counts, np.float64)
    total = true.sum()
    spread = (total ** 2 - true @ true) * (total ** 2 - predicted @ predicted)
    if is_constant(true) or is_constant(predicted):
        return 0.0
    return float((total * right.sum() - true @ predicted) / np.sqrt(spread))


def is_constant(counts):
    """Return whether at most one of the labels occurs, given their counts [C]: bool."""
    return np.count_nonzero(counts) < 2
