"""Batches made ahead in a thread, so that the step does not wait for them."""
import collections
import concurrent.futures
import itertools
import time


def prefetch(make_batch, steps, depth=8):
    """Make `make_batch(step)` for each step in order, ahead of time.

    Args:
        make_batch: callable int -> dict of NumPy arrays; its errors are raised where its batch is due.
        steps: iterable of int.
        depth: int, so many batches are there at most.

    Yields:
        (what `make_batch` gave, float: the seconds that were spent waiting for it).
    """
    def due():
        begin = time.perf_counter()
        return waiting.popleft().result(), time.perf_counter() - begin

    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        waiting, steps = collections.deque(), iter(steps)
        try:
            while True:
                # Several at once: a step leaves nothing of this work in the processor's caches, so that a single batch
                # takes four times as long as one that follows another.
                if len(waiting) <= depth // 2:
                    more = itertools.islice(steps, depth - len(waiting))
                    waiting.extend(pool.submit(make_batch, step) for step in more)
                if not waiting:
                    return
                yield due()
        finally:
            for future in waiting:
                future.cancel()
