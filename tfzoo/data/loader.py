"""Batches made one step ahead in a thread, so that the step does not wait for them."""
import collections
import concurrent.futures


def prefetch(make_batch, steps, depth=2):
    """Yield `make_batch(step)` for each step in order, made ahead of time.

    Args:
        make_batch: callable int -> dict of NumPy arrays; its errors are raised where its batch is due.
        steps: iterable of int.
        depth: int, so many batches are made ahead.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        waiting = collections.deque()
        try:
            for step in steps:
                waiting.append(pool.submit(make_batch, step))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
