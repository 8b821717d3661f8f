"""Sentences of tagged words: separators, tokens, errors, and the development data."""
import gzip
import json

import numpy as np
import pytest

from tests.helpers import data_dir
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
    with pytest.raises(DataError, match="line 10: .*; required: tokens and tags; fix it or increase --max_bad_rows"):
        open_source(str(tmp_path / "a.conll"), SENTENCES, max_bad_rows=2)


def test_tokens_alone_need_no_tags(tmp_path):
    rows = read(tmp_path / "a.conll", "a\nb O\n\nc x O\n", False)
    assert [row["tokens"] for row in rows] == [["a", "b"], ["c"]]
    rows = read(tmp_path / "a.jsonl", '{"tokens": []}\n{"tokens": ["a", ""], "tags": 1}\n', False)
    assert [row["tokens"] for row in rows] == [[], ["a", ""]] and "tags" not in rows[1]


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
    for spec in ("a.txt", "a.conllu"):
        (tmp_path / spec).write_text("a O\n")
        with pytest.raises(ConfigError, match=r"the name must end in \.conll \.jsonl, optionally with"):
            open_source(str(tmp_path / spec), SENTENCES)
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
    assert list(source.passages()) == ["a b", "c", "d e"] and (source.words, source.characters) == (5, 5)
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
    ("ner_wnut17/test.conll", "eval", 1287, 23394, 1 + 2 * 6), ("zh_ner", "eval", 2000, 80741, 1 + 2 * 3)])
def test_development_data_have_the_counts_of_their_readme(name, split, sentences, words, labels):
    source = open_source(str(data_dir() / name), SENTENCES, split)
    assert (len(source), source.words, len(source.labels())) == (sentences, words, labels)
    assert sum(map(len, source.label_ids(source.labels()))) == words
    assert np.concatenate(source.label_ids(source.labels())).max() == labels - 1


def test_hashes_are_words():
    wikigold, wnut = (open_source(str(data_dir() / name), SENTENCES) for name in ("ner_wikigold", "ner_wnut17"))
    words = [(word, tag) for row in wikigold for word, tag in zip(row["tokens"], row["tags"])]
    assert words.count(("#", "O")) == 30
    assert sum(word.startswith("#") for tokens in wnut.columns["tokens"] for word in tokens) == 828
