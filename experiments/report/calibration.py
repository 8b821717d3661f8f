"""Calibration: whether answers that are given with probability p are right in a share p of all cases."""
import numpy as np

BINS = 15


def calibration(probabilities, right, bins=BINS):
    """Compute the expected calibration error over bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    Args:
        probabilities: float [N], from 0 to 1, the probability of each answer.
        right: bool [N], whether the answer is right.
        bins: int, M; bin m holds probabilities above (m - 1) / M, up to m / M.

    Returns:
        dict: `ece`, float, the mean distance between probability and accuracy, weighted by the examples in a bin; and
        `bins`, list of dict with `low`, `high`, `count` and, unless a bin is empty, `probability` and `accuracy`, its
        means.
    """
    probabilities, right = np.asarray(probabilities, np.float64), np.asarray(right, np.float64)
    index = np.clip(np.ceil(probabilities * bins).astype(int) - 1, 0, bins - 1)
    counts, sums, rights = (np.bincount(index, weights, bins) for weights in (None, probabilities, right))
    found = [{"low": number / bins, "high": (number + 1) / bins, "count": int(count), **(
        {"probability": float(total / count), "accuracy": float(correct / count)} if count else {})}
        for number, (count, total, correct) in enumerate(zip(counts, sums, rights))]
    return {"ece": float(np.abs(sums - rights).sum() / max(len(index), 1)), "bins": found}
