"""Retrieval by cosine similarity: recall@k and mean reciprocal rank (Voorhees 1999, The TREC-8 QA Track Report)."""
import numpy as np

CUTOFFS, LAST = (1, 5, 10), 10  # of recall; of the reciprocal rank
TIE = 1e-6  # similarities closer than this are equal: they differ only by float32 rounding
BLOCK = 2 ** 22  # the number of similarities computed at once


def cosines(x, y):
    """Return the cosine similarity of each row of x [N, D] with the same row of y [N, D], float64 [N]; 0 for zeros."""
    return (_unit(x) * _unit(y)).sum(-1)


def retrieval_scores(queries, candidates, relevant, ignored=None):
    """Rank all candidates for each query by cosine similarity.

    A tie never favors a relevant candidate: it is ranked after all others that are equally similar.

    Args:
        queries: float [Q, D]; candidates: float [C, D].
        relevant: list of Q sequences of int, at least one each, the relevant candidates.
        ignored: list of Q sequences of int, candidates that are left out of a query's ranking unless relevant.

    Returns:
        dict of float64 [Q]: `recall@1`, `recall@5` and `recall@10`, the fraction of the relevant candidates among the
        first k; and `mrr`, 1 / rank of the first relevant candidate, 0 if it is not among the first 10.

    Example:
        >>> retrieval_scores([[1, 0], [0, 1]], [[1, 0], [1, 1], [0, 2]], [[0], [1]])["mrr"].tolist()
        [1.0, 0.5]
    """
    queries, candidates = _unit(queries), _unit(candidates)
    scored = {name: np.zeros(len(queries)) for name in (*(f"recall@{k}" for k in CUTOFFS), "mrr")}
    block = max(1, BLOCK // len(candidates))
    for first in range(0, len(queries), block):
        for number, scores in enumerate(queries[first:first + block] @ candidates.T, first):
            right = np.array(sorted({*relevant[number]}))
            found, wrong = np.sort(scores[right])[::-1], np.ones(len(scores), bool)
            wrong[right] = False
            wrong[list(ignored[number]) if ignored else []] = False
            rivals = np.sort(scores[wrong])
            ranks = np.arange(1, len(found) + 1) + len(rivals) - np.searchsorted(rivals, found - TIE)
            scored["mrr"][number] = 1 / ranks[0] if ranks[0] <= LAST else 0.0
            for k in CUTOFFS:
                scored[f"recall@{k}"][number] = (ranks <= k).mean()
    return scored


def _unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
