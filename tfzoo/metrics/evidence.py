"""What a report shows about a model's answers; each task gives what it has."""
import dataclasses
import typing

import numpy as np


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
