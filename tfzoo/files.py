"""Files that are there whole or not at all: written beside their name, forced to the disk, then renamed."""
import errno
import fcntl
import hashlib
import os
import pathlib
import shutil

from tfzoo.errors import shown

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems
TEMPORARY = ".tmp-"  # how the name of everything unfinished begins


def temporary_path(path):
    """Return the name beside `path` under which its content is prepared.

    Args:
        path: str or path; the final file or folder.

    Returns:
        pathlib.Path in the same folder; its name begins with TEMPORARY and ends with this process's number.
    """
    path = pathlib.Path(path)
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")


def sync_folder(path):
    """Force a folder's list of names to the disk.

    Args:
        path: str or path; an existing folder.

    Raises:
        OSError: the disk refused.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(file):
    """Take a lock that the end of the process gives back.

    Args:
        file: open file or descriptor.

    Returns:
        True for a lock taken, None where another has it, False where the file system knows no locks.

    Raises:
        OSError: it could not be tried.
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
    """Force what was written into a file to the disk; raises OSError where the disk refuses."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_chunks(path, chunks):
    """Write a file in pieces and force it to the disk; not atomic by itself.

    Args:
        path: str or path; replaced where it exists.
        chunks: iterable of bytes-like objects.

    Returns:
        (int, str): the file's size in bytes and its SHA-256 in hexadecimal, of what was meant to be written.

    Raises:
        OSError: the disk is full, read-only, or limits the file's size.
    """
    size, digest = 0, hashlib.sha256()
    with open(path, "wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def write_atomic(path, content):
    """Write a file whole or leave what was there.

    Args:
        path: str or path of the file; its folder must exist.
        content: str (written as UTF-8) or bytes.

    Raises:
        OSError: it could not be written; the old content, if any, is untouched.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "note.txt"
        >>> write_atomic(path, "whole")
        >>> path.read_text()
        'whole'
    """
    write_atomic_chunks(path, [content.encode("utf-8") if isinstance(content, str) else content])


def write_atomic_chunks(path, chunks):
    """Write a file of many pieces whole or leave what was there; as write_atomic, `chunks` as write_chunks."""
    path = pathlib.Path(path)
    temporary = temporary_path(path)
    try:
        write_chunks(temporary, chunks)
        os.replace(temporary, path)
    except BaseException:
        _remove_quietly(temporary)
        raise
    sync_folder(path.parent)


def replace_folder(temporary, path):
    """Give a finished folder its name, in place of what had it.

    Args:
        temporary: path of the folder, see temporary_path.
        path: its final path.

    Raises:
        OSError: it could not be renamed; what was there stays.
    """
    path = pathlib.Path(path)
    sync_folder(temporary)
    old = temporary.with_name(temporary.name + "-old")
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(temporary, path)
    except BaseException:
        if old.exists():
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(path.parent)


def append_line(path, line):
    """Append one line to a file, whole or not at all as far as the disk allows.

    Args:
        path: str or path; made where it is missing.
        line: str without a line break.

    Raises:
        OSError: it could not be written; what a failed write left is cut off again.
    """
    data = memoryview(line.encode("utf-8") + b"\n")
    with open(path, "ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while data:  # an unbuffered write may take only a part, on a disk that is filling up
                data = data[file.write(data):]
        except BaseException:
            _truncate_quietly(file, size)
            raise


def hash_file(path):
    """Return the size and the SHA-256 of a file.

    Args:
        path: str or path.

    Returns:
        (int, str): bytes, hexadecimal digest.

    Raises:
        OSError: it is missing or cannot be read.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def once(pairs):
    """Return the dict of an object of JSON, for `object_pairs_hook`, or raise ValueError for a key that comes twice."""
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{shown(key)} is there twice")
        found[key] = value
    return found


def _remove_quietly(path):
    try:
        os.unlink(path)
    except OSError:
        return  # the error that brought us here says more


def _truncate_quietly(file, size):
    try:
        file.truncate(size)
    except OSError:
        return  # readers drop a torn last line
