"""Speculative decoding: the tokens of plain decoding when greedy, the model's own distribution when sampling."""
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import tfzoo
from tests.experiments.conftest import call  # noqa: F401
from tests.generation.test_talk import saved
from tests.models.test_models import OWN, SMALL
from tfzoo import build
from tfzoo.errors import ConfigError, DataError
from tfzoo.generation import Generator, Options
from tfzoo.generation.constraint import constraint_of
from tfzoo.generation.decode import decode
from tfzoo.generation.speculative import looked_up
from tfzoo.text import load_tokenizer

LOOKUP, DRAFT = {"prompt_lookup_num_tokens": 4}, {"num_assistant_tokens": 3}
PIECES = [bytes([97 + number % 26]) for number in range(53)]


@functools.lru_cache
def model_of(name, seed=0, noise=0.3, **others):
    model = build(name, task="causal_lm", **{**SMALL, "num_layers": 1, "max_length": 28, **OWN.get(name, {}), **others})
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(variable + noise * rng.standard_normal(variable.shape).astype(np.float32))
    return model


def generator_of(name, draft=None, **options):
    model = model_of(name)
    other = draft and (draft.body, draft.logits)
    return Generator(model.body, model.logits, Options(**{"temperature": 0.0, "max_new_tokens": 20, **options}), other)


def near(name):
    """Return a model that often, but not always, agrees with model_of(name)."""
    model, other = model_of(name), model_of(name, noise=0.31)
    assert len(model.weights) == len(other.weights)
    return other


def prompts(count, most=24, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 53 if row % 2 else 8, rng.integers(1, most)).tolist() for row in range(count)]


def check_equal(expected, found):
    assert found.token_ids.tolist() == expected.token_ids.tolist()
    assert found.lengths.tolist() == expected.lengths.tolist()
    assert (found.accepted <= found.proposed).all()


@functools.lru_cache
def plain(name, count, most, options=()):
    return generator_of(name, **dict(options)).generate(prompts(count, most))


@pytest.mark.parametrize("name, how", [
    ("gpt2_tiny", LOOKUP), ("mistral_tiny", DRAFT), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("gpt2_tiny", DRAFT), ("mistral_tiny", LOOKUP), ("llama_tiny", LOOKUP), ("llama_tiny", DRAFT)))])
def test_greedy_tokens_are_those_of_plain_decoding(name, how):
    # The longest prompts fill the context.
    found = generator_of(name, near(name) if how is DRAFT else None, **how).generate(prompts(16, 40))
    check_equal(plain(name, 16, 40), found)
    assert 0 < found.accepted.sum() < found.proposed.sum()


@pytest.mark.parametrize("how", [LOOKUP, DRAFT], ids=["lookup", "draft"])
@pytest.mark.parametrize("options", [
    {"repetition_penalty": 1.1, "min_new_tokens": 6, "log_probabilities": True, "no_repeat_ngram_size": 3},
    {"constraint": constraint_of(PIECES, stop=("ab", "q", "zz"))}], ids=["penalties", "stop"])
def test_processors_and_ends_apply_at_each_position(options, how):
    free = plain("gpt2_tiny", 16, 40).token_ids
    ends = tuple(np.argsort(-np.bincount(free.ravel(), minlength=53))[[1, 4]].tolist())
    options = {"eos_token_id": ends, "max_new_tokens": 18, **options}
    expected = generator_of("gpt2_tiny", **options).generate(prompts(16, 9))
    found = generator_of("gpt2_tiny", near("gpt2_tiny") if how is DRAFT else None, **options, **how).generate(
        prompts(16, 9))
    check_equal(expected, found)
    assert len(set(found.lengths.tolist())) > 2 and found.accepted.sum() > 0
    if "log_probabilities" in options:
        np.testing.assert_allclose(found.log_probabilities, expected.log_probabilities, atol=1e-4)


@pytest.mark.slow
def test_a_draft_equal_to_the_model_is_always_accepted():
    model = model_of("gpt2_tiny")
    found = generator_of("gpt2_tiny", model, max_new_tokens=21, num_assistant_tokens=4).generate([[5, 6, 7]])
    assert found.accepted.tolist() == found.proposed.tolist() == [16]  # 1 + 4 x (4 + 1)
    free = found.token_ids[0].tolist()
    end = free[9]
    stop = free.index(end) + 1
    ended = generator_of("gpt2_tiny", model, max_new_tokens=21, num_assistant_tokens=4,
                         eos_token_id=(end,)).generate([[5, 6, 7]])
    assert ended.token_ids.tolist() == [free[:stop]]
    assert ended.accepted.tolist() == ended.proposed.tolist() == [stop - 1 - (stop - 1) // 5]  # none after the end
    warm = generator_of("gpt2_tiny", model, max_new_tokens=21, num_assistant_tokens=4, temperature=1.0)
    assert warm.generate([[5, 6, 7]]).accepted.tolist() == [16]  # p / q = 1


def test_lookup_takes_what_followed_the_first_occurrence():
    def look(row, most=3):
        ids = [0, 0, *row, 0, 0]
        place = np.arange(len(ids))
        return looked_up(tf.constant(ids), tf.constant(place >= 2), tf.constant(2 + len(row)),
                         tf.constant(most)).numpy().tolist()

    assert look([1, 2, 3, 4, 1, 2, 9, 8, 1, 2]) == [3, 4, 1]
    assert look([2, 5, 1, 2, 6, 3, 2]) == [5, 1, 2] and look([7, 2, 5, 3, 2, 4, 3, 2]) == [4, 3, 2]
    assert look([1, 1, 1]) == [1] and look([4, 5, 6]) == [] and look([0]) == [] and look([4]) == []
    assert look([1, 2, 3, 4, 1, 2], most=0) == []


def test_accepted_and_proposed_are_counted():
    # A model that counts: token t is followed by t + 1, and by 3 after 9.
    body = model_of("gpt2_tiny").body
    following = np.roll(np.eye(53, dtype=np.float32), 1, axis=1)
    following[9] = np.eye(53)[3]

    class Counting:
        traits, config = body.traits, body.config

        def start(self, inputs, length):
            return {"ids": inputs["token_ids"][:, -1:]}, body.start(inputs, length)[1]

        def step(self, token_ids, state):
            return {"ids": token_ids}, body.step(token_ids, state)[1]

    generator = Generator(Counting(), lambda outputs: tf.gather(following, outputs["ids"]),
                          Options(9, temperature=0.0, prompt_lookup_num_tokens=3))
    # 8, 9, 3, 4 and 5 follow one by one, because none of them occurred. 5 did, before 6 7 8, which are accepted; 9 is
    # the token after them.
    found = generator.generate([[5, 6, 7]])
    assert found.token_ids.tolist() == [[8, 9, 3, 4, 5, 6, 7, 8, 9]]
    assert (found.accepted.tolist(), found.proposed.tolist()) == ([3], [3])
    # 6, 7, 8, 9, 3 and 4 follow one by one. 4 first occurred before 5 20 4, of which two fit before the last token; 5
    # is accepted, and 6 takes the place of 20.
    found = generator.generate([[4, 5, 20, 4, 5]])
    assert found.token_ids.tolist() == [[6, 7, 8, 9, 3, 4, 5, 6, 7]]
    assert (found.accepted.tolist(), found.proposed.tolist()) == ([1], [2])
    assert (generator.accepted, generator.proposed) == (4, 5)
    # After 4, 20 21 22 are proposed and rejected; after 5, therefore only 23. 6, 7, 8 and 9 did not occur. After 3, one
    # token fits before the last one: 4, which is accepted.
    found = generator.generate([[4, 20, 21, 22, 5, 23, 24, 25, 3]])
    assert found.token_ids.tolist() == [[4, 5, 6, 7, 8, 9, 3, 4, 5]]
    assert (found.accepted.tolist(), found.proposed.tolist()) == ([1], [3 + 1 + 1])


def joint(model, prompt, count, temperature, top_k):
    """Return the probabilities of all answers of `count` tokens, [V] * count, in NumPy."""
    rows, found, width = np.array([prompt], np.int32), np.ones(1), model.body.config["vocab_size"]
    for _ in range(count):
        logits = model({"token_ids": rows})["logits"].numpy()[:, -1].astype(np.float64) / temperature
        odds = np.where(logits >= np.sort(logits, axis=1)[:, -top_k, None], np.exp(logits), 0)
        found = (found[:, None] * odds / odds.sum(1, keepdims=True)).ravel()
        rows = np.hstack([np.repeat(rows, width, axis=0), np.tile(np.arange(width), len(rows))[:, None]])
    return found.reshape([width] * count)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["draft", "lookup"])
def test_samples_follow_the_models_distribution(how):
    sizes = {"vocab_size": 8, "hidden_dim": 8, "num_heads": 2}
    model, other = model_of("gpt2_tiny", **sizes), model_of("gpt2_tiny", seed=1, **sizes)
    prompt, count, draws, options = [3, 4, 5, 6, 3, 7, 4], 4, 1500, {"temperature": 1.5, "top_k": 6}
    generator = Generator(model.body, model.logits, Options(count, **options, **(LOOKUP if how == "lookup" else DRAFT)),
                          (other.body, other.logits) if how == "draft" else None)

    def one(seed):
        found = decode(model.body, model.logits, {"token_ids": tf.constant([prompt])}, generator.options,
                       length=len(prompt) + count, count=count, seeds=seed[None], chooser=generator.chooser)
        return tf.concat([found["token_ids"][0], found["accepted"], found["proposed"]], 0)

    sample = tf.function(lambda seeds: tf.map_fn(one, seeds, fn_output_signature=tf.TensorSpec([count + 2], tf.int32)),
                         autograph=False)
    found, whole = sample(tf.range(draws, dtype=tf.int64)).numpy(), joint(model, prompt, count, **options)
    accepted, proposed = found[:, count:].sum(0)
    assert 0.05 * proposed < accepted < 0.95 * proposed and proposed > draws / 4, (accepted, proposed)
    for place in range(count - 1):
        expected = whole.sum(tuple(axis for axis in range(count) if axis not in (place, place + 1))) * draws
        seen = np.zeros_like(expected)
        np.add.at(seen, tuple(found[:, place:place + 2].T), 1)
        assert expected.shape == (8, 8) and not seen[expected == 0].any()
        order = np.argsort(-expected, axis=None)
        seen, expected = seen.ravel()[order], expected.ravel()[order]
        many = int((expected >= 5).sum()) - 1  # the rest is one class
        assert many >= 10
        seen, expected = (np.append(each[:many], each[many:].sum()) for each in (seen, expected))
        assert stats.chisquare(seen, expected).pvalue > 1e-4


def test_samples_with_lookup_are_those_of_plain_decoding_by_seed():
    texts, options = prompts(8, 20), {"temperature": 0.9, "seed": 3}
    check_equal(generator_of("gpt2_tiny", **options).generate(texts),
                generator_of("gpt2_tiny", **options, **LOOKUP).generate(texts))


@pytest.mark.parametrize("how", [LOOKUP, pytest.param(DRAFT, marks=pytest.mark.slow)], ids=["lookup", "draft"])
def test_a_stream_is_what_generate_returns(how):
    generator = generator_of("gpt2_tiny", near("gpt2_tiny") if how is DRAFT else None, max_new_tokens=30, **how)
    text = [5, 6, 7, 5, 6] * 3
    found = generator.generate([text])
    streamed = [int(token[0]) for token in generator.stream([text])]
    assert [streamed] == found.token_ids.tolist() and generator.accepted == 2 * found.accepted[0] > 0
    with pytest.raises(ConfigError, match="got 2 prompts, but speculative decoding streams only one"):
        list(generator.stream([text, text]))


@pytest.mark.slow
def test_a_draft_whose_outputs_are_no_numbers_proposes_nothing_and_a_model_s_are_refused():
    model, texts = model_of("gpt2_tiny"), [[5, 6], [7, 8, 9]]
    bad = lambda outputs: model.logits(outputs) * float("nan")  # noqa: E731
    found = Generator(model.body, model.logits, Options(8), (model.body, bad)).generate(texts)
    assert not found.proposed.any() and (found.lengths == 8).all()
    with pytest.raises(DataError, match="outputs are NaN"):
        Generator(model.body, bad, Options(8), (model.body, model.logits)).generate(texts)


@pytest.mark.slow
def test_encoder_decoders_look_up_and_draft():
    model = build("t5_tiny", task="seq2seq", vocab_size=53, num_layers=1, hidden_dim=24, num_heads=4, ffn_dim=40)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    source = {"encoder_token_ids": tf.constant(rng.integers(3, 53, (4, 9)), tf.int32),
              "encoder_padding_mask": tf.ones([4, 9], tf.int32)}
    run = lambda draft=None, **options: Generator(  # noqa: E731
        model.body, model.logits, Options(12, temperature=0.0, **options), draft).generate([[0]] * 4, source)
    expected = run()
    check_equal(expected, run(**LOOKUP))
    check_equal(expected, run((model.body, model.logits)))


@pytest.mark.parametrize("others, options, says", [
    ({"vocab_size": 54}, {}, "the draft has 54 tokens, but the model has 53"),
    ({"max_length": 27}, {}, "the draft has 27 positions, but the model has 28"),
    ({}, {"num_beams": 2}, "a draft excludes beams and several answers"),
    ({}, {"num_return_sequences": 2, "temperature": 1.0}, "a draft excludes beams and several answers"),
    ({}, LOOKUP, "a draft and --prompt_lookup_num_tokens=4 exclude each other"),
    (None, {**LOOKUP, "num_beams": 2}, "--prompt_lookup_num_tokens excludes beams and several answers"),
    (None, {"prompt_lookup_num_tokens": -1}, "--prompt_lookup_num_tokens must be from 0"),
    (None, {"num_assistant_tokens": 0}, "--num_assistant_tokens must be from 1 to 1000, got 0")])
def test_what_makes_no_sense_together_is_refused(others, options, says):
    with pytest.raises(ConfigError, match=says):
        generator_of("gpt2_tiny", None if others is None else model_of("gpt2_tiny", **others), **options)


@pytest.mark.slow
def test_generate_reports_what_was_accepted_and_refuses_other_tokenizers(call, tmp_path):  # noqa: F811
    folder = saved(tmp_path / "model", load_tokenizer("bytes"))
    words = ("generate", f"--init={folder}", "--prompt=ab ab ab", "--temperature=0", "--max_new_tokens=12")
    code, plain, err = call(*words)
    assert code == 0 and "accepted" not in json.loads(err.splitlines()[-1])
    for how in (["--prompt_lookup_num_tokens=5"], [f"--draft={folder}", "--num_assistant_tokens=3"]):
        code, out, err = call(*words, *how)
        results = json.loads(err.splitlines()[-1])
        assert code == 0 and out == plain and 0 < results["accepted"] <= results["proposed"]
    assert results["accepted"] == results["proposed"]
    code, _, err = call(*words, "--num_assistant_tokens=3")
    assert code == 1 and "--num_assistant_tokens=3 requires --draft" in err
    code, _, err = call("export", f"--init={folder}", f"--output_dir={tmp_path / 'saved'}",
                        "--prompt_lookup_num_tokens=3")
    assert code == 1 and "speculative decoding is not available in a SavedModel" in err
    loaded, other = tfzoo.load(folder), tfzoo.load(folder)
    other.tokenizer.chat_template = "{{ messages }}"
    with pytest.raises(ConfigError, match="the draft has a different tokenizer"):
        loaded.generate(["a"], draft=other)
