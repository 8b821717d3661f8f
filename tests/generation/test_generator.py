"""Test cached decoding against the full forward pass, also beyond the window, and the tokens that samplers may draw."""
import numpy as np
import pytest
import tensorflow as tf

from tests.models.test_models import SMALL
from tfzoo import build
from tfzoo.errors import ConfigError, DataError
from tfzoo.generation import Generator, Options
from tfzoo.generation import sampling as samplers
from tfzoo.generation.constraint import constraint_of
from tfzoo.layers import initial_weights


def generator_of(model, count, end_ids=(), **options):
    return Generator(model.body, model.logits, Options(count, eos_token_id=end_ids, **{"temperature": 0, **options}))


def generate(model, prompts, count, end_ids=()):
    return generator_of(model, count, end_ids).stream(prompts)


def draw(logits, number, **options):
    keys = samplers.row_keys(tf.range(logits.shape[0], dtype=tf.int64), 1)
    return samplers.draw(logits, Options(**options), keys, tf.constant(number)).numpy()


@pytest.fixture(scope="module")
def model():
    with initial_weights(0):
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


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "top_p": 0.9, "num_return_sequences": 2},
                                     {"num_beams": 3, "no_repeat_ngram_size": 2}])
def test_compiled_by_xla_it_gives_the_same(model, options):
    options = Options(8, eos_token_id=(3,), **{"temperature": 0, **options})
    plain, compiled = (Generator(model.body, model.logits, options, xla=xla) for xla in (False, True))
    for prompts in ([[5, 6], [7, 8, 9]], [[4]]):
        assert plain.generate(prompts).token_ids.tolist() == compiled.generate(prompts).token_ids.tolist()
    if options.greedy and options.num_beams == 1:
        assert [row.tolist() for row in plain.stream([[5]])] == [row.tolist() for row in compiled.stream([[5]])]


def test_each_of_several_ids_ends_a_row_and_the_first_fills_it(model):
    prompts = [[5, 6], [9, 30]]
    free = np.array(list(generate(model, prompts, 12))).T
    ends = (52, int(free[0, 3]), int(free[1, 6]))
    expected, stops = free.copy(), [min(np.flatnonzero(np.isin(row, ends))) for row in free]
    for row, stop in zip(expected, stops):
        row[stop + 1:] = 52
    for made in (np.array(list(generate(model, prompts, 12, ends))).T,
                 generator_of(model, 12, ends).generate(prompts).token_ids):
        assert made.tolist() == expected[:, :max(stops) + 1].tolist()


def test_top_k_and_top_p_keep_the_likeliest():
    logits = tf.math.log([[0.5, 0.25, 0.15, 0.1]])
    kept = lambda **options: np.flatnonzero(samplers.warp(logits, Options(**options))[0] > -100).tolist()  # noqa: E731
    assert kept() == [0, 1, 2, 3]
    assert kept(top_k=2) == [0, 1]
    assert kept(top_p=0.7) == [0, 1] and kept(top_p=0.76) == [0, 1, 2] and kept(top_p=0.1) == [0]


def test_draws_follow_the_distribution_and_the_seed():
    logits = tf.repeat(tf.math.log([[0.5, 0.3, 0.2]]), 20000, axis=0)
    one = draw(logits, 0)
    assert np.abs(np.bincount(one) / 20000 - [0.5, 0.3, 0.2]).max() < 0.015
    cold = draw(logits, 0, temperature=0.5)
    assert np.abs(np.bincount(cold) / 20000 - np.array([25, 9, 4]) / 38).max() < 0.015
    assert np.array_equal(one, draw(logits, 0)) and not np.array_equal(one, draw(logits, 1))


@pytest.mark.parametrize("settings", [{"temperature": 1e-4}, {"temperature": 1e-38}, {"temperature": 1e-45},
                                      {"top_p": 1e-9}, {"top_p": 1e-45}, {"top_k": 1, "temperature": 1e30}])
def test_the_limits_of_all_settings_are_the_likeliest_token(settings):
    logits = tf.constant([[1.0, 5.0, 2.0], [-3e38, 3e38, 0.0]])
    for number in range(5):
        assert draw(logits, number, **settings).tolist() == [1, 1]


@pytest.mark.slow
def test_the_seed_of_a_row_and_not_its_batch_determines_its_draws(model):
    draws = [generator_of(model, 12, temperature=1.0, seed=seed).generate([[5, 6], [5, 6], [7]]).token_ids.tolist()
             for seed in (0, 1, 2 ** 64 - 1)]
    assert draws[0][1] == draws[1][0] != draws[0][0] and draws[2][1] == draws[0][0]  # modulo 2 ** 64
    several = generator_of(model, 12, temperature=1.0, num_return_sequences=3).generate([[5, 6], [5, 6]]).token_ids
    assert len({tuple(row) for row in several.tolist()}) == 6
    assert several.tolist()[:3] == generator_of(model, 12, temperature=1.0, num_return_sequences=3).generate(
        [[5, 6]]).token_ids.tolist()


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 0, "num_beams": 2}, {"top_p": 0.5}, *(
    pytest.param(settings, marks=pytest.mark.slow) for settings in ({}, {"top_k": 2}))])
@pytest.mark.parametrize("factor", [float("nan"), pytest.param(float("inf"), marks=pytest.mark.slow)])
def test_outputs_that_are_no_numbers_are_refused(model, settings, factor):
    for end_ids in ((), (3,)):
        generator = Generator(model.body, lambda outputs: model.logits(outputs) * factor,
                              Options(4, eos_token_id=end_ids, **settings))
        runs = [generator.generate] if generator.options.num_beams > 1 else [
            generator.generate, lambda prompts: list(generator.stream(prompts))]
        for run in runs:
            with pytest.raises(DataError, match="outputs are NaN"):
                run([[5, 6], [7]])


@pytest.mark.parametrize("prompt, says", [
    *((prompt, "outside the vocabulary; they must be integers from 0 to 52") for prompt in ([60], [-1], [2 ** 31])),
    *((prompt, "not a row of ids; prompts must be a list of lists of int") for prompt in ([1.5], ["a"], [[5]]))])
def test_a_prompt_of_another_vocabulary_is_refused(model, prompt, says):
    with pytest.raises(ConfigError, match=says):
        generator_of(model, 2).generate([[5], prompt])


@pytest.mark.parametrize("settings", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}, {"seed": -1},
                                      {"seed": 2 ** 64}, {"temperature": float("nan")}, {"temperature": float("inf")},
                                      {"max_new_tokens": 0}, {"max_new_tokens": 2.0}, {"top_k": True}, {"min_p": 1.1},
                                      {"repetition_penalty": 0}, {"num_beams": 0}, {"eta_cutoff": 1},
                                      {"early_stopping": "always"}, {"early_stopping": 1}, {"eos_token_id": [3]},
                                      {"bad_words_ids": ((),)}, {"suppress_tokens": ("a",)}])
def test_settings_out_of_range(settings):
    with pytest.raises(ConfigError, match=f"^--{next(iter(settings))} must be .*, got "):
        Options(**settings)


@pytest.mark.parametrize("settings, says", [
    ({"min_new_tokens": 9, "max_new_tokens": 8}, "--min_new_tokens=9 exceeds --max_new_tokens=8"),
    ({"num_beams": 2, "num_return_sequences": 3}, "--num_return_sequences=3 exceeds --num_beams=2"),
    ({"temperature": 0, "num_return_sequences": 3}, "equal answers with --temperature=0"),
    ({"temperature": 0, "top_p": 0.5}, "--top_p=0.5 has no effect with --temperature=0"),
    ({"num_beams": 4, "num_beam_groups": 3, "temperature": 0}, "must divide --num_beams=4"),
    ({"length_penalty": 2.0}, "--length_penalty=2.0 requires --num_beams above 1"),
    ({"diversity_penalty": 0.5}, "requires --num_beam_groups above 1")])
def test_settings_without_meaning_together(settings, says):
    with pytest.raises(ConfigError, match=says):
        Options(**settings)


def test_ids_and_contexts_that_do_not_exist_are_refused(model):
    with pytest.raises(ConfigError, match="--suppress_tokens contains 53, but token ids must be from 0 to 52"):
        generator_of(model, 2, suppress_tokens=(53,))
    with pytest.raises(ConfigError, match="a prompt of 18 tokens and --max_new_tokens=4 exceed the model's 20 posit"):
        generator_of(model, 4, num_beams=2).generate([[5] * 18])
    with pytest.raises(ConfigError, match="beams and several answers per prompt cannot be streamed"):
        list(generator_of(model, 4, num_beams=2).stream([[5]]))
    constraint = constraint_of([bytes([65 + number]) for number in range(53)], stop=("AB",))
    for run in (Generator.generate, lambda *inputs: list(Generator.stream(*inputs))):
        with pytest.raises(ConfigError, match="stop strings, regular expressions and choices require a context"):
            run(generator_of(model, 4, constraint=constraint), [[5] * 18])


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(ConfigError, match="empty"):
        next(generate(model, [[]], 3))


def test_without_graphs_the_tokens_are_the_same(model):
    expected = generator_of(model, 3).generate([[5, 6], [7]]).token_ids
    tf.config.run_functions_eagerly(True)
    try:
        found = generator_of(model, 3).generate([[5, 6], [7]]).token_ids
    finally:
        tf.config.run_functions_eagerly(False)
    assert found.tolist() == expected.tolist()
