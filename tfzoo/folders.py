"""Replace whole folders atomically, without deleting files that tfzoo did not write."""
import contextlib
import errno
import filecmp
import os
import pathlib
import re
import shutil

from tfzoo.errors import ConfigError
from tfzoo.files import TEMPORARY, sync_file, sync_folder, temporary_path

_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
_UNFINISHED = re.compile(r"\.tmp-(.+?)-\d+(-old)?", re.DOTALL)  # group 1: the final name


def target_folder(path, written_in):
    """Check that a folder may be written or replaced, before its content is computed.

    Args:
        path: str or path of the folder; a symbolic link is followed.
        written_in: callable that takes a non-empty folder and returns the names of the files and folders that tfzoo
            wrote to it, or None if tfzoo did not write the folder.

    Returns:
        (pathlib.Path, set of str): the resolved path, and the names in the folder that `replace_folder` may replace.

    Raises:
        ConfigError: if the path is a file, a non-empty folder that tfzoo did not write, or the current folder or a
            mount point, neither of which can be renamed.
        OSError: if the folder is read-only.
    """
    path = pathlib.Path(os.path.realpath(path))
    if not path.exists():
        return path, set()
    if not path.is_dir():
        raise ConfigError(f"{path} already exists and is not a folder: choose a new or empty folder")
    for at, what in ((path.samefile(os.curdir), "the current folder"), (os.path.ismount(path), "a mount point")):
        if at:
            raise ConfigError(f"{path} is {what}, which cannot be replaced: choose a folder in it")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    held = sorted(os.listdir(path))
    ours = written_in(path) if held else ()
    if ours is None:
        raise ConfigError(f"{path} already exists and contains {held[0]}, which tfzoo did not write: choose a new or "
                          "empty folder")
    return path, set(ours)


@contextlib.contextmanager
def new_folder(path, ours=()):
    """Yield a temporary folder that replaces `path` at the end of the `with` block, or is removed after an error.

    Args:
        path: str or path of the final folder.
        ours: set of str, names in the old folder that may be replaced; see `replace_folder`.

    Raises:
        ConfigError, OSError: if `replace_folder` raises them.
    """
    temporary = temporary_path(path)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for name in names_in(temporary):
            sync_file(temporary / name)
        replace_folder(temporary, path, ours)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(temporary, path, ours=()):
    """Rename a finished folder to its final path, replacing the old folder; files that tfzoo did not write are kept.

    If an error is raised, the old folder is unchanged.

    Args:
        temporary: pathlib.Path of the finished folder, from `temporary_path`.
        path: str or path, the final path.
        ours: set of str, names in the old folder that may be replaced, from `target_folder`; if a name is a folder, so
            may its contents. Everything else is hard-linked into the new folder, or copied if the file system does not
            support hard links.

    Raises:
        ConfigError: if a file that tfzoo did not write would be replaced.
        OSError: if the folder cannot be renamed.
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
    """Return the relative paths of all files in a folder and its subfolders: set of str."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _keep_others(path, temporary, ours):
    for at, folders, names in os.walk(path, onerror=_refuse):
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


def _refuse(error):
    raise error


def _replaced(path):
    return ConfigError(f"{path} was not written by tfzoo and would be replaced: move it, or choose another folder")


def _link(one, other):
    try:
        os.link(one, other, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(one, other, follow_symlinks=False)


def remove_unfinished(folder):
    """Remove the unfinished files and folders that killed processes left in a folder.

    No other process may be writing to the folder. If a process was killed between the two renames of
    `replace_folder`, the old folder is restored.

    Args:
        folder: pathlib.Path.

    Raises:
        OSError: if a file or folder cannot be removed.
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
