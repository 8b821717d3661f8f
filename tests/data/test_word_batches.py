"""Windows of sentences: each word is scored once, context and predicates change only what the model sees."""
import numpy as np
import pytest

from tfzoo.data.sentences import Sentences
from tfzoo.data.word_batches import WordBatches
from tfzoo.errors import ConfigError
from tfzoo.tasks import task_of
from tfzoo.text import learn_tokenizer, load_tokenizer

LABELS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
WORDS = ["Ann", "#", "\x00", "\U0001f600", "New", "Yorkshire", "\u200d", "e\u0301", "a" * 40]


def sentences(sizes, seed=0, **columns):
    rng = np.random.default_rng(seed)
    tokens = [[WORDS[number] for number in rng.integers(0, len(WORDS), size)] for size in sizes]
    tags = [[LABELS[number] for number in rng.choice([0, 1, 3], len(words))] for words in tokens]
    return Sentences("s", {"tokens": tokens, "tags": tags, **columns})


@pytest.fixture(scope="module")
def tokenizers():
    return {"wordpiece": learn_tokenizer("learn:wordpiece:100", [" ".join(WORDS)] * 3),
            "bytes": load_tokenizer("bytes")}


def scored(data):
    """Return (the example, label, and first token id) of each weighted position, sorted, and the rows per example."""
    found, rows = [], []
    for step in range(data.batches_per_epoch):
        batch = data.batch(step)
        assert (batch["weights"] <= batch["padding_mask"]).all()
        rows += [example for example in data.rows(step) if example >= 0]
        for row, column in np.argwhere(batch["weights"] > 0):
            found.append((int(data.rows(step)[row]), int(batch["labels"][row, column]),
                          int(batch["token_ids"][row, column])))
    return sorted(found), np.bincount(rows)


@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
@pytest.mark.parametrize("length, overlap", [(512, None), (24, None), (24, 0), (24, 17), (5, None), (5, 2)])
def test_each_word_is_a_target_once_whatever_the_window(kind, length, overlap, tokenizers):
    tokenizer, source = tokenizers[kind], sentences([4, 0, 30, 1, 300])
    task = task_of("tagging", LABELS, overlap=overlap)
    data = task.features(source, tokenizer, batch_size=4, max_length=length, training=True)
    first = {word: pieces[0] for word, pieces in zip(WORDS, tokenizer.word_pieces(WORDS).to_list()) if pieces}
    expected = [(example, LABELS.index(tag), first[word])
                for example, row in enumerate(zip(source.columns["tokens"], source.columns["tags"]))
                for word, tag in zip(*row) if word in first]
    found, rows = scored(data)
    assert found == sorted(expected)
    assert data.counts.tolist() == [4, 0, 30, 1, 300] and data.words == 335
    assert data.tokenless == 335 - len(expected) and (data.tokenless > 0) == (kind == "wordpiece")
    assert rows.tolist() == data.windows.tolist()
    assert (rows[4] > 1) == (length < 512 or kind == "bytes") and data.cut == 0
    assert sorted(data.examples(0)) == sorted({*data.rows(0)} - {-1})


def test_a_word_belongs_to_the_window_with_most_context():
    tokenizer = load_tokenizer("bytes")
    before, around = len(tokenizer.around[0]), sum(map(len, (tokenizer.around[0], tokenizer.around[2])))
    source = Sentences("s", {"tokens": [["a"] * 5], "tags": [["O"] * 5]})  # two tokens a word: 10 tokens
    data = WordBatches(source, tokenizer, 8, 6 + around, 0, False, 8, overlap=4)
    # Windows 0-6, 2-8, 4-10; the words 2-4 and 4-6 have contexts (2, 2) and (2, 2), at best.
    assert data.window.tolist() == [0, 0, 1, 2, 2]
    assert (data.place - before).tolist() == [0, 2, 2, 2, 4]
    assert "1 of 1 sentences are longer" in data.notes(source, 8)[1]
    source = Sentences("s", {"tokens": [["aa", "aaa", "a" * 8]], "tags": [["O"] * 3]})  # tokens 0-3, 3-7 and 7-16
    data = WordBatches(source, tokenizer, 8, 6 + around, 0, False, 8, overlap=4)
    # Only the window 2-8 contains all of the second word; none contains the third, so 4-10 or 6-12 by its first token.
    assert data.window.tolist() == [0, 1, 2] and (data.place - before).tolist() == [0, 1, 3]


def test_an_overlap_as_large_as_a_window_is_refused():
    source = sentences([3])
    with pytest.raises(ConfigError, match="--overlap=9 must be less than 9, .* with --max_length="):
        tokenizer = load_tokenizer("bytes")
        length = 9 + len(tokenizer.around[0]) + len(tokenizer.around[2])
        task_of("tagging", LABELS, overlap=9).features(source, tokenizer, batch_size=1, max_length=length)


def test_context_comes_from_the_document_and_changes_no_target(tokenizers):
    tokenizer, documents = tokenizers["bytes"], [1, 1, 1, 2, 0, 0, 3]
    source = Sentences("s", {"tokens": [[letter * 4] for letter in "abcdefg"], "tags": [["O"]] * 7,
                             "document": documents})

    def texts(source, length=200, **settings):
        data = task_of("tagging", LABELS, **settings).features(source, tokenizer, batch_size=7, max_length=length)
        rows = sorted(zip(data.rows(0), data.batch(0)["token_ids"].tolist()))
        return tokenizer.decode([ids for row, ids in rows if row >= 0]), scored(data)[0]

    plain, targets = texts(source)
    for context, length, expected in (
            (5, 200, [" aaaa bbbb", " aaaa bbbb cccc", " bbbb cccc", " dddd", " eeee", " ffff", " gggg"]),
            (2, 200, [" aaaa b", "aa bbbb c", "bb cccc", " dddd", " eeee", " ffff", " gggg"]),
            (5, 9, [" aaaa bb", "a bbbb c", "bb cccc", " dddd", " eeee", " ffff", " gggg"])):
        found, same = texts(source, length, context=context)
        if length == 200:
            assert found == expected
        assert same == targets and all(text.strip() in whole for text, whole in zip(plain, found))
    part = source.take(np.array([0, 2, 3]))  # sentences that are not neighbours are no context
    assert texts(part, context=5)[0] == [" aaaa", " cccc", " dddd"]
    with pytest.raises(ConfigError, match="--context=5: s does not mark documents"):
        task_of("tagging", LABELS, context=5).features(sentences([3]), tokenizer, batch_size=1, max_length=20,
                                                       training=True)


@pytest.mark.parametrize("length", [64, 14])
def test_the_predicate_precedes_each_window_and_keeps_its_segment_in_it(length, tokenizers):
    tokenizer = learn_tokenizer("learn:wordpiece:100", ["she saw the saw and cut it"] * 3)
    words = "she saw the saw and cut it".split() * 2
    source = Sentences("s", {"tokens": [words, words, ["it"]], "tags": [["O"] * 14] * 2 + [["O"]],
                             "predicate": [3, 12, 0]})
    task = task_of("tagging", ["O", "B-V"])
    data = task.features(source, tokenizer, batch_size=4, max_length=length, training=True)
    assert task.settings["predicates"] and (data.windows > 1).tolist() == [length == 14, length == 14, False]
    marked = set()
    for step in range(data.batches_per_epoch):
        batch = data.batch(step)
        for row, example in enumerate(data.rows(step)):
            if example >= 0:
                ids, segments = batch["token_ids"][row], batch["segment_ids"][row]
                size = batch["padding_mask"][row].sum()
                word = tokenizer.encode([source.columns["tokens"][example][source.columns["predicate"][example]]])[0]
                assert ids[1:1 + len(word)].tolist() == word.numpy().tolist()
                split = 1 + len(word) + 1
                inside = np.flatnonzero(segments[split:size] == 0) + split
                assert ids[inside].tolist() in ([], word.numpy().tolist())
                marked |= {example} if len(inside) else set()
    assert marked == {0, 1, 2}
    assert scored(data)[0] == scored(task_of("tagging", ["O", "B-V"]).features(
        Sentences("s", {key: source.columns[key] for key in ("tokens", "tags")}), tokenizer, batch_size=4,
        max_length=64))[0]
