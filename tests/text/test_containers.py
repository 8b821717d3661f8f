"""Functions on texts accept any ordered container and reject a single text and items that are not texts."""
import re

import numpy as np
import pytest
import tensorflow as tf

from tests.export.test_export import make
from tfzoo.errors import ConfigError, DataError
from tfzoo.generation import Generator, Options
from tfzoo.tasks.predictor import Predictor
from tfzoo.text import learn_tokenizer, load_tokenizer, split_words

TEXTS = ["ab c", "", "d"]
TOKENIZERS = {"bytes": load_tokenizer("bytes"), "wordpiece": learn_tokenizer("learn:wordpiece:120", ["ab c d"] * 9),
              "bpe": learn_tokenizer("learn:bpe:300", ["ab c d"] * 9)}
WRONG = {"str": "ab", "bytes": b"ab", "numpy str": np.str_("ab"), "scalar": tf.constant("ab"), "0-d": np.array("ab"),
         "None": None, "int": 5, "dict": {"text": "ab"}, "set": {"ab"}, "2-d": np.array([["a", "b"]]),
         "2-d tensor": tf.constant([["a", "b"]]), "ragged": tf.ragged.constant([["a"], []]), "None in it": ["a", None],
         "nan in it": np.array(["a", float("nan")], object), "int in it": ["a", 1], "ints": tf.constant([1, 2]),
         "list in it": ["a", ["b"]]}


class Series:
    """Mimic a pandas Series, which is one-dimensional and ordered."""

    ndim = 1

    def __iter__(self):
        return iter(TEXTS)


@pytest.fixture(scope="module")
def loaded():
    return make(TOKENIZERS["bytes"])


@pytest.mark.parametrize("texts", [tuple(TEXTS), (text for text in TEXTS), iter(TEXTS), np.array(TEXTS),
                                   np.array(TEXTS, object), np.array(TEXTS, "S"), [text.encode() for text in TEXTS],
                                   tf.constant(TEXTS), Series()], ids=lambda texts: type(texts).__name__)
def test_every_container_gives_what_a_list_gives(texts):
    texts = list(texts) if hasattr(texts, "__next__") else texts  # an iterator can be read only once
    for tokenizer in TOKENIZERS.values():
        assert tokenizer.encode(texts).to_list() == tokenizer.encode(TEXTS).to_list()
        assert tokenizer.offsets(texts) == tokenizer.offsets(TEXTS)
        for key, value in tokenizer(TEXTS, TEXTS).items():
            assert np.array_equal(tokenizer(texts, texts)[key], value)
    assert split_words(texts) == split_words(TEXTS)


def test_an_iterator_is_read_once():
    for tokenizer in TOKENIZERS.values():
        assert tokenizer.encode(iter(TEXTS)).to_list() == tokenizer.encode(TEXTS).to_list()
        assert tokenizer.encode_words(iter([iter("ab"), "c d".split()])).starts.tolist() == \
            tokenizer.encode_words([["a", "b"], ["c", "d"]]).starts.tolist()


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_one_text_and_what_is_no_text_is_refused_in_one_line(loaded, wrong):
    calls = [call for tokenizer in TOKENIZERS.values() for call in (tokenizer, tokenizer.encode, tokenizer.offsets)]
    calls += [split_words, loaded.predict, loaded.embed]
    if wrong is not None:  # None means no pairs
        calls += [lambda texts: TOKENIZERS["bytes"](TEXTS, texts), lambda texts: loaded.predict(TEXTS, texts)]
    for call in calls:
        with pytest.raises((ConfigError, DataError),
                           match="must be a (list of )?string|classification requires text") as got:
            call(wrong)
        assert "\n" not in str(got.value)


@pytest.mark.parametrize("sentences", [["ab", "c"], "ab", [["a"], None], [["a", None]], {"a": ["b"]}, [{"a": "b"}]])
def test_sentences_are_lists_of_words(sentences):
    with pytest.raises(ConfigError, match="must be a (list of (lists of )?words|string), got"):
        TOKENIZERS["bytes"].encode_words(sentences)


def test_texts_and_pairs_are_as_many(loaded):
    for call in (TOKENIZERS["bytes"], loaded.predict):
        with pytest.raises(ConfigError, match="pairs must have one item per text, got 2 texts and 1 pairs"):
            call(["a", "b"], ["c"])


@pytest.mark.parametrize("rows", [{"text": "a"}, "a", ["a"], [None], [{"text": None}], [{"text": ["a"]}]])
def test_rows_are_dicts_of_strings(loaded, rows):
    with pytest.raises((ConfigError, DataError), match=r"must be a list of dict, (got|but contains)|row 1: (no value "
                       r"for text|text is \['a'\], not a string); classification requires text"):
        Predictor(loaded.model, loaded.tokenizer, 20)(rows)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_rows_from_0(name):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(["ab c", "d"])
    text = tokenizer.decode(ids)
    assert text == ["ab c", "d"]
    padded = ids.to_tensor(tokenizer.pad_id)
    for rows in (ids.to_list(), padded, padded.numpy(), padded.numpy().astype(np.uint16), (row for row in ids)):
        assert tokenizer.decode(rows) == text
    assert tokenizer.decode([[], [tokenizer.vocab_size, *ids[1].numpy(), 10 ** 6]]) == ["", "d"]
    for wrong in ([5, 6], ids[0], np.array([5, 6]), "ab", ["ab"], tokenizer(["ab"]), [[-1]], [[5.0]], [["a"]], None, 5):
        with pytest.raises(ConfigError, match=re.compile("ids.* must be (rows of ids|a row of non-negative integers)")):
            tokenizer.decode(wrong)


@pytest.mark.parametrize("prompts", [["ab"], [5], [[5.5]], [[None]]])
def test_prompts_are_rows_of_ids(prompts):
    model = make(TOKENIZERS["bytes"], "gpt2_tiny").model
    with pytest.raises(ConfigError, match="prompts must be a list of lists of int"):
        Generator(model.body, None, Options(1)).generate(prompts)


@pytest.mark.parametrize("texts", ["some text", b"some text", {"a": 1}])
def test_one_text_teaches_no_letters(texts):
    with pytest.raises(ConfigError, match="texts must be an iterable of strings, got "):
        learn_tokenizer("learn:bpe:300", texts)
