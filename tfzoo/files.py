"""Atomic file writes: under a temporary name beside the final one, forced to the disk, then renamed."""
import errno
import fcntl
import filecmp
import hashlib
import os
import pathlib
import re
import shutil
import stat

from tfzoo.errors import ConfigError, shown

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems
_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # one slash: pathlib collapses two
TEMPORARY = ".tmp-"  # prefix of all unfinished files and folders
_UNFINISHED = re.compile(r"\.tmp-(.+?)-\d+(-old)?", re.DOTALL)  # group 1: the final name


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
            file.write(chunk)
            size += len(chunk)
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


def target_folder(path, written_in):
    """Check that a folder may be written or replaced, before its content is computed.

    Args:
        path: str or path of the folder; a symbolic link is followed.
        written_in: callable of a non-empty folder -> the names that tfzoo wrote there, or None if tfzoo did not write
            the folder.

    Returns:
        (pathlib.Path, set of str): the resolved folder, and the names in it that may be replaced, see replace_folder.

    Raises:
        ConfigError: a file; a non-empty folder that tfzoo did not write; the current folder or a mount point, which
            cannot be renamed. OSError: the folder is read-only.
    """
    path = pathlib.Path(os.path.realpath(path))
    if not path.exists():
        return path, set()
    if not path.is_dir():
        raise ConfigError(f"{path} already exists and is not a folder: name a new or an empty folder")
    for at, what in ((path.samefile(os.curdir), "the current folder"), (os.path.ismount(path), "a mount point")):
        if at:
            raise ConfigError(f"{path} is {what}, which cannot be replaced: name a folder in it")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    held = sorted(os.listdir(path))
    ours = written_in(path) if held else ()
    if ours is None:
        raise ConfigError(f"{path} already exists and holds {held[0]}, which tfzoo did not write: name a new or an "
                          "empty folder")
    return path, set(ours)


def _is_stream(path):
    try:  # /dev/stdout may be a regular file that others have open
        return os.path.abspath(path).startswith("/dev/") or not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def replace_folder(temporary, path, ours=()):
    """Rename a finished folder to its final path, replacing the old folder; files that tfzoo did not write are kept.

    Args:
        temporary: pathlib.Path of the folder, see temporary_path.
        path: str or path; its final path.
        ours: names in the old folder that may be replaced, see target_folder; a folder's name includes its contents.
            Everything else is hard-linked into the new folder, or copied if the disk has no hard links.

    Raises:
        ConfigError: a file that tfzoo did not write would be replaced. OSError: the folder cannot be renamed. In both
            cases the old folder is untouched.
    """
    path = pathlib.Path(path)
    old = temporary.with_name(temporary.name + "-old")
    if path.exists():
        _keep_others(path, temporary, ours)
        shutil.copymode(path, temporary)
        sync_folder(temporary)
        os.rename(path, old)
    else:
        sync_folder(temporary)
    try:
        os.rename(temporary, path)
    except BaseException:
        if old.exists():
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(path.parent)


def names_in(folder):
    """Return the paths of the files below a folder, relative to it: set of str."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _keep_others(path, temporary, ours):
    for at, folders, names in os.walk(path):
        inside = pathlib.Path(at).relative_to(path)
        folders[:] = sorted(name for name in folders if (inside / name).as_posix() not in ours)
        names += [name for name in folders if os.path.islink(path / inside / name)]
        for name in folders:
            other = temporary / inside / name
            if other.exists() and not other.is_dir():
                raise _replaced(path / inside / name)
            if name not in names:
                other.mkdir(exist_ok=True)
        for name in names:
            one, other = path / inside / name, temporary / inside / name
            if (inside / name).as_posix() in ours:
                continue
            if not os.path.lexists(other):
                _link(one, other)
            elif not (one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)):
                raise _replaced(one)


def _replaced(path):
    return ConfigError(f"{path} was not written by tfzoo and would be replaced: move it, or name another folder")


def _link(one, other):
    try:
        os.link(one, other, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(one, other, follow_symlinks=False)


def remove_unfinished(folder):
    """Remove what killed processes left unfinished in a folder; nobody else may be writing to it.

    If one was killed between the two renames of `replace_folder`, the old folder gets its name back.

    Args:
        folder: pathlib.Path.

    Raises:
        OSError: something cannot be removed.
    """
    for left in folder.glob(f"{TEMPORARY}*"):
        found = _UNFINISHED.fullmatch(left.name)
        if found is None:  # not a name from temporary_path
            continue
        if found[2] and not os.path.lexists(folder / found[1]):
            os.rename(left, folder / found[1])
        elif left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


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
