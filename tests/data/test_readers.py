"""Files in every form, the development data's counts, and one line for each kind of bad file."""
import gzip
import io
import sys
import types

import pytest

from tests.helpers import data_dir
from tfzoo.data.readers import Blocks, Lines, read_documents, read_rows, whole_documents
from tfzoo.errors import ConfigError, DataError

ROWS = [{"text": 'a "b", c', "label": "x"}, {"text": "", "label": "y"}]


def rows_of(path, *settings, **more):
    return list(read_rows(Lines(path), *settings, **more))


@pytest.mark.parametrize("name, content", [
    ("a.jsonl", '{"text": "a \\"b\\", c", "label": "x", "more": 1}\n\n{"text": "", "label": "y"}\n'),
    ("a.tsv", 'id\ttext\tlabel\n1\ta "b", c\tx\n2\t\ty\n'),
    ("a.tsv", '\ufeffid\ttext\tlabel\r\n1\ta "b", c\tx\r\n2\t\ty\r\n'),
    ("a.csv", 'label,text\nx,"a ""b"", c"\ny,\n'), ("A.CSV", 'text,label\n"a ""b"", c",x\n,y\n')])
@pytest.mark.parametrize("pack", [False, True])
def test_each_form_gives_the_same_rows(tmp_path, name, content, pack):
    path = tmp_path / (name + (".GZ" if name.isupper() else ".gz") * pack)
    path.write_bytes(gzip.compress(content.encode()) if pack else content.encode())
    assert rows_of(path) == ROWS


@pytest.mark.parametrize("name, content, says", [
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', "line 2: bad JSON"),
    ("a.jsonl", "[1]\n", "line 1: not a JSON"),
    ("a.tsv", "text\tlabel\na\tb\tc\n", "line 2: 3 columns"),
    ("a.csv", "words,label\na,b\n", "line 2: no string in text"), ("a.jsonl.gz", "text", "gzip")])
def test_a_bad_file_is_refused_in_one_line(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as error:
        rows_of(tmp_path / name)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_bad_rows_are_skipped_up_to_the_limit(tmp_path):
    (tmp_path / "a.tsv").write_text("text\tlabel\na\tx\nb\nc\ty\n")
    told = []
    rows = rows_of(tmp_path / "a.tsv", ("text", "label"), 1, told.append)
    assert rows == [{"text": "a", "label": "x"}, {"text": "c", "label": "y"}]
    assert len(told) == 1 and "line 3" in told[0]


def test_invalid_utf8_and_a_long_text_are_counted_not_refused(tmp_path):
    content = b"good \xef\xbf\xbd\nbad \xff\xc3\n" + b"x" * 2 ** 20 + b"\n"
    (tmp_path / "a.txt").write_bytes(content)
    lines = Lines(tmp_path / "a.txt")
    texts = [row["text"] for row in read_rows(lines, ("text",))]
    assert texts[:2] == ["good \ufffd", "bad \ufffd\ufffd"] and len(texts[2]) == 2 ** 20
    assert (lines.replaced, lines.raw_bytes) == (2, len(content))


def test_standard_input_is_text_or_what_its_ending_says(monkeypatch):
    for name, content in (("-", b"a b\n\nc"), ("-.jsonl", b'{"text": "a b"}\n{"text": ""}\n{"text": "c"}\n')):
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))
        assert [row["text"] for row in rows_of(name, ("text",))] == ["a b", "", "c"]


@pytest.mark.parametrize("document, expected", [
    ("paragraph", ["one\ntwo", "three\n"]), ("line", ["one", "two", "three"]), ("file", ["one\ntwo\n \n\nthree\n"])])
def test_documents(tmp_path, document, expected):
    (tmp_path / "a.txt").write_text("one\ntwo\n \n\nthree\n")
    for parts in (Lines(tmp_path / "a.txt"), Blocks(tmp_path / "a.txt")):
        assert [text.strip("\n") for text in whole_documents(read_documents(parts, document))] == \
            [text.strip("\n") for text in expected]


@pytest.mark.parametrize("name", ["a.json", "a", "a.parquet"])
def test_other_endings_are_refused(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match="allowed are"):
        rows_of(tmp_path / name)


@pytest.mark.parametrize("name, count", [("sentiment_rt/train", 9600), ("sentiment_rt/eval", 1062),
                                         ("topic_trec/train", 5452)])
def test_development_data_have_the_counts_of_their_readme(name, count):
    assert len(rows_of(data_dir() / f"{name}.jsonl")) == count
