"""Files in every form, the development data's counts, and one line for each kind of bad file."""
import gzip

import pytest

from tests.helpers import data_dir
from tfzoo.data.readers import read_documents, read_labelled
from tfzoo.errors import ConfigError, DataError

ROWS = [{"text": 'a "b", c', "label": "x"}, {"text": "", "label": "y"}]


@pytest.mark.parametrize("name, content", [
    ("a.jsonl", '{"text": "a \\"b\\", c", "label": "x", "more": 1}\n\n{"text": "", "label": "y"}\n'),
    ("a.tsv", 'id\ttext\tlabel\n1\ta "b", c\tx\n2\t\ty\n'),
    ("a.csv", 'label,text\nx,"a ""b"", c"\ny,\n')])
@pytest.mark.parametrize("pack", [False, True])
def test_each_form_gives_the_same_rows(tmp_path, name, content, pack):
    path = tmp_path / (name + ".gz" * pack)
    path.write_bytes(gzip.compress(content.encode()) if pack else content.encode())
    assert read_labelled(path) == (ROWS, 0)


@pytest.mark.parametrize("name, content, says", [
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', "line 2: bad JSON"),
    ("a.jsonl", "[1]\n", "line 1: not a JSON"),
    ("a.tsv", "text\tlabel\na\tb\tc\n", "line 2: 3 columns"),
    ("a.csv", "words,label\na,b\n", "line 2: no string in text"),
    ("a.csv", "text,label\n", "no examples"), ("a.jsonl.gz", "text", "gzip")])
def test_a_bad_file_is_refused_in_one_line(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as error:
        read_labelled(tmp_path / name)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_bad_rows_are_counted_up_to_the_limit(tmp_path):
    (tmp_path / "a.tsv").write_text("text\tlabel\na\tx\nb\nc\ty\n")
    assert read_labelled(tmp_path / "a.tsv", 1) == ([{"text": "a", "label": "x"}, {"text": "c", "label": "y"}], 1)


def test_documents(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n \nthree \xff\n")
    assert read_documents(tmp_path / "a.txt") == ["one\ntwo", "three \ufffd\n"]
    assert read_documents(tmp_path / "a.txt", "line") == ["one", "two", "three \ufffd"]
    assert read_documents(tmp_path / "a.txt", "file") == ["one\ntwo\n \nthree \ufffd\n"]
    with pytest.raises(ConfigError, match="paragraph"):
        read_documents(tmp_path / "a.txt", "page")
    with pytest.raises(FileNotFoundError):
        read_documents(tmp_path / "b.txt")
    with pytest.raises(ConfigError, match="ending in"):
        read_labelled(tmp_path / "a.zip")
    with pytest.raises(ConfigError, match="labelled"):
        read_labelled(tmp_path / "a.txt")


def test_every_line_of_the_development_data_is_read():
    for path in sorted((data_dir() / "sentiment_rt").glob("*.*")):
        if path.suffix in (".tsv", ".csv", ".jsonl"):
            rows, skipped = read_labelled(path)
            lines = path.read_bytes().count(b"\n")
            assert skipped == 0 and len(rows) == lines - (path.suffix != ".jsonl") > 100
