"""The cache folder, $TFZOO_CACHE or ~/.cache/tfzoo, which may be deleted whenever no tfzoo process is running."""
import contextlib
import fcntl
import hashlib
import json
import os

from tfzoo import files


def cache_folder():
    """Return the cache folder as a pathlib.Path; it need not exist."""
    return files.local_path(os.environ.get("TFZOO_CACHE") or "~/.cache/tfzoo", "TFZOO_CACHE")


def remember(name, key, make):
    """Return the cached value for a key, or compute and cache it.

    Args:
        name: str, the prefix of the cache file's name.
        key: JSON-serializable value that covers everything that determines the result.
        make: callable that takes no arguments and returns a JSON-serializable value.

    Returns:
        The value that `make` returns. If the cache cannot be written, the value is recomputed every time.
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
    """Hold a file lock in the `with` block; it is also released if the process is killed.

    Args:
        path: str or path, the lock file. It is created if necessary and never removed, because removal would allow two
            processes to hold the lock.
        wait: callable that takes no arguments, called once before waiting for another process; None does not wait.

    Yields:
        bool, whether the lock is held: False if `wait` is None and another process holds the lock, or if the file
        system does not support locks.

    Raises:
        OSError: if the file cannot be created.
    """
    with open(path, "ab") as file:
        held = files.try_lock(file)
        if held is None and wait is not None:
            wait()
            fcntl.flock(file, fcntl.LOCK_EX)
            held = True
        yield bool(held)
