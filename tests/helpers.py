"""Checks that every layer, model and task must pass, and the way to the development data."""
import os
import pathlib

import numpy as np
import pytest

import tfzoo
from tfzoo.checkpoints.huggingface import Names
from tfzoo.errors import DataError

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def data_dir():
    """Return the folder of development data ($TFZOO_DATA), or skip the test where it is absent."""
    folder = pathlib.Path(os.environ.get("TFZOO_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}: set TFZOO_DATA")
    return folder


def vocab_dir():
    """Return the folder of published vocabularies beside the development data, or skip."""
    folder = data_dir().parent / "vocab"
    if not folder.is_dir():
        pytest.skip(f"no vocabularies at {folder}")
    return folder


def checkpoint_dir():
    """Return the folder of real checkpoints beside the development data, or skip."""
    folder = data_dir().parent / "checkpoints"
    if not folder.is_dir():
        pytest.skip(f"no checkpoints at {folder}")
    return folder


def memory(field):
    """Return the bytes of a field of this process's status."""
    with open("/proc/self/status", encoding="ascii") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(f"{field}:"))


def refused(folder, says, error=DataError):
    """Hold that a folder is refused in one line, and that no more than 200 MB were taken at any time until then."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the highest memory is counted from here
    before = memory("VmRSS")
    with pytest.raises(error, match=says) as caught:
        tfzoo.load(folder)
    line = str(caught.value).replace(str(folder), "FOLDER")
    assert line.isprintable() and len(line) < 400, line
    taken = memory("VmHWM") - before
    assert taken < 200e6, f"{taken:,} bytes were taken"


def check_update(trainer, batch, loss, norm, optimizer):
    """Hold that a trainer's first update is the one with this loss, gradient norm and optimizer's arrays."""
    sums, other_norm, *_ = trainer.train_step(batch)
    assert float(other_norm) == pytest.approx(norm, rel=1e-4)
    assert float(sums["loss"]) == pytest.approx(loss, rel=1e-5)
    # The momentum after one step is the clipped gradient x 0.1: compared where rounding is not magnified by Adam.
    arrays = trainer.arrays()["optimizer"]
    momenta = [path for path in optimizer if "momentum" in path]
    assert momenta and arrays.keys() == optimizer.keys()
    for path in momenta:
        assert np.abs(arrays[path] - optimizer[path]).max() < 1e-6, path


def damaged(content, rng, end=None):
    """Return bytes with some of them, before `end`, changed, cut out, repeated or put in."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, min(len(content), end or len(content))))
        kind = rng.integers(4)
        if kind == 0:
            content[place] = rng.integers(256)
        elif kind == 1:
            del content[place:place + int(rng.integers(1, 9))]
        elif kind == 2:
            content[place:place] = rng.bytes(int(rng.integers(1, 9)))
        else:
            content[place:place] = content[place:place + int(rng.integers(1, 40))]
    return bytes(content)


def assign_reference(body, weights, family):
    """Fill a body with a reference implementation's weights through its family's name map; every weight must be met.

    Args:
        weights: dict of the reference's name -> array.
        family: module with a REFERENCE.
    """
    for name, (variables, turned) in Names(family.reference, None, "").plan(body.weights).items():
        value = weights[name].T if turned else weights[name]
        for variable, part in zip(variables, np.split(value, len(variables), axis=-1)):
            variable.assign(part)


def real_lines():
    """Return 10,000 real lines: English with German and with Chinese, 2,500 of each side."""
    lines = []
    for pair in ("translation_en_de", "translation_en_zh"):
        with open(data_dir() / pair / "train.tsv", encoding="utf-8") as file:
            next(file)
            rows = [line.rstrip("\n").split("\t") for line, _ in zip(file, range(2500))]
        lines += [row[side] for side in (0, 1) for row in rows]
    return lines


def hostile_texts(count=200):
    """Return texts as bytes: empty, emoji, CJK, combining accents, NUL, controls, very long words, invalid UTF-8."""
    fixed = ["", " ", "\t\n", "plain text", "Ünïcödé ÀÉÎ", "e\u0301a\u0308", "\u4e2d\u6587 \u65e5\u672c",
             "\U0001f600 ok \U0001f468\u200d\U0001f469", "nul \x00 inside", "\x01\x7f\x85", "x" * 5000,
             "\u0436" * 101, "a" * 100, "[CLS] [SEP] [MASK] [PAD]", "don't... \u00bd \u2026", "\u200b\ufeff\u00ad",
             "\u202e right", b"\xff\xfe broken", b"cut \xe4\xb8", b"\xed\xa0\x80", "\ufffd", "tab\tand\r\nbreak"]
    rng = np.random.default_rng(0)
    ranges = [(32, 127), (0xa0, 0x250), (0x370, 0x600), (0x4e00, 0x4e40), (0x1f600, 0x1f640), (0, 32), (0x300, 0x330)]
    texts = list(fixed)
    while len(texts) < count:
        low, high = ranges[rng.integers(len(ranges))]
        words = ["".join(map(chr, rng.integers(low, high, rng.integers(1, 12)))) for _ in range(rng.integers(1, 15))]
        text = " ".join(words)
        texts.append(text if rng.random() < 0.8 else rng.bytes(rng.integers(1, 40)))
    return [text.encode("utf-8", "replace") if isinstance(text, str) else text for text in texts]
