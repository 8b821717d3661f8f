"""The folder of what can be made again: $TFZOO_CACHE, or ~/.cache/tfzoo. It may be deleted whenever nothing runs."""
import contextlib
import fcntl
import hashlib
import json
import os

from tfzoo import files


def cache_folder():
    """Return the folder as a pathlib.Path; it need not exist."""
    return files.local_path(os.environ.get("TFZOO_CACHE") or "~/.cache/tfzoo", "TFZOO_CACHE")


def remember(name, key, make):
    """Return what was made before for the same key, else make it.

    Args:
        name: str, how the name of its file begins.
        key: plain values, all that decides the result.
        make: callable without arguments; returns plain values.

    Returns:
        What `make` returns. Where the cache cannot be written it is made anew each time.
    """
    path = cache_folder() / f"{name}_{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        value = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, json.dumps(value))
    except OSError:
        return value
    return value


@contextlib.contextmanager
def locked(path, wait=None):
    """Hold a lock inside; the end of the process, however it ends, gives it back.

    Args:
        path: path of the lock's file, which is made and stays: whoever removed it could lock beside its holder.
        wait: callable without arguments, told once where another process holds the lock; None does not wait.

    Yields:
        Whether the lock is held: not where another has it and `wait` is None, or where the disk knows no locks.

    Raises:
        OSError: the file cannot be made.
    """
    with open(path, "ab") as file:
        held = files.try_lock(file)
        if held is None and wait is not None:
            wait()
            fcntl.flock(file, fcntl.LOCK_EX)
            held = True
        yield bool(held)
