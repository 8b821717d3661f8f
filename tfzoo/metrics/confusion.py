"""Accuracy and macro-averaged precision, recall and F1, with the same results as scikit-learn."""
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
        as a true label or as a prediction, as in scikit-learn; and, if C is at most 100, `f1/LABEL` for each label in
        these averages. A ratio with a zero denominator is 0.
    """
    counts = np.asarray(counts, np.float64)
    present = np.flatnonzero(counts[1:].any(0))
    right, true, predicted = counts[:, present]
    precision, recall = right / np.where(predicted, predicted, 1), right / np.where(true, true, 1)
    f1 = 2 * right / (true + predicted)
    result = {"accuracy": right.sum() / (true.sum() or 1.0), **{
        name: values.mean() if len(present) else 0.0
        for name, values in (("f1", f1), ("precision", precision), ("recall", recall))}}
    if len(labels) <= MOST_REPORTED:
        result.update({f"f1/{labels[index]}": value for index, value in zip(present, f1)})
    return {name: float(value) for name, value in result.items()}
