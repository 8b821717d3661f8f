"""Prefetch batches in a thread, so that steps do not wait for them."""
import collections
import concurrent.futures
import itertools
import time


def prefetch(make_batch, steps, depth=8):
    """Compute `make_batch(step)` for each step in order, ahead of time.

    Args:
        make_batch: callable int -> dict of NumPy arrays; its errors are raised when its batch is due.
        steps: iterable of int.
        depth: int, the largest number of batches held.

    Yields:
        (what `make_batch` returned, float: seconds spent waiting for it).
    """
    def due():
        begin = time.perf_counter()
        return waiting.popleft().result(), time.perf_counter() - begin

    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        waiting, steps = collections.deque(), iter(steps)
        try:
            while True:
                # Refill several at once: a training step evicts this work from the processor's caches, so that a single
                # batch takes four times as long as one made right after another.
                if len(waiting) <= depth // 2:
                    more = itertools.islice(steps, depth - len(waiting))
                    waiting.extend(pool.submit(make_batch, step) for step in more)
                if not waiting:
                    return
                yield due()
        finally:
            for future in waiting:
                future.cancel()
