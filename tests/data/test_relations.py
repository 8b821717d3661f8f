"""Marks around two entities, and rows whose entities are refused."""
import json

import pytest

from tfzoo.data.relations import RELATIONS, mark_entities
from tfzoo.data.source import open_source
from tfzoo.errors import DataError

PERSON, COMPANY = {"start": 0, "end": 3, "type": "PER"}, {"start": 13, "end": 17, "type": "COM_PANY"}
TEXT = "Ann works at Acme."


@pytest.mark.parametrize("text, entities, marked", [
    (TEXT, [PERSON, COMPANY], "@ * per * Ann @ works at # ^ com pany ^ Acme #."),
    (TEXT, [COMPANY, PERSON], "# ^ per ^ Ann # works at @ * com pany * Acme @."),
    ("\U0001f600 王小明在北京", [{"start": 2, "end": 5}, {"start": 6, "end": 8}], "\U0001f600 @ 王小明 @在# 北京 #"),
    ("ab", [{"start": 1, "end": 2}, {"start": 0, "end": 1}], "# a #@ b @")])
def test_marks_by_hand(text, entities, marked):
    assert mark_entities(text, entities) == marked


def test_texts_are_marked_once_and_the_column_is_not(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": TEXT, "entities": [PERSON, COMPANY], "label": "works_at"}))
    source = open_source(path, RELATIONS)
    assert source.texts == (["@ * per * Ann @ works at # ^ com pany ^ Acme #."],)
    assert source.columns["text"] == [TEXT] and "* per *" in next(iter(source.passages()))
    assert source.take([0]).texts == source.texts
    path.write_text('{"text": "a", "text_pair": "b", "label": "x"}\n')
    assert open_source(path, RELATIONS).texts == (["a"], ["b"])


@pytest.mark.parametrize("entities, says", [
    ([PERSON], "entities has 1 items, but must have two"), ([PERSON] * 3, "3 items"),
    ([PERSON, {"start": 13, "end": 19}], "is not a span .start, end. of a text of 18 characters"),
    ([PERSON, {"start": 5, "end": 5}], "is not a span"), ([PERSON, {"start": "5", "end": 6}], "is not a span"),
    ([PERSON, {"start": -2, "end": 6}], "is not a span"), ([PERSON, {"start": True, "end": 6}], "is not a span"),
    ([PERSON, {"start": 2, "end": 6}], "overlap"), ([PERSON, PERSON], "overlap"),
    ([PERSON, {"start": 4, "end": 6, "type": 3}], "a type that is not a string"), ("x", "not a list of objects")])
def test_bad_entities_are_refused_with_file_and_line(entities, says, tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": TEXT, "entities": each, "label": "x"} for each in ([PERSON, COMPANY], entities)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=f"a.jsonl line 2: .*{says}"):
        open_source(path, RELATIONS)
    assert len(open_source(path, RELATIONS, max_bad_rows=1)) == 1


def test_all_rows_have_entities_or_none(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = {"text": TEXT, "entities": [PERSON, COMPANY], "label": "x"}, {"text": "a", "label": "y"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="example 2 has no entities, but others do"):
        open_source(path, RELATIONS)
