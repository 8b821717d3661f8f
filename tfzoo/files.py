"""Atomic file writes: under a temporary name beside the final one, forced to the disk, then renamed."""
import errno
import fcntl
import hashlib
import os
import pathlib
import re
import stat

from tfzoo.errors import ConfigError, shown

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # one slash: pathlib collapses two
TEMPORARY = ".tmp-"  # prefix of all unfinished files and folders


def writing_error(error, what):
    """Find the failed write to disk behind another package's error.

    Args:
        error: exception, with its causes and contexts; network errors are OSErrors too, and are not taken for it.
        what: str, what could not be written.

    Returns:
        OSError of the failed write, or None if it is not the cause.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = getattr(error, "errno", None)
        found = re.search(r"\bos error (\d+)", str(error))  # as Rust prints it
        number = int(found[1]) if found and number is None else number
        name = getattr(error, "filename", None)
        if number in _UNWRITABLE or number in (errno.EACCES, errno.EPERM, errno.ENOTDIR) and name:
            return OSError(number, f"{os.strerror(number)} ({what})", name)
        error = error.__cause__ or error.__context__
    return None


def temporary_path(path):
    """Return the temporary path under which the content of `path` is prepared.

    Args:
        path: str or path; the final file or folder.

    Returns:
        pathlib.Path in the same folder; its name starts with TEMPORARY and ends with the process id.
    """
    path = pathlib.Path(path)
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")


def local_path(path, name="the path"):
    """Check a path given by a user, and expand `~`.

    Args:
        path: str, bytes or path.
        name: str, its name in error messages, for example "--output_dir".

    Returns:
        pathlib.Path.

    Raises:
        ConfigError: it is empty or not a path; an address such as gs://bucket/model; or `~user` of an unknown user.

    Example:
        >>> local_path("gs://bucket/model")
        Traceback (most recent call last):
        tfzoo.errors.ConfigError: the path is gs://bucket/model: allowed are paths on this machine...
    """
    text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
    if not text or "\0" in text:
        raise ConfigError(f"{name} is {shown(path)}: allowed is a path, such as runs/reviews")
    if _ADDRESS.match(text):
        raise ConfigError(f"{name} is {text}: allowed are paths on this machine, mounts included; copy it here or "
                          "mount it")
    expanded = os.path.expanduser(text)  # pathlib's expanduser would also expand ./~
    if expanded.startswith("~"):
        raise ConfigError(f"{name} is {text}: no home folder found for that user; write the full path, or ./{text}")
    return pathlib.Path(expanded)


def sync_folder(path):
    """Force a folder's directory entries to the disk.

    Args:
        path: str or path; an existing folder.

    Raises:
        OSError: the sync failed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(file):
    """Try to lock a file exclusively; the lock is released when the process exits.

    Args:
        file: open file or descriptor.

    Returns:
        True if the lock was taken, None if another process holds it, False if the file system has no locks.

    Raises:
        OSError: locking failed for another reason.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False


def sync_file(path):
    """Force a file's content to the disk; raises OSError if that fails."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_chunks(path, chunks):
    """Write a file in chunks and force it to the disk; not atomic.

    Args:
        path: str or path; replaced if it exists.
        chunks: iterable of bytes-like objects.

    Returns:
        (int, str): size in bytes and hexadecimal SHA-256 of the chunks, which the file should have.

    Raises:
        OSError: the disk is full, read-only, or limits the file's size.
    """
    size, digest = 0, hashlib.sha256()
    with open(path, "wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            size += file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def write_atomic(path, content):
    """Write a file completely, or leave the old one untouched.

    Args:
        path: str or path of the file; its folder must exist.
        content: str (written as UTF-8) or bytes.

    Raises:
        OSError: it cannot be written; the old content, if any, is untouched.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "note.txt"
        >>> write_atomic(path, "whole")
        >>> path.read_text()
        'whole'
    """
    write_atomic_chunks(path, [content.encode("utf-8") if isinstance(content, str) else content])


def write_atomic_chunks(path, chunks):
    """Write a file from chunks, completely or not at all, see write_atomic; `chunks` as in write_chunks.

    A FIFO or device is written to, not replaced; a symbolic link remains a link.
    """
    if _is_stream(path):
        with open(path, "wb") as file:
            file.writelines(chunks)
        return
    path = pathlib.Path(os.path.realpath(path))
    temporary = temporary_path(path)
    try:
        write_chunks(temporary, chunks)
        os.replace(temporary, path)
    except BaseException:
        _remove_quietly(temporary)
        raise
    sync_folder(path.parent)


def _is_stream(path):
    whole = os.path.abspath(path)
    if whole.startswith("/dev/") and not whole.startswith("/dev/shm/"):
        return True  # even /dev/stdout as a regular file, which others have open
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def append_line(path, line):
    """Append one line to a file, completely or, as far as the disk allows, not at all.

    Args:
        path: str or path; created if missing.
        line: str without a line break.

    Raises:
        OSError: it cannot be written; a partly written line is truncated away.
    """
    data = memoryview(line.encode("utf-8") + b"\n")
    with open(path, "ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while data:  # an unbuffered write may be partial, on a disk that is filling up
                data = data[file.write(data):]
        except BaseException:
            _truncate_quietly(file, size)
            raise


def hash_file(path):
    """Return the size and the SHA-256 of a file.

    Args:
        path: str or path.

    Returns:
        (int, str): size in bytes, hexadecimal digest.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def once(pairs):
    """Return the dict of a JSON object, for `object_pairs_hook`; raises ValueError for a duplicate key."""
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"duplicate key {shown(key)}")
        found[key] = value
    return found


def _remove_quietly(path):
    try:
        os.unlink(path)
    except OSError:
        return  # the error being handled matters more


def _truncate_quietly(file, size):
    try:
        file.truncate(size)
    except OSError:
        return  # readers drop a torn last line
