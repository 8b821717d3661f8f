"""Accuracy, precision, recall and F1 from a confusion matrix, as scikit-learn counts them."""
import numpy as np
from sklearn.metrics import precision_recall_fscore_support


def confusion_metrics(matrix, labels):
    """Turn a confusion matrix into the usual metrics.

    Args:
        matrix: int [C, C], rows the true labels, columns the predicted ones.
        labels: list of C str.

    Returns:
        dict of float: accuracy; macro f1, precision and recall; and f1/LABEL for each label. A label that is neither
        there nor predicted counts as 0.
    """
    matrix = np.asarray(matrix, np.int64)
    true, predicted = np.nonzero(matrix)
    precision = recall = f1 = np.zeros(len(labels))
    if len(true):  # scikit-learn refuses a matrix of zeros
        precision, recall, f1, _ = precision_recall_fscore_support(
            true, predicted, sample_weight=matrix[true, predicted], labels=np.arange(len(labels)), zero_division=0)
    result = {"accuracy": float(np.trace(matrix) / max(1, matrix.sum())), "f1": float(f1.mean()),
              "precision": float(precision.mean()), "recall": float(recall.mean())}
    result.update({f"f1/{label}": float(value) for label, value in zip(labels, f1)})
    return result
