"""Handle SIGINT and SIGTERM in a run: the first makes it save and stop, the second exits immediately."""
import contextlib
import os
import signal
import threading

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_requests():
    """Catch SIGINT and SIGTERM in the `with` block; a second signal exits immediately with code 128 + its number.

    Outside the main thread, where Python does not allow handlers, nothing is caught.

    Yields:
        callable that returns whether a signal was received: bool.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came, before = [], {number: signal.getsignal(number) for number in STOPPING}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # Python delays handlers until the step returns and may merge two signals; the wakeup pipe does neither.
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watch = threading.Thread(target=_end_at_second, args=(reader,), daemon=True)
    watch.start()
    for number in STOPPING:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)
        watch.join()
        os.close(reader)


def _end_at_second(reader):
    count = 0
    while byte := os.read(reader, 1):
        count += byte[0] in STOPPING
        if count == 2:
            os._exit(128 + byte[0])
