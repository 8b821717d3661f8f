"""Atomic file writes: to a temporary file in the same folder, which is synced to disk and then renamed."""
import contextlib
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
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # only one slash, since pathlib collapses two into one
TEMPORARY = ".tmp-"  # prefix of all unfinished files and folders


def writing_error(error, what):
    """Find the failed disk write that caused another package's error.

    Args:
        error: exception; its causes and contexts are searched too. Network errors are ignored, although they are
            OSErrors.
        what: str, a description of what could not be written.

    Returns:
        OSError for the failed write, or None if the error has another cause.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = getattr(error, "errno", None)
        found = re.search(r"\bos error (\d+)", str(error))  # the format of Rust's errors
        number = int(found[1]) if found and number is None else number
        name = getattr(error, "filename", None)
        if number in _UNWRITABLE or number in (errno.EACCES, errno.EPERM, errno.ENOTDIR) and name:
            return OSError(number, f"{os.strerror(number)} ({what})", name)
        error = error.__cause__ or error.__context__
    return None


def temporary_path(path):
    """Return the temporary path at which the content of `path` is written before it is renamed.

    Args:
        path: str or path; the final file or folder.

    Returns:
        pathlib.Path in the same folder. Its name starts with TEMPORARY and ends with the process ID.
    """
    path = pathlib.Path(path)
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")


def local_path(path, name="the path"):
    """Check a path given by a user and expand `~`.

    Args:
        path: str, bytes or path.
        name: str, the name of the argument in error messages, such as "--output_dir".

    Returns:
        pathlib.Path.

    Raises:
        ConfigError: if the path is empty, is not a path, is a URL such as gs://bucket/model, or begins with the home
            folder `~user` of an unknown user.

    Example:
        >>> local_path("gs://bucket/model")
        Traceback (most recent call last):
        tfzoo.errors.ConfigError: the path is gs://bucket/model, but must be on this machine...
    """
    text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
    if not text or "\0" in text:
        raise ConfigError(f"{name} is {shown(path)}, but must be a path such as runs/reviews")
    if _ADDRESS.match(text):
        raise ConfigError(f"{name} is {text}, but must be on this machine or on a mounted file system: copy or "
                          "mount it")
    expanded = os.path.expanduser(text)  # pathlib's expanduser would also expand ./~
    if expanded.startswith("~"):
        raise ConfigError(f"{name} is {text}, but that user has no home folder: give the full path, or ./{text}")
    return pathlib.Path(expanded)


def sync_folder(path):
    """Sync a folder's directory entries to disk.

    Args:
        path: str or path, an existing folder.

    Raises:
        OSError: if the sync fails.
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
        True if the lock was acquired, None if another process holds it, False if the file system does not support
        locks.

    Raises:
        OSError: if locking fails for another reason.
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
    """Sync a file's content to disk, or raise OSError."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_chunks(path, chunks):
    """Write a file in chunks and sync it to disk; this is not atomic.

    Args:
        path: str or path; an existing file is replaced.
        chunks: iterable of bytes-like objects.

    Returns:
        (int, str): total size in bytes and hexadecimal SHA-256 of the chunks. The file is not read back.

    Raises:
        OSError: if the disk is full or read-only, or the file exceeds a size limit.
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
    """Write a file completely, or leave an existing file unchanged.

    Args:
        path: str or path of the file; its folder must exist.
        content: str (written as UTF-8) or bytes.

    Raises:
        OSError: if the file cannot be written; an existing file is unchanged.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "note.txt"
        >>> write_atomic(path, "whole")
        >>> path.read_text()
        'whole'
    """
    write_atomic_chunks(path, [content.encode("utf-8") if isinstance(content, str) else content])


def write_atomic_chunks(path, chunks):
    """Write a file from chunks, completely or not at all.

    A FIFO or a device is written to directly rather than replaced. If the path is a symbolic link, the link's target is
    replaced.

    Args:
        path: str or path of the file; its folder must exist.
        chunks: iterable of bytes-like objects.

    Raises:
        OSError: if the file cannot be written; an existing file is unchanged.
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
        with contextlib.suppress(OSError):  # the error being handled is more important
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def _is_stream(path):
    whole = os.path.abspath(path)
    if whole.startswith("/dev/") and not whole.startswith("/dev/shm/"):
        return True  # even if /dev/stdout is a regular file: other processes have it open
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def append_line(path, line):
    """Append one line to a file, completely or, if the disk allows, not at all.

    Args:
        path: str or path; the file is created if missing.
        line: str without a line break.

    Raises:
        OSError: if the line cannot be written; a partial line is removed from the file.
    """
    data = memoryview(line.encode("utf-8") + b"\n")
    with open(path, "ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while data:  # an unbuffered write may be partial if the disk is nearly full
                data = data[file.write(data):]
        except BaseException:
            with contextlib.suppress(OSError):  # readers ignore an incomplete last line
                file.truncate(size)
            raise


def hash_file(path):
    """Return the size and SHA-256 of a file.

    Args:
        path: str or path.

    Returns:
        (int, str): size in bytes, hexadecimal digest.

    Raises:
        OSError: if the file is missing or cannot be read.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def once(pairs):
    """Return a JSON object's pairs as a dict, or raise ValueError for a duplicate key; used as `object_pairs_hook`."""
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"duplicate key {shown(key)}")
        found[key] = value
    return found
