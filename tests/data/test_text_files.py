"""Texts streamed from files: texts, counts and fingerprints do not depend on where blocks end."""
import gzip
import hashlib
import json
import re

import numpy as np
import pytest

from tests.helpers import hostile_texts
from tfzoo.data import readers
from tfzoo.data.plan import split_rows
from tfzoo.data.readers import TEXTS
from tfzoo.data.source import Source, open_source
from tfzoo.data.text_files import TextFiles
from tfzoo.errors import ConfigError, DataError

HOSTILE = b"\n\n \r\n".join(hostile_texts(60)) + b" \n\t\n\n\r\n end \xe4\xb8"
SPLITS = {"paragraph": lambda text: re.split(r"\n[ \t\r]*\n", text), "line": lambda text: text.split("\n"),
          "file": lambda text: [text]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFZOO_CACHE", str(tmp_path / "cache"))


def whole_texts(data, document):
    return [text for text in SPLITS[document](data.decode("utf-8", "replace")) if text.strip()]


@pytest.mark.parametrize("document", readers.DOCUMENTS)
@pytest.mark.parametrize("block", [1, 3, 64, 2 ** 16])
def test_texts_and_counts_do_not_depend_on_where_blocks_end(tmp_path, monkeypatch, document, block):
    monkeypatch.setattr(readers.lines, "BLOCK", block)
    (tmp_path / "a.txt").write_bytes(HOSTILE)
    source = TextFiles([tmp_path / "a.txt"], document)
    expected = whole_texts(HOSTILE, document)
    assert source.texts[0] == expected and len(source) == len(expected)
    assert source.characters == sum(map(len, expected))
    decoded = HOSTILE.decode("utf-8", "replace")
    assert source.replaced == decoded.count("\ufffd") - HOSTILE.count("\ufffd".encode())
    assert source.raw_bytes == (len(HOSTILE) if document == "file" else None)
    if block < 64 and document == "file":
        assert sum(1 for _ in source.pieces()) > len(HOSTILE) / 100
    assert source.fingerprint == Source("x", {"text": expected}).fingerprint


def test_the_fingerprint_is_of_the_texts_as_it_always_was(tmp_path):
    """Check the fingerprint in config.json, on which resuming runs from before texts were streamed depends."""
    (tmp_path / "a.txt").write_text("one\n\ntwo \u00e9\n")
    digest = hashlib.sha256(json.dumps(["text", 2]).encode())
    for text in ("one", "two \u00e9\n"):
        digest.update(len(text.encode()).to_bytes(8, "little") + text.encode())
    plain = TextFiles([tmp_path / "a.txt"])
    assert plain.fingerprint == digest.hexdigest()
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress((tmp_path / "a.txt").read_bytes()))
    packed = TextFiles([tmp_path / "a.txt.gz"])
    assert packed.fingerprint == plain.fingerprint and packed.content == plain.content
    assert TextFiles([tmp_path / "a.txt"], "line").content != plain.content


@pytest.mark.parametrize("document", ["paragraph", "line"])
def test_shares_are_those_of_the_texts_in_memory(tmp_path, monkeypatch, document):
    monkeypatch.setattr(readers.lines, "BLOCK", 16)
    (tmp_path / "a.txt").write_bytes(HOSTILE)
    source = TextFiles([tmp_path / "a.txt"], document)
    memory = Source("x", {"text": whole_texts(HOSTILE, document)})
    for mine, other in zip(source.split(0.3, 7), memory.split(0.3, 7)):
        assert len(mine) == len(other) and mine.texts == other.texts and mine.fingerprint == other.fingerprint
        assert mine.raw_bytes is None
    order = np.random.default_rng(7).permutation(len(memory))
    assert sorted(order[:round(0.3 * len(memory))]) == split_rows(len(memory), 0.3, 7)[1].tolist()
    first, _ = source.split(0.3, 7)
    assert first.split(0.5, 1)[0].texts == memory.split(0.3, 7)[0].split(0.5, 1)[0].texts
    with pytest.raises(ConfigError, match="must leave at least one example for training and one for"):
        source.split(1e-9, 0)


def test_rows_and_text_files_of_a_folder_are_streamed_together(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": ""}\n{"texts": "b"}\n{"text": "c", "label": "x"}\n')
    (tmp_path / "train.txt").write_text("d\n\ne")
    source = open_source(str(tmp_path), TEXTS, max_bad_rows=1)
    assert source.texts[0] == ["a", "", "c", "d", "e"] and source.skipped == 1
    with pytest.raises(DataError, match="train.jsonl line 3"):  # even though the scan is cached
        open_source(str(tmp_path), TEXTS)


def test_a_file_that_changes_is_noticed(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    source = TextFiles([tmp_path / "a.txt"])
    source.verify()
    (tmp_path / "a.txt").write_text("one\n\ntwO")
    with pytest.raises(DataError, match="changed while it was being read"):
        source.verify()
    with pytest.raises(DataError, match="changed while it was being read"):
        source.fingerprint
    changed = TextFiles([tmp_path / "a.txt"])
    assert changed.fingerprint == Source("x", {"text": ["one", "twO"]}).fingerprint


def test_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text(" \n\n ")
    with pytest.raises(DataError, match="no examples"):
        TextFiles([tmp_path / "a.txt"])
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigError, match="choose from paragraph, line, file"):
        TextFiles([tmp_path / "a.txt"], "chapter")
