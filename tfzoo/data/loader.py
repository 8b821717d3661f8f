"""Prefetching of batches in a background thread."""
import collections
import concurrent.futures
import itertools
import time


def prefetch(make_batch, steps, depth=8):
    """Compute `make_batch(step)` for each step in order, ahead of time.

    Args:
        make_batch: callable that maps a step (int) to a dict of NumPy arrays. If it fails, the error is raised when
            the batch would have been yielded.
        steps: iterable of int.
        depth: int, the maximum number of prefetched batches.

    Yields:
        (dict, float): the batch, and the time spent waiting for it, in seconds.
    """
    def due():
        begin = time.perf_counter()
        return waiting.popleft().result(), time.perf_counter() - begin

    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        waiting, steps = collections.deque(), iter(steps)
        try:
            while True:
                # Refill several batches at once: a training step evicts this code's data from the processor's caches,
                # so a batch made on its own takes four times as long as one made right after another.
                if len(waiting) <= depth // 2:
                    more = itertools.islice(steps, depth - len(waiting))
                    waiting.extend(pool.submit(make_batch, step) for step in more)
                if not waiting:
                    return
                yield due()
        finally:
            for future in waiting:
                future.cancel()
