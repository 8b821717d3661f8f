"""The mean of a run's last checkpoints, as in Vaswani et al. 2017 (arXiv:1706.03762), section 6.1."""
import numpy as np

from tfzoo.progress import tell


def average_checkpoints(checkpoints, count, last):
    """Average the model weights of the newest checkpoints.

    Args:
        checkpoints: Checkpoints of the run.
        count: int, the number of checkpoints; if there are fewer, all are averaged, which is reported.
        last: int, the newest step to use.

    Returns:
        (dict of group -> dict of name -> array, the arrays of the last checkpoint with the mean weights; list of int,
        the steps that were averaged).

    Raises:
        DataError, FileNotFoundError: if a checkpoint is damaged or missing.
    """
    steps = [step for step in checkpoints.steps() if step <= last][-count:]
    if len(steps) < count:
        tell(f"--average_checkpoints={count}: the run has only {len(steps)} checkpoints; all of them are averaged")
    sums = None
    for step in steps:  # one at a time, in float64
        arrays = checkpoints.load(step)[0]
        sums = {name: value.astype(np.float64) + (0 if sums is None else sums[name])
                for name, value in arrays["model"].items()}
    means = {name: (sums[name] / len(steps)).astype(value.dtype) for name, value in arrays["model"].items()}
    return {**arrays, "model": means}, steps
