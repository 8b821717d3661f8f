"""Test cached decoding against the full forward pass, also beyond the window, and the tokens that samplers may draw."""
import numpy as np
import pytest
import tensorflow as tf

from tests.models.test_models import SMALL
from tfzoo import build
from tfzoo.errors import ConfigError, DataError
from tfzoo.generation import Generator, Sampling
from tfzoo.generation.sampling import draw, keep_likeliest

GREEDY = Sampling(temperature=0)


def generate(model, prompt, count, end_ids=()):
    return Generator(model.body, model.logits, GREEDY).stream(prompt, count, end_ids)


@pytest.fixture(scope="module")
def model():
    model = build("gpt2_tiny", task="causal_lm", **SMALL)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    return model


def greedy(model, prompt, count, window):
    """Decode with full forward passes and the same rule for a full window."""
    known, result = list(prompt)[-(window - 1):], []
    while len(result) < count:
        if len(known) > window:
            known = known[-(window // 2):]
        logits = model({"token_ids": np.array([known], np.int32)})["logits"]
        known.append(int(np.argmax(logits[0, -1])))
        result.append(known[-1])
    return result


@pytest.mark.parametrize("prompt, count", [([5], 8), ([5, 6, 7, 8], 40), (list(range(30)), 10)])
def test_greedy_equals_full_forward_passes(model, prompt, count):
    tokens = [int(token[0]) for token in generate(model, [prompt], count)]
    assert tokens == greedy(model, prompt, count, 20)
    assert len(set(tokens)) > 1


def test_rows_of_a_batch_decode_as_alone_and_end_by_themselves(model):
    prompts = [[5, 6], [9, 30]]
    both = np.array(list(generate(model, prompts, 12)))
    alone = [[int(token[0]) for token in generate(model, [prompt], 12)] for prompt in prompts]
    assert both.T.tolist() == alone
    end = alone[0][3]
    ended = np.array(list(generate(model, [prompts[0]], 12, end_ids=(end,))))[:, 0].tolist()
    assert ended == alone[0][:alone[0].index(end) + 1]


def test_each_of_several_ids_ends_a_row_and_the_first_fills_it(model):
    prompts = [[5, 6], [9, 30]]
    free = np.array(list(generate(model, prompts, 12))).T
    ends = (52, int(free[0, 3]), int(free[1, 6]))
    expected, stops = free.copy(), [min(np.flatnonzero(np.isin(row, ends))) for row in free]
    for row, stop in zip(expected, stops):
        row[stop + 1:] = 52
    for made in (np.array(list(generate(model, prompts, 12, ends))).T,
                 Generator(model.body, model.logits, GREEDY).generate(prompts, 12, ends)):
        assert made.tolist() == expected[:, :max(stops) + 1].tolist()


def test_top_k_and_top_p_keep_the_likeliest():
    logits = tf.math.log([[0.5, 0.25, 0.15, 0.1]])
    kept = lambda *settings: np.flatnonzero(keep_likeliest(logits, *settings)[0] > -100).tolist()  # noqa: E731
    assert kept(0, 1.0) == [0, 1, 2, 3]
    assert kept(2, 1.0) == [0, 1]
    assert kept(0, 0.7) == [0, 1] and kept(0, 0.76) == [0, 1, 2] and kept(0, 0.1) == [0]


def test_draws_follow_the_distribution_and_the_seed():
    logits = tf.repeat(tf.math.log([[0.5, 0.3, 0.2]]), 20000, axis=0)
    one = draw(logits, Sampling(seed=1), tf.constant(0)).numpy()
    assert np.abs(np.bincount(one) / 20000 - [0.5, 0.3, 0.2]).max() < 0.015
    cold = draw(logits, Sampling(temperature=0.5, seed=1), tf.constant(0)).numpy()
    assert np.abs(np.bincount(cold) / 20000 - np.array([25, 9, 4]) / 38).max() < 0.015
    assert np.array_equal(one, draw(logits, Sampling(seed=1), tf.constant(0)))
    assert not np.array_equal(one, draw(logits, Sampling(seed=1), tf.constant(1)))
    assert not np.array_equal(one, draw(logits, Sampling(seed=2), tf.constant(0)))


@pytest.mark.parametrize("settings", [{"temperature": 1e-4}, {"temperature": 1e-38}, {"temperature": 1e-45},
                                      {"top_p": 1e-9}, {"top_p": 1e-45}, {"top_k": 1, "temperature": 1e30}])
def test_the_limits_of_all_settings_are_the_likeliest_token(settings):
    logits = tf.constant([[1.0, 5.0, 2.0], [-3e38, 3e38, 0.0]])
    for number in range(5):
        assert draw(logits, Sampling(**settings), tf.constant(number)).numpy().tolist() == [1, 1]


def test_any_seed_of_64_bits_draws():
    for seed in (2 ** 63, 2 ** 64 - 1):
        assert draw(tf.zeros([1, 3]), Sampling(seed=seed), tf.constant(0)).numpy() in (0, 1, 2)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_p": 0.5}, *(
    pytest.param(settings, marks=pytest.mark.slow) for settings in ({}, {"top_k": 2}))])
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_refused(model, settings, factor):
    generator = Generator(model.body, lambda outputs: model.logits(outputs) * factor, Sampling(**settings))
    for run in (generator.generate, lambda *inputs: list(generator.stream(*inputs))):
        for end_ids in ((), (3,)):
            with pytest.raises(DataError, match="outputs are NaN"):
                run([[5, 6], [7]], 4, end_ids)


@pytest.mark.parametrize("prompt, says", [
    *((prompt, "outside the vocabulary; they must be integers from 0 to 52") for prompt in ([60], [-1], [2 ** 31])),
    *((prompt, "not a row of ids; prompts must be a list of lists of int") for prompt in ([1.5], ["a"], [[5]]))])
def test_a_prompt_of_another_vocabulary_is_refused(model, prompt, says):
    generator = Generator(model.body, model.logits, Sampling())
    with pytest.raises(ConfigError, match=says):
        generator.generate([[5], prompt], 2)


@pytest.mark.parametrize("settings", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}, {"seed": -1},
                                      {"seed": 2 ** 64}, {"temperature": float("nan")}, {"temperature": float("inf")}])
def test_settings_out_of_range(settings):
    with pytest.raises(ConfigError, match="^--(temperature|top_k|top_p|seed) must be .*, got "):
        Sampling(**settings)


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(ConfigError, match="empty"):
        next(generate(model, [[]], 3))
