"""Sentences of tagged words: separators, tokens, errors, and the development data."""
import doctest
import gzip
import json

import numpy as np
import pytest

from tests.helpers import data_dir
from tfzoo.data import source_tokens
from tfzoo.data.readers import Lines, read_rows
from tfzoo.data.sentences import SENTENCES, Sentences
from tfzoo.data.source import open_source
from tfzoo.errors import ConfigError, DataError

PLAIN = [{"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
         {"tokens": ["Peter"], "tags": ["B-PER"]}]


def read(path, content, tagged=True, **more):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_rows(Lines(path), SENTENCES, tagged, **more))


@pytest.mark.parametrize("name, content", [
    ("a.conll", "EU B-ORG\nrejects O\n\nPeter B-PER\n"),
    ("a.conll", "EU NNP I-NP B-ORG\nrejects VBZ B-VP O\n\n\n\nPeter NNP I-NP B-PER"),
    ("a.conll", "EU\tB-ORG\nrejects\tO\n\t\nPeter\tB-PER\n\t\n"),
    ("a.conll", "\ufeffEU  B-ORG \r\nrejects\t O\r\n \r\nPeter B-PER\r\n\r\n"),
    ("a.conll", "\ufeff\n\nEU B-ORG\nrejects O\n\u00a0\nPeter B-PER"),
    ("A.CONLL", "\nEU B-ORG\nrejects O\n\nPeter B-PER\n\n"),
    ("a.jsonl", '{"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"], "id": 1}\n\n'
                '{"tokens": ["Peter"], "tags": ["B-PER"]}\n')])
@pytest.mark.parametrize("pack", [False, True])
def test_each_form_gives_the_same_sentences(tmp_path, name, content, pack):
    content = gzip.compress(content.encode()) if pack else content
    assert read(tmp_path / (name + pack * (".GZ" if name.isupper() else ".gz")), content) == PLAIN


def test_what_looks_like_a_comment_a_blank_or_a_line_end_is_a_token(tmp_path):
    tokens = ["#", "#hashtag", "\u3000", "\u00a0", "\x85", "\u2028", "\x1c", "\ufeff", "\U0001f600", "e\u0301", "\x00",
              "\u00ad", "-DOCSTART"]
    rows = read(tmp_path / "a.conll", "".join(f"{token} O\n" for token in tokens))
    assert [row["tokens"] for row in rows] == [tokens]


def test_a_token_may_hold_blanks_where_tabs_divide_columns(tmp_path):
    rows = read(tmp_path / "a.conll", "in\tO\r\nNew York\tB-LOC \r\n \tO\n\t\nof the\tO")
    assert [row["tokens"] for row in rows] == [["in", "New York", " "], ["of the"]]
    assert rows[0]["tags"] == ["O", "B-LOC", "O"]
    for content in ("in\tO\nNew York\tIN\tB-LOC\n", "in\tO\nNew York\t\n", "in O\nNew York B-LOC\n"):
        with pytest.raises(DataError, match="line 2: (4 columns|no tag|3 columns)"):
            read(tmp_path / "a.conll", content)


def test_a_document_begins_without_being_a_sentence(tmp_path):
    content = ("-DOCSTART- -X- -X- O\n\nEU NNP I-NP B-ORG\n-DOCSTART- -X- O O\nPeter NNP I-NP B-PER\n\nx x x O\n\n"
               "-DOCSTART-\n\n-DOCSTART- (1 EU)\n\ny y y O\n")
    rows = read(tmp_path / "a.conll", content)
    assert [row["tokens"] for row in rows] == [["EU"], ["Peter"], ["x"], ["y"]]
    assert [row["document"] for row in rows] == ["1", "2", "2", "4"]
    (tmp_path / "train").mkdir()
    for shard in "12":
        (tmp_path / "train" / f"train.{shard}.conll").write_text(content)
    source = open_source(str(tmp_path / "train"), SENTENCES)
    assert source.columns["document"] == [1, 2, 2, 3, 4, 5, 5, 6] and "-X-" not in source.labels()


@pytest.mark.parametrize("name, content, says", [
    ("a.conll", "a O\nb\n", "line 2: no tag after 'b'"),
    ("a.conll", "a x O\nb O\n", "line 2: 2 columns, but the first word has 3"),
    ("a.conll", "a O\nNew York B-LOC\n", "line 2: 3 columns"), ("a.conll", "a O\n O\n", "line 2: no tag after 'O'"),
    ("a.jsonl", '{"tokens": ["a"]}\n', "line 1: no value for tags"),
    ("a.jsonl", '{"tokens": ["a"], "tags": [3]}\n', "line 1: tags is [3], not a list of strings"),
    ("a.jsonl", '{"tokens": "a b", "tags": ["O", "O"]}\n', "line 1: tokens is 'a b', not a list of strings"),
    ("a.jsonl", '{"tokens": ["a", "b"], "tags": ["O"]}\n', "line 1: 2 tokens and 1 tags"),
    ("a.jsonl", '{"tokens": ["a"], "tags": [" "]}\n', "line 1: an empty tag"),
    ("a.jsonl", "[]\n", "line 1: not a JSON"), ("a.conll.gz", "a O\n", "gzip")])
def test_a_bad_file_is_refused_in_one_line(tmp_path, name, content, says):
    with pytest.raises(DataError) as error:
        read(tmp_path / name, content)
    assert says in str(error.value) and name in str(error.value) and "\n" not in str(error.value)


def test_bad_sentences_are_skipped_up_to_the_limit(tmp_path):
    told = []
    content = "a\nb\n\nc O\nd\ne x y\n\nf O\n\ng"
    rows = read(tmp_path / "a.conll", content, max_bad_rows=3, on_bad=told.append)
    assert [row["tokens"] for row in rows] == [["f"]]
    assert [message.split(" line ")[1].split(":")[0] for message in told] == ["1", "5", "10"]
    source = open_source(str(tmp_path / "a.conll"), SENTENCES, max_bad_rows=3)
    assert (len(source), source.skipped) == (1, 3)
    with pytest.raises(DataError, match="line 10: .*; required: tokens and tags, or text and entities; fix it"):
        open_source(str(tmp_path / "a.conll"), SENTENCES, max_bad_rows=2)


def test_tokens_alone_need_no_tags(tmp_path):
    rows = read(tmp_path / "a.conll", "a\nb O\n\nc x O\n", False)
    assert [row["tokens"] for row in rows] == [["a", "b"], ["c"]]
    rows = read(tmp_path / "a.jsonl", '{"tokens": []}\n{"tokens": ["a", ""], "tags": 1}\n', False)
    assert [row["tokens"] for row in rows] == [[], ["a", ""]] and "tags" not in rows[1]


CONLLU = """# newdoc id = a
# text = I don't. "Go!"
1	I	i	PRON	_	_	_	_	_	_
2-3	don't	_	_	_	_	_	_	_	SpaceAfter=No
2	do	do	AUX	_	_	_	_	_	_
3	n't	not	PART	_	_	_	_	_	_
3.1	hidden	_	VERB	_	_	_	_	_	_
4	.	.	PUNCT	_	_	_	_	_	_
5	"	"	PUNCT	_	_	_	_	_	SpaceAfter=No
6	Go	go	VERB	_	_	_	_	_	x|SpaceAfter=No
7	!	!	PUNCT	_	_	_	_	_	SpaceAfter=No
8	"	"	PUNCT	_	_	_	_	_	SpaceAfter=No

# newdoc
1	#	#	SYM	_	_	_	_	_	_
2-3	du	_	_	_	_	_	_	_	_
2	de	de	ADP	_	_	_	_	_	_
3	le	le	DET	_	_	_	_	_	_
4	New York	x	PROPN	_	_	_	_	_	_
"""


def test_conllu_words_tags_documents_and_places_in_the_text(tmp_path):
    first, second = read(tmp_path / "a.conllu", CONLLU)
    assert first == {"tokens": ["I", "do", "n't", ".", '"', "Go", "!", '"'], "document": "1",
                     "tags": "PRON AUX PART PUNCT PUNCT VERB PUNCT PUNCT".split()}
    assert second["tokens"] == ["#", "de", "le", "New York"] and second["document"] == "2"
    first, second = read(tmp_path / "a.conllu", CONLLU, False)
    assert first["text"] == 'I don\'t. "Go!"' and "tags" not in first
    assert [first["text"][start:end] for start, end in first["offsets"]] == first["tokens"]
    assert second["text"] == "# du New York" and second["offsets"] == [(0, 1), (2, 4), (2, 4), (5, 13)]


@pytest.mark.parametrize("line, says", [
    ("1 a a NOUN", "line 2: 1 columns separated by tabs, but .conllu files have 10"),
    ("x\ta\ta\tNOUN\t_\t_\t_\t_\t_\t_", "line 2: 'x' is not the number of a word"),
    ("2\ta\ta\t_\t_\t_\t_\t_\t_\t_", "line 2: no tag after 'a'"),
    ("2\t\ta\tX\t_\t_\t_\t_\t_\t_", "line 2: an empty word")])
def test_a_bad_conllu_line_is_refused_and_skipped(tmp_path, line, says):
    content = f"1\ta\ta\tNOUN\t_\t_\t_\t_\t_\t_\n{line}\n\n" + CONLLU
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.conllu", content)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert len(read(tmp_path / "a.conllu", content, max_bad_rows=1)) == 2


def test_spans_of_characters_become_tags_of_words(tmp_path):
    text = "\U0001f600 Ann-Marie  saw New\u00a0York."
    row = {"text": text, "entities": [{"start": 17, "end": 25, "type": "LOC", "text": "x"},
                                      {"start": 2, "end": 11, "type": "PER"}]}
    (found,) = read(tmp_path / "a.jsonl", json.dumps(row))
    assert found == {"tokens": ["\U0001f600", "Ann", "-", "Marie", "saw", "New", "York", "."],
                     "tags": ["O", "B-PER", "I-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]}
    row["entities"] = [{"start": 3, "end": 5, "type": "PER"}, {"start": 11, "end": 19, "type": "LOC"}]
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"text": "no", "entities": []}))
    source = open_source(str(tmp_path / "a.jsonl"), SENTENCES)
    assert source.columns["tags"][0] == ["O", "B-PER", "O", "O", "B-LOC", "I-LOC", "O", "O"]
    assert source.columns["widened"] == [2, 0] and source.columns["tags"][1] == ["O"]


@pytest.mark.parametrize("entities, says", [
    ([{"start": 2, "end": 9, "type": "X"}], "must lie within the text of 8 characters"),
    ([{"start": 2, "end": 2, "type": "X"}], "and not be empty"), ([{"start": -1, "end": 2, "type": "X"}], "must lie"),
    ([{"start": "0", "end": 2, "type": "X"}], "must have start and end"), ([{"start": 0, "end": 2}], "type (a string)"),
    ([{"start": 3, "end": 4, "type": "X"}], "contains no word, only ' '"),
    ([{"start": 0, "end": 6, "type": "X"}, {"start": 7, "end": 8, "type": "Y"}], "entities overlap at the word 'def'"),
    ([3], "entities is [3], not a list of objects"), ({}, "not a list of objects")])
def test_spans_that_fit_no_words_are_bad_rows(tmp_path, entities, says):
    content = '{"tokens": ["a"], "tags": ["O"]}\n' + json.dumps({"text": "abc  def", "entities": entities})
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.jsonl", content)
    assert "a.jsonl line 2: " in str(error.value) and says in str(error.value) and "\n" not in str(error.value)


def test_predicates_are_indices_of_words(tmp_path):
    row = {"tokens": ["she", "left"], "predicate": 1, "tags": ["B-ARG0", "B-V"]}
    assert read(tmp_path / "a.jsonl", json.dumps(row)) == [row]
    for predicate, says in ((2, "line 1: predicate is 2, but there are 2 tokens"), (-1, "not an index")):
        for tagged in (True, False):
            with pytest.raises(DataError, match=says):
                read(tmp_path / "a.jsonl", json.dumps({**row, "predicate": predicate}), tagged)
    bare = {key: row[key] for key in ("tokens", "tags")}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(bare))
    with pytest.raises(DataError, match="example 2 has no predicate, but others do"):
        open_source(str(tmp_path / "a.jsonl"), SENTENCES)


def test_the_places_of_tokens_in_a_given_text(tmp_path):
    row = {"tokens": ["New", "York", "New"], "text": "(New  York) New", "offsets": [[0, 1]], "document": 7}
    (found,) = read(tmp_path / "a.jsonl", json.dumps(row), False)
    assert found["offsets"] == [(1, 4), (6, 10), (12, 15)] and found["text"] == row["text"]
    with pytest.raises(DataError, match="line 1: the tokens do not occur in the text in this order"):
        read(tmp_path / "a.jsonl", json.dumps({**row, "text": "York New New"}), False)


def test_invalid_utf8_is_counted_not_refused(tmp_path):
    rows = read(tmp_path / "a.conll", b"a\xff\xc3 O\n\xef\xbf\xbd O\n")
    assert rows[0]["tokens"] == ["a\ufffd\ufffd", "\ufffd"]
    assert open_source(str(tmp_path / "a.conll"), SENTENCES).replaced == 2


@pytest.mark.parametrize("content", ["", "\n\t\n", "-DOCSTART- O\n"])
def test_nothing_is_refused(tmp_path, content):
    assert read(tmp_path / "a.conll", content) == []
    with pytest.raises(DataError, match="no examples"):
        open_source(str(tmp_path / "a.conll"), SENTENCES)


def test_other_files_and_places_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a O\n")
    with pytest.raises(ConfigError, match=r"the name must end in \.conll \.conllu \.jsonl, optionally with"):
        open_source(str(tmp_path / "a.txt"), SENTENCES)
    with pytest.raises(ConfigError, match="builtin:python has no tokens and tags"):
        open_source("builtin:python", SENTENCES)
    (tmp_path / "a.conll").write_text("a O\n")
    with pytest.raises(ConfigError, match=r"the name must end in \.jsonl"):
        open_source(str(tmp_path / "a.conll"))


def test_a_folder_gives_its_parts(tmp_path):
    for name in ("train.conll", "dev.CONLL", "test.conll"):
        (tmp_path / name).write_text(f"{name} O\n")
    (tmp_path / "train.txt").write_text("not words\n")
    assert open_source(str(tmp_path), SENTENCES).columns["tokens"] == [["train.conll"]]
    assert open_source(str(tmp_path), SENTENCES, split="eval").columns["tokens"] == [["dev.CONLL"]]


@pytest.mark.parametrize("tags", ["I-PER I-PER B-PER O", "B-PER E-PER S-PER O", "B-PER L-PER U-PER O",
                                  "B-PER I-PER B-PER O"])
def test_every_scheme_but_io_is_trained_as_iob2(tmp_path, tags):
    (tmp_path / "a.jsonl").write_text(json.dumps({"tokens": list("abcd"), "tags": tags.split()}) + "\n")
    source = open_source(str(tmp_path / "a.jsonl"), SENTENCES)
    assert source[0] == {"tokens": list("abcd"), "tags": ["B-PER", "I-PER", "B-PER", "O"]}
    assert source.labels() == ["O", "B-PER", "I-PER"]
    assert [ids.tolist() for ids in source.label_ids(source.labels())] == [[1, 2, 1, 0]]
    with pytest.raises(DataError, match="unknown tag 'B-PER' on 2 words .first: sentence 1.; expected one of O, B-LOC"):
        source.label_ids(["O", "B-LOC", "I-LOC"])


def test_io_stays_io(tmp_path):
    (tmp_path / "a.conll").write_text("a I-PER\nb I-PER\nc I-LOC\nd O\n")
    source = open_source(str(tmp_path / "a.conll"), SENTENCES)
    assert source.columns["tags"] == [["I-PER", "I-PER", "I-LOC", "O"]] and source.labels() == ["O", "I-LOC", "I-PER"]


def test_parts_of_speech_stay_what_they_are(tmp_path):
    (tmp_path / "a.conll").write_text("a DET\nbus NOUN\n\nI PRON\n")
    source = open_source(str(tmp_path / "a.conll"), SENTENCES)
    assert source.labels() == ["DET", "NOUN", "PRON"] and source.columns["tags"] == [["DET", "NOUN"], ["PRON"]]
    (tmp_path / "a.conll").write_text("a O\nbus NOUN\n\nI B-PER\n")
    with pytest.raises(DataError, match=r"a\.conll: the tag 'NOUN' is mixed with entity tags"):
        open_source(str(tmp_path / "a.conll"), SENTENCES)


def test_sentences_are_a_source(tmp_path):
    source = Sentences("x", {"tokens": [["a", "b"], ["c"], ["d", "e"]], "tags": [["O", "O"], ["O"], ["B-X", "O"]]})
    assert list(source.passages()) == ["a b", "c", "d e"]
    taken = source.take([2, 0])
    assert isinstance(taken, Sentences) and taken.columns["tokens"] == [["d", "e"], ["a", "b"]]
    assert [len(part) for part in source.split(0.4, 0)] == [2, 1]
    others = [Sentences("x", {"tokens": tokens, "tags": tags}) for tokens, tags in (
        ([["a", "b"], ["c"]], [["O", "O"], ["O"]]), ([["a"], ["b", "c"]], [["O"], ["O", "O"]]),
        ([["a b"], ["c"]], [["O"], ["O"]]), ([["a", "b"], ["c"]], [["O", "O"], ["B-X"]]))]
    assert len({one.fingerprint for one in (source, taken, *others)}) == 6


@pytest.mark.parametrize("name, split, sentences, words, labels", [  # a type has one label in IO and two in IOB2
    ("ner_wikigold", "train", 1400, 31849, 1 + 4), ("ner_wikigold", "eval", 296, 7158, 1 + 4),
    ("ner_wnut17", "train", 3394, 62730, 1 + 2 * 6), ("ner_wnut17", "eval", 1009, 15733, 1 + 2 * 6),
    ("ner_wnut17/test.conll", "eval", 1287, 23394, 1 + 2 * 6), ("zh_ner", "eval", 2000, 80741, 1 + 2 * 3),
    ("pos_ewt", "train", 12544, 204577, 17), ("pos_ewt", "eval", 2001, 25147, 17)])
def test_development_data_have_the_counts_of_their_readme(name, split, sentences, words, labels):
    source = open_source(str(data_dir() / name), SENTENCES, split)
    assert (len(source), sum(map(len, source.columns["tokens"])), len(source.labels())) == (sentences, words, labels)
    assert sum(map(len, source.label_ids(source.labels()))) == words
    assert np.concatenate(source.label_ids(source.labels())).max() == labels - 1


CODE = '''import os

class Shelf:
    @property
    async def read(self, \u00fcber: int, *, mode="r"):
        """A docstring
        of two lines."""
        import json as reader
        text = os.path.join(self.root, \u00fcber)  # a comment
        for line in open(text, encoding=mode):
            self.add(line, 1.5)
        return reader
'''


def test_the_roles_of_source_tokens():
    assert doctest.testmod(source_tokens).attempted and not doctest.testmod(source_tokens).failed
    (tokens, tags), = source_tokens.tagged_functions(CODE)
    names = [(token, tag) for token, tag in zip(tokens, tags) if tag not in ("operator", "keyword")]
    assert names == [
        ("read", "function"), ("self", "parameter"), ("\u00fcber", "parameter"), ("int", "global"),
        ("mode", "parameter"), ('"r"', "string"), ("json", "module"), ("reader", "variable"), ("text", "variable"),
        ("os", "global"), ("path", "attribute"), ("join", "method"), ("self", "parameter"), ("root", "attribute"),
        ("\u00fcber", "parameter"), ("line", "variable"), ("open", "call"), ("text", "variable"),
        ("encoding", "argument"), ("mode", "parameter"), ("self", "parameter"), ("add", "method"),
        ("line", "variable"), ("1.5", "number"), ("reader", "variable")]


def test_builtin_source_tokens_are_split_by_module_and_deterministic():
    train, evaluation = (open_source("builtin:python_source", SENTENCES, split) for split in ("train", "eval"))
    assert 1000 < len(train) < 12000 and 100 < len(evaluation) < len(train) and evaluation.labels() == train.labels()
    assert not {*map(tuple, train.columns["tokens"])} & {*map(tuple, evaluation.columns["tokens"])}
    assert open_source("builtin:python_source", SENTENCES).fingerprint == train.fingerprint


def test_hashes_are_words():
    wikigold, wnut = (open_source(str(data_dir() / name), SENTENCES) for name in ("ner_wikigold", "ner_wnut17"))
    words = [(word, tag) for row in wikigold for word, tag in zip(row["tokens"], row["tags"])]
    assert words.count(("#", "O")) == 30
    assert sum(word.startswith("#") for tokens in wnut.columns["tokens"] for word in tokens) == 828
