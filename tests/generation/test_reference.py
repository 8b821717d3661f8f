"""Compare generated ids, scores and processed logits with those of transformers (tests/golden/make_generation.py)."""
import functools
import gzip
import json
import types

import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.differential.generation import generated, options_of, padded, source_of
from tests.golden import generation
from tests.helpers import CHECKOUT
from tfzoo.generation.decode import decode
from tfzoo.generation.processors import History, process
from tfzoo.generation.sampling import warp

with gzip.open(CHECKOUT / "tests" / "golden" / "generation.json.gz") as file:
    GOLDEN = json.load(file)
FAST = (4, 6, 7, 33)  # with and without beams, decoders and encoder-decoders, a window, several options together


@functools.lru_cache
def model_of(family, folder):
    generation.write_folder(GOLDEN["models"][family], folder / family)
    return tfzoo.load(folder / family).model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def check_answers(case, ids, lengths, scores=None, log_probabilities=None):
    """Compare the answers to a case."""
    assert [row[:length].tolist() for row, length in zip(ids, lengths)] == [row["ids"] for row in case["rows"]]
    if scores is not None:
        np.testing.assert_allclose(scores, [row["score"] for row in case["rows"]], rtol=2e-5, atol=2e-5)
    if log_probabilities is not None:
        for values, row in zip(log_probabilities, case["rows"]):
            np.testing.assert_allclose(values[:len(row["ids"])], row["log_probabilities"], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("number", FAST)
def test_a_generator_gives_the_reference_s_answers(number, folder):
    case = GOLDEN["cases"][number]
    check_answers(case, *generated(model_of(case["family"], folder), case)[:4])


@pytest.mark.slow
@pytest.mark.parametrize("family", GOLDEN["models"])
def test_all_options_give_the_reference_s_answers(family, folder):
    model = model_of(family, folder)
    # The loop runs eagerly, with the model traced once for all options: that takes a third of the time.
    start, step = (tf.function(each, autograph=False, reduce_retracing=True) for each in (
        model.body.start, model.body.step))
    body = types.SimpleNamespace(start=start, step=step, reorder=model.body.reorder)
    for case in GOLDEN["cases"]:
        if case["family"] != family:
            continue
        inputs = dict(zip(("token_ids", "padding_mask"), padded(case["prompts"], True, columns=12)))
        if "source" in case:
            inputs = {**{f"decoder_{name}": value for name, value in inputs.items()},
                      **source_of(case["source"], columns=20)}
        options = options_of(case["options"], log_probabilities="num_beams" not in case["options"])
        found = decode(body, model.logits, {name: tf.constant(value) for name, value in inputs.items()}, options,
                       length=generation.ROOM, count=options.max_new_tokens)
        found = {name: value.numpy() for name, value in found.items()}
        check_answers(case, found["token_ids"], found["length"], found.get("scores"), found.get("log_probabilities"))


@pytest.mark.parametrize("number", range(len(GOLDEN["processed"])))
def test_processed_logits_are_the_reference_s(number):
    case = GOLDEN["processed"][number]
    history, source = tf.constant(GOLDEN["history"]), tf.constant(GOLDEN["source"])
    options = options_of({"temperature": 1.0, "eos_token_id": [1], **case["options"]})
    logits = process(tf.constant(GOLDEN["logits"]), History(
        tf.pad(history, [[0, 0], [0, 2]]), tf.range(11)[None] < tf.fill([3, 1], 9), tf.constant(9), tf.constant(4),
        source, tf.ones_like(source, tf.bool)), options)
    expected = np.array(case["logits"], np.float32)  # NaN stands for minus infinity
    found = warp(logits, options, keep=case["least"]).numpy()
    assert (np.isinf(found) == np.isnan(expected)).all()
    np.testing.assert_allclose(found[~np.isnan(expected)], expected[~np.isnan(expected)], rtol=2e-6, atol=2e-6)


def test_the_golden_file_covers_every_option():
    cases = GOLDEN["cases"]
    for name in generation.SINGLE:
        assert {"num_beams" in case["options"] for case in cases if case["options"].get(name)} == {False, True}, name
    kinds = {(case["options"]["early_stopping"], np.sign(case["options"]["length_penalty"])) for case in cases
             if case["options"].get("num_beams") and case["options"]["eos_token_id"]}
    assert {kind for kind, _ in kinds} == {True, False, "never"} and {sign for _, sign in kinds} == {-1, 0, 1}
    assert sum(len({tuple(row["ids"]) for row in case["rows"]}) for case in cases) > 100
