"""Checkpoints: each one is complete, and the last good one survives every accident."""
import errno
import json
import os
import shutil

import ml_dtypes
import numpy as np
import pytest
import safetensors

from tests.helpers import run_bare
from tfzoo.errors import ConfigError, DataError
from tfzoo.training.checkpointing import Checkpoints

FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]


def make_arrays(seed):
    generator = np.random.default_rng(seed)
    model = {"embeddings/token": generator.normal(size=(5, 3)).astype("float32"),
             "block_00/up": generator.normal(size=(3, 4)).astype(ml_dtypes.bfloat16),
             "transposed": generator.normal(size=(3, 4)).astype("float32").T,
             "mask": np.array([True, False, True]), "none": np.zeros((0, 3), "float32")}
    return {"model": model, "optimizer": {"iterations": np.array(seed, "int64"), "odd": np.arange(3, dtype="int8")}}


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for group in expected:
        assert got[group].keys() == expected[group].keys()
        for name, array in expected[group].items():
            assert got[group][name].dtype == array.dtype and got[group][name].shape == array.shape
            np.testing.assert_array_equal(got[group][name], array)


@pytest.fixture
def two(tmp_path):
    """Return Checkpoints with two saved steps, reopened as on a restart, and the list of warnings."""
    first = Checkpoints(tmp_path)
    for step in (10, 20):
        first.save(step, make_arrays(step), {"step": step})
    warnings = []
    return Checkpoints(tmp_path, warn=warnings.append), warnings


def test_round_trip(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoints.latest() is None and checkpoints.best() is None
    checkpoints.save(1200, {**make_arrays(1), "empty": {}}, {"examples": 38400, "best": float("inf"), "name": "é"})
    assert os.listdir(checkpoints.folder) == ["step_00001200"]
    assert checkpoints.latest() == 1200
    arrays, state = checkpoints.load(1200)
    assert_same(arrays, {**make_arrays(1), "empty": {}})
    assert state == {"examples": 38400, "best": float("inf"), "name": "é"}


def test_safetensors_package_reads_the_files(tmp_path):
    Checkpoints(tmp_path).save(3, make_arrays(3), {})
    with safetensors.safe_open(tmp_path / "step_00000003" / "model.safetensors", framework="np") as file:
        read = {name: file.get_tensor(name) for name in file.keys()}
    assert_same({"model": read}, {"model": make_arrays(3)["model"]})


def test_manifest_names_versions_and_files(two):
    manifest = json.loads((two[0].path(20) / "manifest.json").read_text())
    assert manifest["format_version"] == 1 and manifest["step"] == 20 and manifest["tfzoo_version"]
    assert sorted(manifest["files"]) == FILES[1:]
    assert manifest["files"]["state.json"]["bytes"] == os.path.getsize(two[0].path(20) / "state.json")


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def flip_last_bit(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [truncate, flip_last_bit, lambda path: os.truncate(path, 0), os.unlink,
                                    lambda path: path.write_text("{}")])
def test_damaged_newest_gives_the_one_before(two, name, damage):
    checkpoints, warnings = two
    if name == "manifest.json" and damage is truncate:
        os.truncate(checkpoints.path(20) / name, 40)  # the last byte is only a line break
    else:
        damage(checkpoints.path(20) / name)
    assert checkpoints.latest() == 10
    assert len(warnings) == 1 and "\n" not in warnings[0] and "step_00000020" in warnings[0]
    assert_same(checkpoints.load(10)[0], make_arrays(10))
    with pytest.raises(DataError, match="damaged"):
        checkpoints.latest(must=True)
    with pytest.raises(DataError, match="damaged"):
        checkpoints.load(20)


def test_every_flipped_bit_is_noticed(tmp_path):
    checkpoints = Checkpoints(tmp_path, warn=lambda line: None)
    checkpoints.save(1, {"model": {"x": np.arange(2, dtype="int8")}}, {})
    checkpoints.save(2, {"model": {"x": np.arange(2, dtype="int8")}}, {})
    for path in sorted(checkpoints.path(2).iterdir()):
        whole = path.read_bytes()
        for bit in range(8 * len(whole)):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            assert checkpoints.latest() == 1, (path.name, bit)
        path.write_bytes(whole)
    assert checkpoints.latest() == 2


def test_folder_of_another_step_is_refused(two):
    checkpoints, warnings = two
    shutil.copytree(checkpoints.path(20), checkpoints.path(30))
    assert checkpoints.latest() == 20 and len(warnings) == 1


def test_other_format_version_is_refused(two, monkeypatch):
    monkeypatch.setattr("tfzoo.training.checkpointing.FORMAT_VERSION", 2)
    with pytest.raises(DataError, match="format version is 1, but this tfzoo reads 2"):
        two[0].load(20)


def test_all_damaged_does_not_start_over(two):
    checkpoints, warnings = two
    for step in (10, 20):
        shutil.rmtree(checkpoints.path(step))
        checkpoints.path(step).mkdir()
    with pytest.raises(DataError, match="every checkpoint"):
        checkpoints.latest()
    assert len(warnings) == 2


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="--resume=must"):
        Checkpoints(tmp_path).latest(must=True)
    with pytest.raises(FileNotFoundError, match="does not exist: the saved steps are"):
        Checkpoints(tmp_path).load(7)
    with pytest.raises(ConfigError, match="--keep must be at least 1, got 0"):
        Checkpoints(tmp_path, keep=0)


def test_old_ones_go_but_the_best_stays(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (10, 20, 30, 40, 50):
        checkpoints.save(step, make_arrays(step), {})
        if step in (10, 20):
            checkpoints.mark_best(step, "accuracy", step / 100)
    assert checkpoints.steps() == [20, 40, 50]
    assert checkpoints.best() == {"step": 20, "metric": "accuracy", "value": 0.2}
    checkpoints.mark_best(50, "accuracy", 0.9)
    checkpoints.save(60, make_arrays(60), {})
    assert sorted(os.listdir(tmp_path)) == ["best.json", "step_00000050", "step_00000060"]


def test_an_old_one_with_a_file_of_others_stays_and_is_reported_once(two):
    checkpoints, warnings = two
    (checkpoints.path(10) / "notes.txt").write_text("mine")
    (checkpoints.folder / ".tmp-mine").write_text("mine")
    for step in (30, 40, 50):
        checkpoints.save(step, make_arrays(step), {})
    assert checkpoints.steps() == [10, 40, 50] and (checkpoints.path(10) / "notes.txt").read_text() == "mine"
    assert len(warnings) == 1 and "contains notes.txt, which tfzoo did not write" in warnings[0]
    assert (Checkpoints(checkpoints.folder).folder / ".tmp-mine").exists()


def test_damaged_ones_do_not_count_among_the_kept(two):
    checkpoints, _ = two
    for step in (30, 40):
        shutil.copytree(checkpoints.path(10), checkpoints.path(step))
    checkpoints.save(25, make_arrays(25), {})
    assert checkpoints.steps() == [20, 25, 30, 40]
    assert checkpoints.latest() == 25


def test_same_step_again(two):
    checkpoints, _ = two
    inode = checkpoints.path(20).stat().st_ino
    checkpoints.save(20, make_arrays(20), {"step": 20})
    assert checkpoints.path(20).stat().st_ino == inode
    os.unlink(checkpoints.path(20) / "state.json")
    assert checkpoints.latest() == 10
    checkpoints.save(20, make_arrays(20), {"step": 20})
    assert checkpoints.latest() == 20
    assert sorted(os.listdir(checkpoints.folder)) == ["step_00000010", "step_00000020"]


def test_best_that_cannot_be_trusted(two):
    checkpoints, warnings = two
    with pytest.raises(ValueError, match="finite"):
        checkpoints.mark_best(20, "loss", float("nan"))
    with pytest.raises(FileNotFoundError):
        checkpoints.mark_best(21, "loss", 1.0)
    checkpoints.mark_best(10, "loss", 1.0)
    (checkpoints.path(10) / "state.json").write_text("{ }")
    assert checkpoints.best() is None and "state.json" in warnings[-1]
    (checkpoints.folder / "best.json").write_text('{"step": 10')
    assert Checkpoints(checkpoints.folder, warn=warnings.append).best() is None and "best.json" in warnings[-1]
    for step in (30, 40, 50):
        checkpoints.save(step, make_arrays(step), {})
    assert checkpoints.steps() == [10, 20, 30, 40, 50]  # the best is unknown, so nothing is deleted


@pytest.mark.parametrize("arrays, state", [({"../x": {}}, {}), ({"model": {"x": np.array(["text"])}}, {}),
                                           ({"model": {"x": np.zeros(2, ">f4")}}, {}), ({}, {"x": object()})])
def test_what_cannot_be_written_is_refused(two, arrays, state):
    with pytest.raises((ValueError, TypeError)):
        two[0].save(30, arrays, state)
    assert sorted(os.listdir(two[0].folder)) == ["step_00000010", "step_00000020"]


@pytest.mark.parametrize("function", ["mkdir", "fsync", "rename"])
@pytest.mark.parametrize("call", range(6))
def test_failing_disk_is_reported_and_leaves_the_last_good_one(two, monkeypatch, function, call):
    checkpoints, _ = two
    original, calls = getattr(os, function), []

    def fail(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments, **options)

    monkeypatch.setattr(os, function, fail)
    try:
        checkpoints.save(30, make_arrays(30), {})
    except OSError as error:
        assert error.errno == errno.ENOSPC
    monkeypatch.undo()
    warnings = []
    assert Checkpoints(checkpoints.folder, warn=warnings.append).latest() in (20, 30)
    assert not warnings
    assert not [name for name in os.listdir(checkpoints.folder) if not name.startswith("step_")]
    assert_same(checkpoints.load(20)[0], make_arrays(20))


# Runs in a separate process, so that it may fork. Each child dies before or after its n-th call to a function that
# changes the disk, and the parent checks what is left.
ACCIDENTS = """
import json, os, resource, signal, sys
import numpy as np
from tfzoo.training.checkpointing import Checkpoints

folder = sys.argv[1]
arrays = {"model": {"x": np.arange(1000)}, "optimizer": {"y": np.arange(10)}}
NAMES = ("mkdir", "fsync", "rename", "replace", "rmdir", "unlink")

def child(work):
    number = os.fork()
    if number == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])

def die_at(count, after):
    calls = [0]
    def wrap(function):
        def call(*arguments, **options):
            calls[0] += 1
            if calls[0] == count and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*arguments, **options)
            finally:
                if calls[0] == count:
                    os.kill(os.getpid(), signal.SIGKILL)
        return call
    for name in NAMES:
        setattr(os, name, wrap(getattr(os, name)))

def save(step):
    Checkpoints(folder, keep=1).save(step, arrays, {})

def too_large():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    try:
        save(5)
    except OSError as error:
        os._exit(error.errno)

child(lambda: save(1))
report = {"too_large": child(too_large), "left": sorted(os.listdir(folder)), "kills": []}
step, count = 1, 0
for after in (False, True):
    count, code = 0, -9
    while code == -9:
        count, step = count + 1, step + 1
        code = child(lambda: (die_at(count, after), save(step)))
        warnings = []
        latest = Checkpoints(folder, warn=warnings.append).latest()
        hidden = [name for name in os.listdir(folder) if name.startswith(".")]
        report["kills"].append([code, step, latest, warnings, hidden])
print(json.dumps(report))
"""


def test_killed_anywhere_or_file_too_large(tmp_path):
    report = json.loads(run_bare(ACCIDENTS, tmp_path).splitlines()[-1])
    assert report["too_large"] == errno.EFBIG and report["left"] == ["step_00000001"]
    kills = report["kills"]
    assert sum(code == -9 for code, *_ in kills) >= 30
    newest = 1
    for code, step, latest, warnings, hidden in kills:
        assert latest in (newest, step) and not warnings and not hidden
        newest = latest
    assert newest == kills[-1][1]
