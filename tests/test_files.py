"""Tests of files.py: a failed write leaves what was there."""
import errno
import os

import pytest

from tests.helpers import run_bare
from tfzoo import files

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
    # FIPS 180-4, the example of one block
    assert files.hash_file(tmp_path / "abc") == (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    assert files.write_chunks(tmp_path / "abc", [b"a", b"bc"]) == files.hash_file(tmp_path / "abc")
