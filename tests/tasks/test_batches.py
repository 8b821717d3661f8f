"""Packed rows and the windows of a stream: their content, and that each text attends only to itself."""
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tasks.test_tasks import SMALL, TOKENIZER, encoded
from tfzoo import build
from tfzoo.data.encode import EncodedTexts
from tfzoo.data.packing import PackedBatches
from tfzoo.data.stream import StreamBatches
from tfzoo.data.text_files import TextFiles
from tfzoo.errors import ConfigError, DataError
from tfzoo.tasks import task_of
from tfzoo.tasks.masked_lm import masked
from tfzoo.text import load_tokenizer

LENGTH = 20


def some_texts(count=60, longest=30, seed=0):
    """Return texts of 0 to `longest` ordinary tokens."""
    rng = np.random.default_rng(seed)
    return encoded(*[rng.integers(4, 53, size) for size in rng.integers(0, longest + 1, count)])


class Opened(type(TOKENIZER)):
    """Tokenizer that adds tokens before a text, like Llama's <s>."""

    opening = property(lambda self: self._opening)

    def __init__(self, *opening):
        self.__dict__.update(TOKENIZER.__dict__, _opening=list(opening))


def reference_batch(texts, step, seed, batch_size, length, separator):
    """Return the batch of a plain implementation that copies the corpus, separators included."""
    stream = np.array([token for text in texts for token in [*text, *separator]][:-len(separator)], np.int32)
    windows = -(-len(stream) // length)
    epoch, index = divmod(step, -(-windows // batch_size))
    shift, order = 0, np.arange(windows)
    if seed is not None:
        rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
        shift, order = int(rng.integers(len(stream))), rng.permutation(windows)
    shape = batch_size, length
    batch = {"token_ids": np.full(shape, TOKENIZER.end_id), "labels": np.full(shape, stream[0]),
             "padding_mask": np.zeros(shape, int), "weights": np.zeros(shape)}
    for row, window in enumerate(order[index * batch_size:(index + 1) * batch_size]):
        for column, place in enumerate(range(window * length, min((window + 1) * length, len(stream)))):
            target = (place + shift) % len(stream)
            batch["token_ids"][row, column] = stream[target - 1] if target else separator[-1]
            batch["labels"][row, column] = stream[target]
            batch["padding_mask"][row, column] = batch["weights"][row, column] = 1
    return batch


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("part", [slice(None), slice(3, 40, 3), slice(5, 6)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@pytest.mark.parametrize("tokenizer, separator", [
    (TOKENIZER, [2]), (Opened(), [2]), (Opened(2), [2]), (Opened(1), [2, 1]), (Opened(7, 1), [2, 7, 1])])
def test_windows_are_those_of_the_stream_that_was_copied(seed, part, dtype, tokenizer, separator):
    texts = some_texts()
    rows = np.arange(60)[part]
    corpus = EncodedTexts(texts.tokens.astype(dtype), texts.starts[rows], texts.ends[rows])
    data = StreamBatches(corpus, tokenizer, 3, 7, seed)
    plain = [texts[row].tolist() for row in rows]
    for step in [*range(2 * data.batches_per_epoch), 0]:
        batch, expected = data.batch(step), reference_batch(plain, step, seed, 3, 7, separator)
        assert sorted(batch) == sorted(expected)
        for key, value in batch.items():
            assert np.array_equal(value, expected[key]), (step, key)
            assert value.dtype == (np.float32 if key == "weights" else np.int32)


def test_a_stream_without_tokens_is_refused():
    with pytest.raises(DataError, match="no text"):
        StreamBatches(encoded([], []), TOKENIZER, 1, 4, None)


def packed(texts, rows, seed, shuffle):
    return masked(PackedBatches(texts, TOKENIZER, rows, LENGTH, seed, shuffle), TOKENIZER, seed)


def texts_of(batch, row):
    """Return the columns of each text in a packed row: list of arrays."""
    documents = batch["document_ids"][row]
    return [np.nonzero(documents == number)[0] for number in range(1, documents.max() + 1)]


@pytest.mark.parametrize("shuffle", [True, False])
def test_each_text_is_in_a_packed_epoch_once_and_rows_are_as_the_model_wants_them(shuffle):
    texts = some_texts()
    data = packed(texts, 4, 3, shuffle)
    for epoch in (0, 2):
        seen, numbers = [], []
        for step in range(epoch * data.batches_per_epoch, (epoch + 1) * data.batches_per_epoch):
            batch = data.batch(step)
            shown = batch["token_ids"].copy()
            for row, column in zip(*np.nonzero(batch["weights"])):
                place = batch["masked_positions"][row, column]
                shown[row, place] = batch["labels"][row, column]
            assert np.array_equal(batch["padding_mask"], batch["document_ids"] > 0)
            for row in range(4):
                columns = texts_of(batch, row)
                assert np.array_equal(np.concatenate([*columns, [-1]])[:-1], np.nonzero(batch["padding_mask"][row])[0])
                for places in columns:
                    assert batch["position_ids"][row, places].tolist() == list(range(len(places)))
                    tokens = shown[row, places].tolist()
                    assert (tokens[0], tokens[-1]) == (1, 2) and len(tokens) > 2
                    seen.append(tuple(tokens[1:-1]))
            blank = batch["padding_mask"] == 0
            assert (shown[blank] == 0).all() and (batch["position_ids"][blank] == 0).all()
            numbers += data.examples(step).tolist()
        room = LENGTH - 2
        pieces = [tuple(texts[number][first:first + room].tolist()) for number in range(60)
                  for first in range(0, len(texts[number]), room)]
        assert sorted(seen) == sorted(pieces)
        assert set(numbers) == {number for number in range(60) if len(texts[number])}
    total = sum(len(piece) + 2 for piece in pieces)
    assert data.base.padding == pytest.approx(1 - total / (LENGTH * data.base.plan.rows)) and data.base.padding < 0.03


class Around(type(TOKENIZER)):
    """Tokenizer with different special tokens around a text."""

    around = property(lambda self: self._around)

    def __init__(self, *around):
        self.__dict__.update(TOKENIZER.__dict__, _around=around)


@pytest.mark.parametrize("before, after", [([], [2]), ([7, 8], []), ([1], [8, 2]), ([], [])])
def test_packed_texts_have_the_tokenizer_s_special_tokens_around_them(before, after):
    texts = some_texts()
    data = PackedBatches(texts, Around(before, after, after), 4, LENGTH, 3, True)
    seen = []
    for step in range(data.batches_per_epoch):
        batch = data.batch(step)
        for row in range(4):
            seen += [batch["token_ids"][row, columns].tolist() for columns in texts_of(batch, row)]
    room = LENGTH - len(before) - len(after)
    assert sorted(seen) == sorted([*before, *texts[number][first:first + room].tolist(), *after]
                                  for number in range(60) for first in range(0, len(texts[number]), room))


def test_each_hidden_token_is_asked_once():
    data = packed(some_texts(), 4, 3, True)
    for step in range(data.batches_per_epoch):
        batch = data.batch(step)
        rows, columns = np.nonzero(batch["weights"])
        asked = list(zip(rows, batch["masked_positions"][rows, columns]))
        assert len(set(asked)) == len(asked) == batch["weights"].sum()
        ordinary = (batch["padding_mask"] > 0) & ~np.isin(batch["token_ids"], (0, 1, 2))
        for row in range(4):
            expected = max(1, round(0.15 * int(ordinary[row].sum()))) if ordinary[row].any() else 0
            assert (rows == row).sum() == expected
        assert all(ordinary[place] for place in asked)


def test_packed_batches_are_a_function_of_seed_and_step():
    data, again, other = (packed(some_texts(), 4, seed, True) for seed in (3, 3, 4))
    steps = list(range(2 * data.batches_per_epoch))
    batches = {step: data.batch(step) for step in steps}
    for step in np.random.default_rng(0).permutation(steps):
        assert data.examples(int(step)).tolist() == again.examples(int(step)).tolist()
        for key, value in again.batch(int(step)).items():
            assert np.array_equal(value, batches[step][key]), key
    assert not np.array_equal(other.batch(0)["token_ids"], batches[0]["token_ids"])
    assert not np.array_equal(data.batch(0)["token_ids"], data.batch(data.batches_per_epoch)["token_ids"])


@pytest.mark.parametrize("task, settings", [("masked_lm", {}), ("masked_lm", {"pack": True}), ("causal_lm", {}),
                                            ("masked_lm", {"next_sentence": True})])
def test_the_examples_of_a_step_are_the_texts_that_a_user_has(tmp_path, monkeypatch, task, settings):
    monkeypatch.setenv("TFZOO_CACHE", str(tmp_path / "cache"))
    letters = "abcdefghijklmnopqrst"  # one letter per text, so that each token identifies its text
    (tmp_path / "a.txt").write_text("\n".join(f"{letter * (1 + 7 * place)}. {letter * 5}" for place, letter in
                                              enumerate(letters)))
    for source in (whole := TextFiles([tmp_path / "a.txt"], "line"), whole.split(0.3, 1)[0]):
        data = task_of(task, **settings).features(source, load_tokenizer("bytes"), batch_size=4, max_length=32, seed=3,
                                                  training=True)
        for step in range(2 * data.batches_per_epoch):
            batch, numbers = data.batch(step), data.examples(step)
            numbers = numbers if source.rows is None else source.rows[numbers]
            seen, real = batch["labels"].copy(), batch["weights"] > 0
            if task == "masked_lm":  # undo the masking
                seen, (row, column) = batch["token_ids"].copy(), np.nonzero(real)
                seen[row, batch["masked_positions"][row, column]] = batch["labels"][row, column]
            seen = seen[real if task == "causal_lm" else batch["padding_mask"] > 0]
            found = {letters.index(chr(token - 4)) for token in seen if token > 4 and chr(token - 4) in letters}
            ends = (seen == 2).any() if task == "causal_lm" else 0  # a window may contain only the end of a text
            assert found <= set(numbers.tolist()) and len(numbers) <= len(found) + 4 * ends


def test_packing_wants_room_and_text_and_no_pairs():
    with pytest.raises(ConfigError, match="max_length must be at least 3"):
        PackedBatches(some_texts(), TOKENIZER, 4, 2, 3, True)
    with pytest.raises(DataError, match="no text"):
        PackedBatches(encoded([], []), TOKENIZER, 4, 9, 3, True)
    with pytest.raises(ConfigError, match="pack and next_sentence are both set: choose one"):
        task_of("masked_lm", pack=True, next_sentence=True)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    made = build("bert_tiny", task="masked_lm", **SMALL)
    rng = np.random.default_rng(1)
    for variable in made.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape).astype(np.float32))
    return made


def test_packed_and_alone_a_text_gets_the_same_logits(model):
    batch = packed(some_texts(), 8, 3, True).batch(0)
    inputs = {key: batch[key] for key in ("token_ids", "padding_mask", "position_ids", "document_ids")}
    together, shared = np.asarray(model(inputs)["logits"]), 0
    for row in range(8):
        columns = texts_of(batch, row)
        shared += len(columns) > 1
        for places in columns:
            alone = model({"token_ids": batch["token_ids"][row, places][None],
                           "padding_mask": np.ones((1, len(places)), np.int32)})["logits"]
            assert np.abs(np.asarray(alone)[0] - together[row, places]).max() < 1e-5
    assert shared >= 3


def test_no_gradient_crosses_from_one_text_to_another(model, monkeypatch):
    batch = packed(some_texts(longest=12), 4, 3, True).batch(0)
    task, embed, kept = task_of("masked_lm"), model.body.embeddings.call, []
    for row in range(4):
        columns = texts_of(batch, row)
        for places in columns:
            weights = np.zeros_like(batch["weights"])
            weights[row] = batch["weights"][row] * np.isin(batch["masked_positions"][row], places)
            with tf.GradientTape() as tape:
                def watched(*args, **kwargs):
                    kept[:] = [embed(*args, **kwargs)]
                    tape.watch(kept[0])
                    return kept[0]
                monkeypatch.setattr(model.body.embeddings, "call", watched)
                terms, _ = task.objective(lambda inputs: model(batch), {**batch, "weights": weights})
                loss = terms["loss"]
            gradient = np.asarray(tape.gradient(loss, kept[0]))
            mine = np.zeros((4, LENGTH), bool)
            mine[row, places] = True
            assert (gradient[~mine] == 0).all()
            assert not weights.any() or (np.abs(gradient[mine]).max(-1) > 0).all()
    assert sum(len(texts_of(batch, row)) for row in range(4)) > 6
