"""Properties of masking: the paper's rates, no special tokens are chosen, and whole words are masked together."""
import types

import numpy as np
import pytest

from tfzoo.data.masking import mask_tokens, step_generator

STARTS = np.ones(1000, bool)
STARTS[500:] = False
TOKENIZER = types.SimpleNamespace(mask_id=4, vocab_size=1000, special_ids=(0, 1, 2, 3, 4), starts_word=STARTS)


@pytest.fixture
def batch():
    tokens = np.random.default_rng(0).integers(5, 1000, (256, 128)).astype(np.int32)
    maskable = np.ones((256, 128), bool)
    maskable[:, 0] = maskable[:, 100:] = False
    return tokens, maskable


@pytest.mark.parametrize("whole_word", [False, True])
def test_what_is_hidden_and_what_is_asked(batch, whole_word):
    tokens, maskable = batch
    out = mask_tokens(tokens, maskable, TOKENIZER, step_generator(1, 2), STARTS[tokens] if whole_word else None)
    chosen = np.zeros_like(maskable)
    rows, columns = np.nonzero(out["weights"])
    chosen[rows, out["masked_positions"][rows, columns]] = True
    assert chosen.sum() == out["weights"].sum()
    assert not (chosen & ~maskable).any()
    assert (out["token_ids"] == tokens)[~chosen].all()
    assert (out["labels"][rows, columns] == tokens[rows, out["masked_positions"][rows, columns]]).all()
    hidden = out["token_ids"][chosen]
    assert abs((hidden == 4).mean() - 0.8) < 0.02
    assert abs((hidden == tokens[chosen]).mean() - 0.1) < 0.02
    assert not np.isin(hidden, [0, 1, 2, 3]).any()
    assert abs(chosen[maskable].mean() - 0.15) < (0.02 if whole_word else 0.002)
    if whole_word:
        inside = ~STARTS[tokens] & maskable
        inside[:, 1] = False
        assert (chosen[:, 1:][inside[:, 1:]] == chosen[:, :-1][inside[:, 1:]]).all()


def test_the_draw_is_a_function_of_seed_and_step(batch):
    def draw(seed, step):
        return mask_tokens(*batch, TOKENIZER, step_generator(seed, step))["token_ids"].tolist()
    assert draw(1, 2) == draw(1, 2) != draw(1, 3)
    assert draw(1, 2) != draw(2, 2)


def test_a_row_without_a_maskable_token_asks_nothing():
    out = mask_tokens(np.full((2, 8), 1, np.int32), np.zeros((2, 8), bool), TOKENIZER, step_generator(0, 0))
    assert out["weights"].sum() == 0 and (out["token_ids"] == 1).all()


def test_where_no_word_fits_any_of_their_tokens_is_hidden():
    # In rows of 40 tokens, 6 are masked. The first half of the rows are one word, the others two words of 20 tokens.
    tokens = np.full((64, 40), 600, np.int32)
    tokens[32:, 20] = 100
    counts = np.zeros((2, 40), int)
    for step in range(50):
        out = mask_tokens(tokens, np.ones(tokens.shape, bool), TOKENIZER, step_generator(1, step), True)
        assert (out["weights"].sum(1) == 6).all()
        for half, rows in enumerate((slice(None, 32), slice(32, None))):
            np.add.at(counts[half], out["masked_positions"][rows].ravel(), 1)
    assert abs(counts - 240).max() < 5 * np.sqrt(240)
