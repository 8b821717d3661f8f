"""Accuracy, precision, recall and F1 of classes, equal to scikit-learn's macro averages."""
import numpy as np

MOST_REPORTED = 100  # labels; the F1 of each of thousands would fill metrics.jsonl and TensorBoard


def confusion_metrics(counts, labels):
    """Turn the margins of a confusion matrix into the usual metrics.

    Args:
        counts: [3, C], counts or sums of weights: how often each label was predicted correctly (the matrix's diagonal),
            was the true one (row sums) and was predicted (column sums).
        labels: list of C str.

    Returns:
        dict of float: accuracy; f1, precision and recall averaged over the labels that are true or predicted somewhere,
        as scikit-learn averages them; and, for up to 100 labels, f1/LABEL for each of those. A ratio with nothing to
        divide by is 0.
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
