"""Files that are there whole or not at all: written beside their name, forced to the disk, then renamed."""
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
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib makes one slash of two
TEMPORARY = ".tmp-"  # how the name of everything unfinished begins
_UNFINISHED = re.compile(r"\.tmp-(.+?)-\d+(-old)?", re.DOTALL)  # the name that it would have had


def writing_error(error, what):
    """Return the OSError of a disk that could not be written, where another package's error comes of one, else None.

    Args:
        error: exception, perhaps raised from others; those of the network are OSErrors too.
        what: str, what could not be written.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = getattr(error, "errno", None)
        found = re.search(r"\bos error (\d+)", str(error))  # as Rust has it
        number = int(found[1]) if found and number is None else number
        name = getattr(error, "filename", None)
        if number in _UNWRITABLE or number in (errno.EACCES, errno.EPERM, errno.ENOTDIR) and name:
            return OSError(number, f"{os.strerror(number)} ({what})", name)
        error = error.__cause__ or error.__context__
    return None


def temporary_path(path):
    """Return the name beside `path` under which its content is prepared.

    Args:
        path: str or path; the final file or folder.

    Returns:
        pathlib.Path in the same folder; its name begins with TEMPORARY and ends with this process's number.
    """
    path = pathlib.Path(path)
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")


def local_path(path, name="the path"):
    """Return a path that a user gave, with `~` expanded.

    Args:
        path: str, bytes or path.
        name: str, what it is called in an error, as "--output_dir".

    Returns:
        pathlib.Path.

    Raises:
        ConfigError: what is empty or no path; an address, as gs://bucket/model; ~ of a user that has no home.

    Example:
        >>> local_path("gs://bucket/model")
        Traceback (most recent call last):
        tfzoo.errors.ConfigError: the path is gs://bucket/model: allowed are paths on this machine...
    """
    text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
    if not text or "\0" in text:
        raise ConfigError(f"{name} is {shown(path)}: allowed is a path, as runs/reviews")
    if _ADDRESS.match(text):
        raise ConfigError(f"{name} is {text}: allowed are paths on this machine, mounts included; copy it here or "
                          "mount it")
    expanded = os.path.expanduser(text)  # pathlib's own would take ./~ for a home too
    if expanded.startswith("~"):
        raise ConfigError(f"{name} is {text}: no such user has a home here; write the whole path, or ./{text}")
    return pathlib.Path(expanded)


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
    """Write a file of many pieces whole or leave what was there; as write_atomic, `chunks` as write_chunks.

    A FIFO or device is written to, not replaced; a link stays one.
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
    """Find out whether a folder may be written, before the work that its content takes.

    Args:
        path: str or path of the folder; a link is followed.
        written_in: callable of a folder that holds something -> the names of what tfzoo wrote there, or None where it
            is not tfzoo's own.

    Returns:
        (pathlib.Path, set of str): where the folder is, and the names in it that may go, see replace_folder.

    Raises:
        ConfigError: a file; a folder of somebody else that holds something; the current folder or a mount point, which
            cannot be renamed. OSError: a folder that is read-only.
    """
    path = pathlib.Path(os.path.realpath(path))
    if not path.exists():
        return path, set()
    if not path.is_dir():
        raise ConfigError(f"{path} is there already, and is no folder: name a new or an empty folder")
    for at, what in ((path.samefile(os.curdir), "the current folder"), (os.path.ismount(path), "a mount point")):
        if at:
            raise ConfigError(f"{path} is {what}, which cannot be replaced: name a folder in it")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    held = sorted(os.listdir(path))
    ours = written_in(path) if held else ()
    if ours is None:
        raise ConfigError(f"{path} is there already and holds {held[0]}, which is not tfzoo's: name a new or an empty "
                          "folder")
    return path, set(ours)


def _is_stream(path):
    try:  # /dev/stdout may be a file, of which others hold the descriptor
        return os.path.abspath(path).startswith("/dev/") or not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def replace_folder(temporary, path, ours=()):
    """Give a finished folder its name, in place of what had it; what others have put in there stays in it.

    Args:
        temporary: path of the folder, see temporary_path.
        path: its final path.
        ours: names in the folder that is there which may go, see target_folder; of a folder, with all that is in it.
            All else is linked into the new folder, or copied where the disk knows no links.

    Raises:
        ConfigError: a file of others would be replaced. OSError: the folder could not be renamed. In either case what
            was there stays.
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
    return ConfigError(f"{path} was not written by tfzoo, and would be replaced: move it, or name another folder")


def _link(one, other):
    try:
        os.link(one, other, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(one, other, follow_symlinks=False)


def remove_unfinished(folder):
    """Remove what processes that were killed have left in a folder; nobody else may be writing into it.

    Where one was killed between the two renames of `replace_folder`, the old folder gets its name back.

    Args:
        folder: pathlib.Path.

    Raises:
        OSError: something cannot be removed.
    """
    for left in folder.glob(f"{TEMPORARY}*"):
        found = _UNFINISHED.fullmatch(left.name)
        if found is None:  # not a name that temporary_path gives
            continue
        if found[2] and not os.path.lexists(folder / found[1]):
            os.rename(left, folder / found[1])
        elif left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


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
