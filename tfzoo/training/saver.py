"""Write checkpoints in a background thread: training waits only until its state is copied, and survives a full disk.
"""
import threading


class Saver:
    """Write checkpoints in a thread, one at a time.

    A failed save is reported in one line; the run continues, and the next save tries again. If the best checkpoint
    cannot be saved, it is kept in memory and written before the next one, unless that is a new best.

    Args:
        checkpoints: Checkpoints.
        warn: callable that takes a one-line str.

    Attributes:
        error: the exception of the latest save, or None if it succeeded.

    Example:
        >>> import tempfile
        >>> from tfzoo.training.checkpointing import Checkpoints
        >>> checkpoints = Checkpoints(tempfile.mkdtemp())
        >>> saver = Saver(checkpoints, print)
        >>> saver.save(20, {"model": {"norm/scale": np.ones(4, "float32")}}, {}, best=("accuracy", 0.5))
        >>> saver.finish()
        >>> checkpoints.best()
        {'step': 20, 'metric': 'accuracy', 'value': 0.5}
    """

    def __init__(self, checkpoints, warn):
        self.checkpoints, self.error, self._warn = checkpoints, None, warn
        self._thread, self._owed = None, None

    def save(self, step, arrays, state, best=None):
        """Start writing a checkpoint, after waiting for the previous one.

        Args:
            step, arrays, state: see `Checkpoints.save`; the arrays must not be modified afterwards.
            best: (metric, value) if this step is the best so far (see `Checkpoints.mark_best`), else None.
        """
        self.finish()
        self._thread = threading.Thread(target=self._work, args=((step, arrays, state, best),), daemon=True)
        self._thread.start()

    @property
    def writing(self):
        """Return whether a checkpoint is being written now: bool."""
        return self._thread is not None and self._thread.is_alive()

    def finish(self):
        """Wait until the pending checkpoint is written or has failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def refuse(self, job, error):
        """Record and report that a job (a tuple of the arguments of `save`) failed or could not start."""
        self.error = error
        self._owed = job if job[3] is not None else self._owed
        self._warn(f"step {job[0]} could not be saved ({error.strerror or error}): the last good checkpoint is kept; "
                   "the run continues, and the next save tries again")

    def _work(self, job):
        try:
            if self._owed is not None and job[3] is None:  # a new best replaces the old one
                self._write(*self._owed)
            self._owed = None
            self._write(*job)
            self.error = None
        except OSError as error:
            self.refuse(job, error)
        except Exception as error:  # otherwise the thread's exception would be lost
            self.error = error
            self._warn(f"step {job[0]} could not be saved: {error!r}")

    def _write(self, step, arrays, state, best):
        self.checkpoints.save(step, arrays, state)
        if best is not None:
            self.checkpoints.mark_best(step, *best)
