"""Every kind of tokenizer gives its reference's ids: 10,000 real lines, hostile texts, special tokens, pairs, cuts."""
import functools
import unicodedata

import pytest

from tests.helpers import hostile_texts, real_lines
from tests.text.kinds import MAKERS
from tfzoo.text import load_tokenizer

SEGMENTS = ("bert", "albert")  # the models that read them


@pytest.fixture(scope="module", params=MAKERS)
def kind(request, tmp_path_factory):
    return request.param, *MAKERS[request.param](tmp_path_factory.mktemp(request.param))


def same_in_both(text):
    """Return whether SentencePiece and `tokenizers` are known to agree on T5's normalization of a text.

    `tokenizers` splits at U+0085 and drops a mark after U+FFFD; tfzoo does what SentencePiece does.
    """
    marked = any(unicodedata.category(mark)[0] == "M" for before, mark in zip(text, text[1:]) if before == "\ufffd")
    return "\x85" not in text and not marked


@functools.cache
def texts_of(name, step=1):
    texts = [text.decode("utf-8", "replace") for text in hostile_texts(1000)[::step]] + real_lines()[::step]
    return [text for text in texts if same_in_both(text)] if name == "t5_json" else texts


def test_ids(kind):
    name, tokenizer, reference = kind
    texts = texts_of(name)
    assert len(real_lines()) >= 10000
    ids, expected = tokenizer.encode(texts).to_list(), reference.encode(texts)
    assert len(ids) == len(expected)
    for text, got, wanted in zip(texts, ids, expected):
        # Where two ways to split score the same (o oo, oo o), tf-text's SentencePiece and the package may differ.
        assert got == wanted or (name.startswith("albert") and sorted(got) == sorted(wanted)
                                 and text not in real_lines()), text


@pytest.mark.parametrize("count, max_length", [(1, None), (1, 8), (1, 9), (1, 24), (2, None), (2, 5), (2, 8), (2, 9),
                                               (2, 24)])
def test_special_tokens_pairs_and_cuts(kind, count, max_length):
    name, tokenizer, reference = kind
    texts = texts_of(name, 61)
    parts = [texts, texts[::-1]][:count]  # short with long, and the other way round
    ours = {key: value.numpy() for key, value in tokenizer(*parts, max_length=max_length).items()}
    for number, (ids, segments) in enumerate(reference.join(parts, max_length)):
        real = ours["padding_mask"][number] > 0
        assert ours["token_ids"][number][real].tolist() == ids, [part[number] for part in parts]
        assert set(ours["token_ids"][number][~real].tolist()) <= {tokenizer.pad_id}
        if name.startswith(SEGMENTS):
            assert ours["segment_ids"][number][real].tolist() == segments


def test_what_is_written_and_read_is_written_again_to_the_bit(kind, tmp_path):
    name, tokenizer, _ = kind
    for folder, written in (("one", tokenizer), ("two", None)):
        (tmp_path / folder).mkdir()
        (written or load_tokenizer(tmp_path / "one")).save(tmp_path / folder)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("one", "two"))
    assert one == two and "tokenizer_config.json" in one
    again, texts = load_tokenizer(tmp_path / "two"), texts_of(name, 61)
    assert again.fingerprint == tokenizer.fingerprint and again.around == tokenizer.around
    assert again.encode(texts).to_list() == tokenizer.encode(texts).to_list()
