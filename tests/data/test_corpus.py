"""Corpora on disk: the ids of whole texts are encoded once and written atomically, even by concurrent processes."""
import json
import multiprocessing
import os
import pathlib
import resource
import signal
import time
import types

import numpy as np
import pytest

from tests.helpers import data_dir, hostile_texts, vocab_dir
from tfzoo.data import encode, readers
from tfzoo.data.corpus import open_corpus, open_sentences
from tfzoo.data.encode import encode_texts, split_sentences
from tfzoo.data.source import Source
from tfzoo.data.text_files import TextFiles
from tfzoo.text import learn_tokenizer, load_tokenizer

FORK = multiprocessing.get_context("fork")  # safe because the children do not use TensorFlow


class Letters:
    """Encode characters as code points, without TensorFlow; `before` is called before each encoding."""

    kind, vocab_size, fingerprint = "bytes", 2 ** 16, "letters"

    def __init__(self, before=bool):
        self.before = before

    def encode(self, texts):
        self.before()
        flat = np.array([ord(letter) for text in texts for letter in text], np.int32)
        lengths = np.array([len(text) for text in texts])
        return types.SimpleNamespace(flat_values=types.SimpleNamespace(numpy=lambda: flat),
                                     row_lengths=lambda: types.SimpleNamespace(numpy=lambda: lengths))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "corpora"


@pytest.fixture
def small(tmp_path):
    """Return a source of three texts."""
    (tmp_path / "a.txt").write_text("one\n\ntwo\n\nthree")
    return TextFiles([tmp_path / "a.txt"])


def lists(encoded):
    return [encoded[number].tolist() for number in range(len(encoded))]


def points(*texts):
    return [[ord(letter) for letter in text] for text in texts]


def tokenizers():
    yield load_tokenizer("bytes")
    yield load_tokenizer(vocab_dir() / "gpt2")
    yield load_tokenizer(vocab_dir() / "bert_uncased")


def text_with_blanks():
    """Return a text in which every kind of whitespace, letter, digit and mark occurs next to every other."""
    kinds = ["a", "Z\u00e9", "7", "\u4e2d", "!", "'s", "'re", "\u0301", "\ufffd", "\x00", " ", "  ", "\n", "\t", "\r\n",
             "\u00a0", "\u2028", "\x1c", "\x85", "\u180e", "\u3000", "\x0b"]
    order = np.random.default_rng(0).integers(len(kinds), size=4000)
    return "".join(kinds[number] for number in order)


@pytest.mark.parametrize("block", [pytest.param(7, marks=pytest.mark.slow), 100, 1000])
def test_ids_of_a_text_in_pieces_are_those_of_the_whole(tmp_path, monkeypatch, block):
    monkeypatch.setattr(readers.lines, "BLOCK", block)
    monkeypatch.setattr(encode, "BATCH_CHARACTERS", 5 * block)
    text = text_with_blanks() + " ".join(part.decode("utf-8", "replace") for part in hostile_texts(60))
    text += (data_dir() / "lm_shakespeare" / "eval.txt").read_text()[:20000]
    (tmp_path / "a.txt").write_text(text, newline="")
    source = TextFiles([tmp_path / "a.txt"], "file")
    pieces = [piece for piece, _ in encode.cut_at_blanks(source.pieces())]
    assert "".join(pieces) == text and len(pieces) > 15 and max(map(len, pieces)) < 6000
    for tokenizer in tokenizers():
        assert lists(open_corpus(source, tokenizer)) == tokenizer.encode([text]).to_list(), tokenizer.kind


def test_a_vocabulary_learned_from_pieces_is_that_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(readers.lines, "BLOCK", 300)
    text = text_with_blanks() + (data_dir() / "lm_shakespeare" / "eval.txt").read_text()
    (tmp_path / "a.txt").write_text(text, newline="")
    source = TextFiles([tmp_path / "a.txt"], "file")
    pieces = list(source.passages())
    assert len(pieces) > 300
    assert learn_tokenizer("learn:bpe:600", pieces).fingerprint == learn_tokenizer("learn:bpe:600", [text]).fingerprint
    # Compare the words from which WordPiece learns: its vocabulary varies because `tokenizers` orders letters randomly.
    backend = load_tokenizer(vocab_dir() / "bert_uncased")._backend

    def words(texts):
        return [word for text in texts for word, _ in backend.pre_tokenizer.pre_tokenize_str(
            backend.normalizer.normalize_str(text))]

    assert words(pieces) == words([text])


def test_texts_are_encoded_once_and_shares_are_parts_of_the_whole(small, cache):
    calls = []
    corpus = open_corpus(small, Letters(lambda: calls.append(1)))
    assert lists(corpus) == points("one", "two", "three") and len(calls) == 1
    assert corpus.tokens.dtype == np.uint16 and isinstance(corpus.tokens.base, np.memmap)
    for share in small.split(0.4, 0):
        assert lists(open_corpus(share, Letters(lambda: calls.append(1)))) == points(*share.texts[0])
    assert len(calls) == 1 and len([path for path in cache.iterdir() if path.is_dir()]) == 1


@pytest.mark.parametrize("size, dtype", [(2 ** 16, np.uint16), (2 ** 16 + 1, np.int32)])
def test_ids_are_as_narrow_as_the_vocabulary_allows(small, size, dtype):
    tokenizer = Letters()
    tokenizer.vocab_size = size
    assert open_corpus(small, tokenizer).tokens.dtype == dtype


def test_another_tokenizer_text_or_kind_of_document_is_another_corpus(small, tmp_path, cache):
    other = Letters()
    other.fingerprint = "others"
    for tokenizer in (Letters(), other):
        open_corpus(small, tokenizer)
    assert lists(open_corpus(TextFiles(small.paths, "line"), Letters())) == points("one", "two", "three")
    (tmp_path / "a.txt").write_text("four")
    assert lists(open_corpus(TextFiles(small.paths), Letters())) == points("four")
    assert lists(open_corpus(Source("x", {"text": ["", "five"]}), Letters())) == points("", "five")
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 5


def test_sentences_are_those_of_each_document(tmp_path):
    texts = ["One. Two!\nthree", "four", "?", "five. six? seven"]
    (tmp_path / "a.txt").write_text("\n\n".join(texts))
    source = TextFiles([tmp_path / "a.txt"])
    for part in (source, source.split(0.5, 1)[0], Source("x", {"text": texts})):
        sentences, documents = open_sentences(part, Letters())
        for (begin, end), text in zip(documents, part.texts[0], strict=True):
            assert lists(sentences)[begin:end] == points(*(one for one, _ in split_sentences([text], [])))


@pytest.mark.parametrize("damage", [
    lambda folder: os.truncate(folder / "tokens", 4), lambda folder: (folder / "edges").unlink(),
    lambda folder: (folder / "manifest.json").write_text("{"), lambda folder: (folder / "manifest.json").unlink(),
    lambda folder: (folder / "manifest.json").write_text("[1]"),
    lambda folder: (folder / "edges").write_bytes(bytes((folder / "edges").stat().st_size))])
def test_a_damaged_corpus_is_made_again_with_one_line(small, cache, capfd, damage):
    open_corpus(small, Letters())
    folder, = (path for path in cache.iterdir() if path.is_dir())
    damage(folder)
    assert lists(open_corpus(small, Letters())) == points("one", "two", "three")
    err = capfd.readouterr().err
    assert "is damaged" in err and len(err.strip().splitlines()) == 1
    open_corpus(small, Letters(lambda: pytest.fail("encoded again")))


def build(source, before):
    open_corpus(source, Letters(before))


def test_two_processes_that_build_the_same_both_end_well(small, cache, tmp_path, capfd):
    def slow():
        with open(tmp_path / "calls", "a") as file:
            file.write("x")
        time.sleep(0.5)

    processes = [FORK.Process(target=build, args=(small, slow)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "calls").read_text() == "x"
    assert capfd.readouterr().err.count("waiting for another process") == 2
    assert lists(open_corpus(small, Letters(lambda: pytest.fail("encoded again")))) == points("one", "two", "three")


def test_a_killed_build_leaves_nothing_that_is_used_and_is_cleaned_up(small, cache, tmp_path):
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def build_another(name):
        (tmp_path / name).write_text(name)
        open_corpus(TextFiles([tmp_path / name]), Letters())

    for again in (lambda: open_corpus(small, Letters()), lambda: build_another("b.txt")):
        process = FORK.Process(target=build, args=(TextFiles(small.paths, "line"), die))
        process.start()
        process.join(30)
        assert process.exitcode == -signal.SIGKILL and len(list(cache.glob(".tmp-*"))) == 1
        again()
        assert not list(cache.glob(".tmp-*"))
    assert lists(open_corpus(small, Letters())) == points("one", "two", "three")


def test_a_build_that_goes_on_beside_is_left_alone(small, cache, tmp_path):
    go = FORK.Event()
    process = FORK.Process(target=build, args=(small, lambda: go.wait(30)))
    process.start()
    while not list(cache.glob(".tmp-*")):
        time.sleep(0.01)
    (tmp_path / "b.txt").write_text("b")
    open_corpus(TextFiles([tmp_path / "b.txt"]), Letters())
    assert len(list(cache.glob(".tmp-*"))) == 1
    go.set()
    process.join(30)
    assert process.exitcode == 0
    open_corpus(small, Letters(lambda: pytest.fail("encoded again")))


def fail_on_a_full_disk(source, answer):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 ** 16, 2 ** 16))
    try:
        open_corpus(source, Letters())
    except OSError as error:
        pathlib.Path(answer).write_text(str(error))


def test_a_cache_that_cannot_be_written_says_what_to_do(small, cache, tmp_path, monkeypatch):
    (tmp_path / "big.txt").write_text("x" * 2 ** 17)
    process = FORK.Process(target=fail_on_a_full_disk, args=(TextFiles([tmp_path / "big.txt"]), tmp_path / "answer"))
    process.start()
    process.join(30)
    assert "set TFZOO_CACHE" in (tmp_path / "answer").read_text()
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]
    monkeypatch.setenv("TFZOO_CACHE", str(tmp_path / "a.txt"))
    with pytest.raises(OSError, match="set TFZOO_CACHE to a writable folder with enough space"):
        open_corpus(small, Letters())


def test_a_file_that_changes_while_it_is_encoded_makes_no_corpus(small, cache):
    with pytest.raises(Exception, match="changed while it was being read"):
        open_corpus(small, Letters(lambda: small.paths[0].write_text("other")))
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_the_manifest_tells_what_it_is(small, cache):
    open_corpus(small, Letters())
    manifest = json.loads(next(cache.glob("*/manifest.json")).read_text())
    assert manifest["name"] == small.name and manifest["files"] == {"tokens": ["<u2", 11], "edges": ["<i8", 4]}


def test_encoding_in_memory_gives_the_same(small):
    texts = small.texts[0]
    assert lists(encode_texts(Letters(), texts)) == lists(open_corpus(small, Letters())) == points(*texts)
