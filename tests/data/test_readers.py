"""All forms of files, the counts of the development data, and a one-line error for each kind of bad file."""
import csv
import gzip
import io
import sys
import types

import pytest

from tests.differential import data
from tests.helpers import data_dir
from tfzoo.data.readers import LABELLED, TEXTS, Blocks, Lines, read_documents, read_rows, whole_documents
from tfzoo.data.readers.tables import table_rows
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
    ("a.csv", "words,label\na,b\n", "line 1: no column is named text; the header is ['words', 'label']"),
    ("a.jsonl.gz", "text", "gzip")])
def test_a_bad_file_is_refused_in_one_line(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as error:
        rows_of(tmp_path / name)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_bad_rows_are_skipped_up_to_the_limit(tmp_path):
    (tmp_path / "a.tsv").write_text("text\tlabel\na\tx\nb\nc\ty\n")
    told = []
    rows = rows_of(tmp_path / "a.tsv", max_bad_rows=1, on_bad=told.append)
    assert rows == [{"text": "a", "label": "x"}, {"text": "c", "label": "y"}]
    assert len(told) == 1 and "line 3" in told[0]


def test_invalid_utf8_and_a_long_text_are_counted_not_refused(tmp_path):
    content = b"good \xef\xbf\xbd\nbad \xff\xc3\n" + b"x" * 2 ** 20 + b"\n"
    (tmp_path / "a.txt").write_bytes(content)
    lines = Lines(tmp_path / "a.txt")
    texts = [row["text"] for row in read_rows(lines, TEXTS)]
    assert texts[:2] == ["good \ufffd", "bad \ufffd\ufffd"] and len(texts[2]) == 2 ** 20
    assert (lines.replaced, lines.raw_bytes) == (2, len(content))


def test_standard_input_is_text_or_what_its_ending_says(monkeypatch):
    for name, content in (("-", b"a b\n\nc"), ("-.jsonl", b'{"text": "a b"}\n{"text": ""}\n{"text": "c"}\n')):
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))
        assert [row["text"] for row in rows_of(name, TEXTS)] == ["a b", "", "c"]


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
    with pytest.raises(ConfigError, match=r"the name must end in \.jsonl \.tsv \.csv \.txt, optionally with \.gz"):
        rows_of(tmp_path / name)


@pytest.mark.parametrize("name, count", [("sentiment_rt/train", 9600), ("sentiment_rt/eval", 1062),
                                         ("topic_trec/train", 5452)])
def test_development_data_have_the_counts_of_their_readme(name, count):
    assert len(rows_of(data_dir() / f"{name}.jsonl")) == count


LINES = [{"text": "a", "label": "x"}, {"text": "b\nc", "label": "y"}]


@pytest.mark.parametrize("name, content", [
    ("a.csv", 'text,label\r"a",x\r\r"b\nc",y\r'), ("a.csv", '\ufeff"text","label"\r\n"a","x"\r\n\r\n"b\nc","y"\r\n'),
    ("a.csv", '\r\n\r\ntext,label,,\r\na,x,,\r\n"b\nc",y,,'), ("a.csv", 'text,label\r\r\na,x\r\r\n"b\nc",y\r\r\n'),
    ("a.tsv", 'text\tlabel\ra\tx\r\r"b\nc"\ty\r'), ("a.tsv", '\ufeff"label"\t"text"\n"x"\t"a"\n\n"y"\t"b\nc"'),
    ("a.jsonl", '\ufeff{"text": "a", "label": "x"}\r\n \r\n{"label": "y", "text": "b\\nc"}')])
def test_what_programs_and_spreadsheets_write_is_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    assert rows_of(tmp_path / name) == LINES


@pytest.mark.parametrize("line, cells", [
    ('"a"\tb', ["a", "b"]), ('"a\tb', ['"a', "b"]), ('"a" b"\tc', ['"a" b"', "c"]), ('"a" "b"\t"c"', ['"a" "b"', "c"]),
    ('"a ""b"""\t"c"', ['a "b"', "c"]), ('"a\tb"\tc', ["a\tb", "c"]), ('"a\tb"', ['"a', 'b"']),
    ('a\t"b\tc"\n', ["a", "b\tc"]), ('"a\nb"\t"c\nd"', ["a\nb", "c\nd"]), ('a\t"b\n\nc"', ["a", "b\n\nc"])])
def test_quotes_of_a_tsv_that_are_no_whole_field_are_text(tmp_path, line, cells):
    (tmp_path / "a.tsv").write_text(f"text\tlabel\nfirst\tx\n{line}\nlast\ty\n")
    assert [list(row.values()) for row in rows_of(tmp_path / "a.tsv")] == [["first", "x"], cells, ["last", "y"]]


@pytest.mark.parametrize("name, rows", [("translation_en_de/train", 29000), ("translation_en_de/val", 1014),
                                        ("translation_en_zh/train", 4676), ("translation_en_zh/eval", 515)])
def test_a_real_tsv_with_quotes_is_read_whole_and_unchanged(name, rows):
    path = data_dir() / f"{name}.tsv"
    read = [tuple(row.values()) for _, row, _ in table_rows(Lines(path), ".tsv", ("source", "target"), ())]
    lines = [tuple(line.split("\t")) for line in path.read_text(encoding="utf-8").split("\n")[1:] if line]
    assert len(read) == len(lines) == rows
    changed = [(row, line) for row, line in zip(read, lines) if row != line]
    # One field is quoted because it contains a tab.
    assert all(len(row) < len(line) and '"' + row[-1] + '"' == "\t".join(line[1:]) for row, line in changed)
    assert len(changed) == (name == "translation_en_de/train")


@pytest.mark.parametrize("name, content, says", [
    ("a.csv", b"text;label\na;x\n", "line 1: no column is named text; the header is ['text;label']"),
    ("a.csv", b"sep=,\ntext,label\na,x\n", "the header is ['sep=', '']"),
    ("a.csv", b"Text, label\na,x\n", "'Text', ' la"),
    ("a.csv", b"text,label,text\na,x,b\n", "2 columns are named text"), ("a.tsv", b"label\tlabel\ttext\n", "2 columns"),
    ("a.csv", b'text,label\na,x\n"b,x\nc,x\n', "line 3: a quote that opens in this row is never closed"),
    ("a.csv", b'text,label\n"a" b,x\n', "line 2: not CSV"), ("a.csv", b"text,label\na,x,\n", "line 2: 3 columns"),
    ("a.csv", b"text,label\na\n", "line 2: 1 columns"), ("a.csv", b"text,label\na,\n", "line 2: an empty label"),
    ("a.tsv", b"sentence\tclass\n", "no column is named label; the header is ['sentence', 'class']"),
    ("a.tsv", b"sentence\tsentence\tlabel\n", "2 columns are named sentence; the header is ['sentence', 'sentence',"),
    ("a.csv", "text,label\na,x\n".encode("utf-16"), "is UTF-16"), ("a.txt", "a".encode("utf-16"), "is UTF-16"),
    ("a.csv", "text,label\na,x\n".encode("utf-16-le"), "no column is named text; the header is ['t"),
    ("a.jsonl", b'{"text": "a", "text": "b", "label": "x"}', "line 1: bad JSON (duplicate key 'text')"),
    ("a.jsonl", b'{"text": "a", "label": 1.0}', "label is 1.0, not a string or whole number"),
    ("a.jsonl", b'{"text": NaN, "label": 1}', "text is nan, not a string"), ("a.jsonl", b'{"text": "a",}', "bad JSON"),
    ("a.jsonl", b'[{"text": "a",\n"label": "x"}]', "line 1: bad JSON"),
    ("a.jsonl", b'{"text": "a", "label": ' + b"9" * 5000 + b"}", "bad JSON")])
def test_what_cannot_be_read_rightly_is_refused_in_one_line(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        rows_of(tmp_path / name, TEXTS if name.endswith("txt") else LABELLED)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_quoted_text_of_several_lines_in_one_column_is_no_guess(tmp_path):
    (tmp_path / "a.tsv").write_text('text\n"a" b\n"c\n"d\ne"\nf"\n')
    with pytest.raises(DataError, match='line 4: a quote opens here and closes on line 5'):
        rows_of(tmp_path / "a.tsv", TEXTS)
    (tmp_path / "a.tsv").write_text('text\n"a" b\n"c\nd\n')
    assert [row["text"] for row in rows_of(tmp_path / "a.tsv", TEXTS)] == ['"a" b', '"c', "d"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffa\ufeff\n\ufeffb".encode())
    assert [row["text"] for row in rows_of(tmp_path / "a.txt", TEXTS)] == ["a\ufeff", "\ufeffb"]
    assert list(whole_documents(read_documents(Blocks(tmp_path / "a.txt"), "file"))) == ["a\ufeff\n\ufeffb"]


def test_a_long_field_is_read_and_python_s_limit_stays(tmp_path):
    limit = csv.field_size_limit()
    (tmp_path / "a.csv").write_text("text,label\n" + "x" * (limit + 1) + ",y\n")
    assert len(rows_of(tmp_path / "a.csv")[0]["text"]) == limit + 1 and csv.field_size_limit() == limit


def test_generated_files_are_read_as_python_s_modules_read_them():
    assert data.check(None, 50, 0) == []
