"""Tests of files.py and folders.py: a failed write leaves existing files unchanged."""
import errno
import os
import pathlib
import stat
import threading

import pytest

from tests.helpers import run_bare
from tfzoo import files, folders
from tfzoo.errors import ConfigError

LIMITED = """
import resource, sys
from tfzoo import files
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for write in (files.write_atomic, files.append_line):
    try:
        write(sys.argv[1], "x" * 200)
    except OSError as error:
        print(error.errno)
"""


def test_too_large_leaves_the_old_content(tmp_path):
    path = tmp_path / "note.txt"
    files.write_atomic(path, "old\n")
    assert run_bare(LIMITED, path).split() == [str(errno.EFBIG)] * 2
    assert path.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["note.txt"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_failure_before_the_rename_leaves_the_old_content(tmp_path, monkeypatch, function):
    path = tmp_path / "note.txt"
    files.write_atomic(path, "old")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["note.txt"]


def test_content_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("replace"), replace(*names)))
    files.write_atomic(tmp_path / "note.txt", b"\xff\x00")
    assert order == ["fsync", "replace", "fsync"]
    assert (tmp_path / "note.txt").read_bytes() == b"\xff\x00"


def test_hash_is_the_published_one(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # The one-block example in FIPS 180-4
    assert files.hash_file(tmp_path / "abc") == (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    assert files.write_chunks(tmp_path / "abc", [b"a", b"bc"]) == files.hash_file(tmp_path / "abc")


@pytest.mark.parametrize("path", ["gs://bucket/model", "s3://bucket/model", "hdfs://host:9000/model", "file:///model",
                                  b"gs://bucket/model", pathlib.Path("gs://bucket/model"), "", b"", None, 3, "a\0b",
                                  "~no-such-user/model"])
def test_what_is_no_path_of_this_machine_is_refused(path):
    with pytest.raises(ConfigError, match="^--init is "):
        files.local_path(path, "--init")


def test_a_home_is_expanded_and_all_else_is_as_given(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("~/ö x/m/", b"~/\xc3\xb6 x/m", pathlib.Path("~/ö x/m")):
        assert files.local_path(path) == tmp_path / "ö x" / "m"
    for path in ("a~", "./~", "runs/gs:/x", "C:/x", "-", "a b/ü"):
        assert str(files.local_path(path)) == os.path.normpath(path)


def test_a_fifo_and_a_device_are_written_to_and_a_link_stays(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    read = []
    thread = threading.Thread(target=lambda: read.append((tmp_path / "fifo").read_bytes()), daemon=True)
    thread.start()
    files.write_atomic_chunks(tmp_path / "fifo", [b"a", b"b"])
    thread.join(5)
    assert read == [b"ab"] and stat.S_ISFIFO(os.stat(tmp_path / "fifo").st_mode)
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "link").symlink_to("note.txt")
    for name in ("null", "link"):
        files.write_atomic(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "note.txt").read_text() == "new" and stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_what_others_put_into_our_subfolders_stays(tmp_path):
    there, new = tmp_path / "there", tmp_path / "new"
    for path in (there / "1_Pooling" / "config.json", there / "1_Pooling" / "notes.txt", there / "mine" / "x" / "a.txt",
                 there / "old.json", new / "1_Pooling" / "config.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{path.relative_to(tmp_path)}")
    folders.replace_folder(new, there, ours={"1_Pooling/config.json", "old.json"})
    assert folders.names_in(there) == {"1_Pooling/config.json", "1_Pooling/notes.txt", "mine/x/a.txt"}
    assert (there / "1_Pooling" / "config.json").read_text() == "new/1_Pooling/config.json"


def test_a_folder_of_others_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "there" / "config.json").mkdir(parents=True)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="was not written by tfzoo"):
        folders.replace_folder(tmp_path / "new", tmp_path / "there")
    assert (tmp_path / "there" / "config.json").is_dir()
