"""Questions: SQuAD's and other files, errors with file and row, and windows and their labels by hand."""
import gzip
import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from tests.helpers import data_dir
from tfzoo.data.questions import QUESTIONS, QuestionBatches, Questions
from tfzoo.data.readers import Lines, read_rows
from tfzoo.data.source import open_source
from tfzoo.errors import ConfigError, DataError
from tfzoo.text import load_tokenizer
from tfzoo.text.wordpiece import WordPieceTokenizer

ANSWER = {"text": "Rome", "answer_start": 13}
ROW = {"id": "1", "question": "where?", "context": "Ann lives in Rome.", "answers": [ANSWER]}
LETTERS = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz?"], True)


def squad(*questions, context=ROW["context"]):
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def question(**more):
    return {**{key: ROW[key] for key in ("id", "question", "answers")}, **more}


def read(path, content, labelled=True, **more):
    content = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return list(read_rows(Lines(path), QUESTIONS, labelled, **more))


def test_every_form_gives_the_same_rows(tmp_path):
    assert read(tmp_path / "a.json", squad(question(), question(id=2, answers=[], is_impossible=True))) == [
        ROW, {**ROW, "id": "2", "answers": []}]
    assert read(tmp_path / "a.json.gz", squad(question(answers=[{**ANSWER, "more": 1}]))) == [ROW]
    assert read(tmp_path / "a.jsonl", json.dumps(ROW) + "\n\n") == [ROW]
    columns = {**ROW, "answers": {"text": ["Rome"], "answer_start": [13]}}
    assert read(tmp_path / "b.jsonl", json.dumps(columns)) == [ROW]
    bare = {"question": " ", "context": ""}
    assert read(tmp_path / "c.jsonl", json.dumps(bare), labelled=False) == [bare]
    unlabelled = squad({"question": "where?", "is_impossible": True}, context="x")
    assert read(tmp_path / "d.json", unlabelled, labelled=False) == [{"question": "where?", "context": "x"}]


@pytest.mark.parametrize("bad, says", [
    (question(answers=[{"text": "Rome", "answer_start": "13"}]), "answer_start is '13', not a whole number"),
    (question(answers=[{"text": "Rome", "answer_start": True}]), "answer_start is True, not a whole number"),
    (question(answers=[{"text": "", "answer_start": 0}]), "the text of an answer is ''"),
    (question(answers=[{"answer_start": 0}]), "the text of an answer is None"),
    (question(answers="Rome"), "answers is 'Rome', not a list of objects"),
    (question(answers=["Rome"]), "answers is ['Rome'], not a list of objects"),
    ({"id": "1", "question": "where?"}, "no value for answers"),
    (question(question=" \n"), "an empty question"), (question(id=" "), "an empty id"),
    (question(question=5), "question is 5, not a string"),
    (question(is_impossible=True), "is_impossible, but there are answers"),
    (question(is_impossible="no"), "is_impossible is 'no', not true or false"), ("x", "not a JSON object")])
def test_a_bad_question_is_named_with_its_file_and_number(tmp_path, bad, says):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.json", squad(question(id="0"), bad))
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'} question 2: {says}") and "\n" not in str(caught.value)
    skipped = []
    assert len(read(tmp_path / "a.json", squad(question(), bad), max_bad_rows=1, on_bad=skipped.append)) == 1
    assert len(skipped) == 1


@pytest.mark.parametrize("content, says", [
    ("{", "bad JSON"), ("[" * 100000, "bad JSON"), ('{"data": [], "data": []}', "duplicate key 'data'"),
    ("[]", "the file has no list of data, but None"), ('{"data": {}}', "the file has no list of data, but {}"),
    ('{"data": [5]}', "article 1 has no list of paragraphs, but None"),
    ('{"data": [{"paragraphs": [{"context": "x", "qas": null}]}]}', "paragraph 1 of article 1 has no list of qas")])
def test_a_file_in_another_form_is_refused_in_one_line(tmp_path, content, says):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.json", content)
    assert str(tmp_path / "a.json") in str(caught.value) and says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_context_and_duplicate_ids_are_refused(tmp_path):
    with pytest.raises(DataError, match="question 1: an empty context"):
        read(tmp_path / "a.json", squad(question(), context=" "))
    with pytest.raises(DataError, match="questions 1 and 3 have the same id, '1'"):
        Questions.of_rows("x", [ROW, {**ROW, "id": "2"}, ROW])
    (tmp_path / "train.json").write_text(json.dumps(squad()))
    with pytest.raises(DataError, match="no examples"):
        open_source(str(tmp_path), QUESTIONS)


def batches(rows, max_length=12, tokenizer=LETTERS, **more):
    options = {"batch_size": 20, "seed": 0, "training": False, "multiple": 1, **more}
    return QuestionBatches(Questions.of_rows("x", rows), tokenizer, max_length=max_length, **options)


def rows_of(data):
    # (example, tokens, label, null position) of each window, in order.
    found = []
    for step in range(data.batches_per_epoch):
        batch = data.batch(step)
        for row, example in enumerate(data.rows(step)):
            if example >= 0:
                tokens = batch["token_ids"][row][batch["padding_mask"][row] > 0]
                tokens = [LETTERS.vocabulary[token] for token in tokens]
                context = [tokens[column] for column in np.flatnonzero(batch["context_mask"][row])]
                found.append((int(batch["window"][row]), example, "".join(tokens), "".join(context),
                              batch["labels"][row].tolist(), float(batch["weights"][row])))
    return [each[1:] for each in sorted(found)]


def test_windows_and_labels_by_hand():
    # Each letter is a token; a row of 12 has room for 9 besides the special tokens.
    context = "a b c d e f g h i j"
    row = {"question": "  x ?", "context": context, "answers": [{"text": "f g", "answer_start": 10}]}
    assert rows_of(batches([row], overlap=3)) == [
        (0, "[CLS]x?[SEP]abcdefg[SEP]", "abcdefg", [9, 10], 1), (0, "[CLS]x?[SEP]efghij[SEP]", "efghij", [5, 6], 1)]
    # A quarter of 7 tokens is 1; the answer is wholly in neither window, and counted.
    row["answers"] = [{"text": "f g h", "answer_start": 10}]
    data = batches([row])
    assert [each[3] for each in rows_of(data)] == [[0, 0], [0, 0]]
    assert any("1 answers are not wholly inside any window" in note for note in data.notes(data.source, 12))
    # The question may take half of the room; it is cut, and counted.
    long = {"question": "a b c d e f", "context": context, "answers": []}
    data = batches([long])
    assert rows_of(data)[0] == (0, "[CLS]abcd[SEP]abcde[SEP]", "abcde", [0, 0], 1) and data.cut == 1
    assert data.references == [[]] and any("1 questions were cut to 4 tokens" in note
                                           for note in data.notes(data.source, 12))
    with pytest.raises(ConfigError, match="--overlap=5 must be less than 5"):
        batches([row], overlap=5)


def test_an_answer_that_is_not_where_it_says_is_counted_left_out_of_training_and_still_scored():
    good = {"id": "g", "question": "x?", "context": "a b", "answers": [{"text": "b", "answer_start": 2}]}
    wrong = [{**good, "id": str(start), "answers": [{"text": "b", "answer_start": start}]} for start in (0, 3, 99, -1)]
    data = batches([wrong[0], good, *wrong[1:]])
    assert data.misplaced == 4 and data.references == [["b"]] * 5
    assert [each[4] for each in rows_of(data)] == [0, 1, 0, 0, 0]
    assert any("4 questions whose first answer" in note and "question 1, 0" in note
               for note in data.notes(data.source, 12))
    trained = batches([wrong[0], good, *wrong[1:]], training=True)
    assert [each[0] for each in rows_of(trained)] == [1] and list(trained.examples(0)) == [1]
    with pytest.raises(DataError, match=r"no answer is where its answer_start says \(question 1: 'b' at 0\)"):
        batches(wrong, training=True)


@pytest.mark.parametrize("text", ["\U0001f468\u200d\U0001f469 ok", "e\u0301te\u0301 \ufb03", "cafe\u0301\u0323",
                                  "\u4e2d\u6587 \u65e5"])
@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
def test_answers_are_cut_from_the_text_as_it_was_given(kind, text):
    context, start = f"pre  {text}\tpost", 5
    tokenizer = LETTERS if kind == "wordpiece" else load_tokenizer("bytes")
    row = {"question": "x?", "context": context, "answers": [{"text": text, "answer_start": start}]}
    data = batches([row], max_length=64, tokenizer=tokenizer)
    first, last = (data.token(0, column) for column in data.batch(0)["labels"][0])
    begin, end = data.place(0, first, last)
    assert context[begin:end] == text


def test_development_data_are_read_whole():
    for name, split, count, unanswerable in (("qa_squad1.1", "train", 7840, 0), ("qa_squad1.1", "eval", 1019, 0),
                                             ("qa_squad2.0", "eval", 1740, 898), ("zh_qa_cmrc2018", "eval", 1611, 0)):
        source = open_source(str(data_dir() / name), QUESTIONS, split)
        assert (len(source), source.unanswerable) == (count, unanswerable)


@pytest.mark.parametrize("splitter", [pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit()])
def test_no_first_letter_is_lost_where_the_pre_tokenizer_adds_spaces(tmp_path, splitter):
    # As RobBERT's tokenizer.json, whose offsets begin one character too late in `tokenizers` (EuroEval #2171).
    context = "We live in  Amsterdam, not in \U0001f600 \u00c9vian."
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence([splitter, pre_tokenizers.ByteLevel(add_prefix_space=True)])
    backend.train_from_iterator([context], trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    backend.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    for text in ("Amsterdam", "We", "\U0001f600", "\u00c9vian"):
        row = {"question": "x?", "context": context, "answers": [{"text": text, "answer_start": context.index(text)}]}
        data = batches([row], max_length=100, tokenizer=tokenizer)
        first, last = (data.token(0, column) for column in data.batch(0)["labels"][0])
        begin, end = data.place(0, first, last)
        assert context[begin:end].rstrip(",.") == text
