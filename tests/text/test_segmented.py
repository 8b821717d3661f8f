"""Words of Chinese text: their characters are marked, the ids stay the same, and whole words are masked."""

import pytest
import tensorflow as tf

from tests.helpers import data_dir, vocab_dir
from tfzoo.data.source import Source
from tfzoo.errors import ConfigError
from tfzoo.tasks import task_of
from tfzoo.text import load_tokenizer, segmented
from tfzoo.text.segmented import SegmentedTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(str(vocab_dir() / "bert_chinese"))


def starts_of(tokenizer, text):
    ids, starts = tokenizer.unmark(tokenizer.encode([text]).numpy()[0])
    return ids.tolist(), starts.astype(int).tolist()


def test_characters_of_a_word_continue_it_and_all_else_is_as_before(tokenizer):
    by_spaces = SegmentedTokenizer(tokenizer, "spaces")
    ids, starts = starts_of(by_spaces, "我 来到 北京 清华大学")
    assert starts == [1, 1, 0, 1, 0, 1, 0, 0, 0]
    assert ids == tokenizer.encode(["我来到北京清华大学"]).numpy()[0].tolist()
    # Punctuation and Latin words are words of their own, also without spaces; ## pieces continue theirs.
    text = "他说,好的。 transformers模型"
    tokens = [tokenizer.vocabulary[number] for number in starts_of(by_spaces, text)[0]]
    expected = [not token.startswith("##") and not (token in "说的型") for token in tokens]
    assert [token for token, begins in zip(tokens, expected) if not begins][:2] == ["说", "的"]
    assert starts_of(by_spaces, text)[1] == [int(each) for each in expected]


def test_words_do_not_continue_over_texts(tokenizer):
    by_spaces = SegmentedTokenizer(tokenizer, "spaces")
    for texts in (["北京", "大学"], ["", "北京", " ", "大学", ""]):
        ids, starts = by_spaces.unmark(by_spaces.encode(texts).flat_values.numpy())
        assert starts.astype(int).tolist() == [1, 0, 1, 0]
    assert by_spaces.encode([""]).row_lengths().numpy().tolist() == [0]


def test_jieba_s_words_are_those_of_jieba(tokenizer):
    import jieba
    text = "我来到北京清华大学"
    words = jieba.lcut(text)
    assert len(words) < len(text)
    expected = [int(not number) for word in words for number in range(len(word))]
    assert starts_of(SegmentedTokenizer(tokenizer, "jieba"), text)[1] == expected


def test_ids_of_real_text_are_those_of_the_vocabulary(tokenizer):
    lines = (data_dir() / "zh_sentiment" / "eval.jsonl").read_text(encoding="utf-8").splitlines()[:100]
    by_jieba = SegmentedTokenizer(tokenizer, "jieba")
    encoded = by_jieba.encode(lines)
    assert tf.reduce_all(by_jieba.unmark(encoded.flat_values.numpy())[0] == tokenizer.encode(lines).flat_values)


@pytest.mark.parametrize("more", [{}, {"pack": True}, {"next_sentence": True}])
def test_whole_chinese_words_are_masked_together(tokenizer, more, tmp_path, monkeypatch):
    monkeypatch.setenv("TFZOO_CACHE", str(tmp_path))
    texts = ["北京 清华 大学 来到 模型 说好 中国 人民.\n" * 3] * 8
    task = task_of("masked_lm", whole_word=True, segmentation="spaces", **more)
    data = task.features(Source("x", {"text": texts}), tokenizer, batch_size=4, max_length=64, training=True)
    pairs = set()
    for step in range(20):
        batch = data.batch(step)
        assert batch["token_ids"].max() < tokenizer.vocab_size and batch["labels"].max() < tokenizer.vocab_size
        for row in range(4):
            real = batch["weights"][row] > 0
            places, labels = batch["masked_positions"][row][real], batch["labels"][row][real]
            order = places.argsort(kind="stable")
            places, labels = places[order], labels[order]
            found = "".join(tokenizer.vocabulary[number] for number in labels).replace(".", "")
            assert len(found) % 2 == 0
            pairs |= {found[number:number + 2] for number in range(0, len(found), 2)}
    assert pairs == set("北京 清华 大学 来到 模型 说好 中国 人民".split())


def test_what_cannot_be_segmented_is_refused_in_one_line(tokenizer, monkeypatch):
    with pytest.raises(ConfigError, match="--segmentation=spaces requires --whole_word"):
        task_of("masked_lm", segmentation="spaces")
    with pytest.raises(ConfigError, match="requires a WordPiece vocabulary, got bytes"):
        SegmentedTokenizer(load_tokenizer("bytes"), "spaces")
    with pytest.raises(ConfigError, match="--segmentation=thulac: choose from spaces, jieba"):
        SegmentedTokenizer(tokenizer, "thulac")
    segmented._jieba.cache_clear()
    monkeypatch.setattr(segmented.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="requires the package jieba: pip install jieba, or use"):
        SegmentedTokenizer(tokenizer, "jieba")


def test_the_fingerprint_tells_segmentations_apart(tokenizer):
    prints = [SegmentedTokenizer(tokenizer, how).fingerprint for how in segmented.SEGMENTATIONS]
    assert len({*prints, tokenizer.fingerprint}) == 3
