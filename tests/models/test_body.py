"""Test the interface of a body: read, keep, embedded, and cached decoding of prompts of different lengths."""
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import inputs_of
from tests.models.test_models import SMALL
from tfzoo.errors import ConfigError
from tfzoo.models import build_body

NAMES = ["bert_tiny", "albert_tiny_v1", "gpt2_tiny", "mistral_tiny", "t5_tiny"]
DECODING = ["gpt2_tiny", "gpt_tiny", "llama_tiny", "mistral_tiny", "t5_tiny", "transformer_tiny"]


def make(name):
    own = {"window": 3} if name == "mistral_tiny" else {}
    body = build_body(name, **{key: value for key, value in SMALL.items() if key != "max_length"}, **own)
    rng = np.random.default_rng(0)
    for variable in body.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape).astype(np.float32) * 0.3)
    return body


@pytest.fixture(params=NAMES)
def body(request):
    return make(request.param)


@pytest.fixture
def inputs(body):
    return inputs_of(body, np.random.default_rng(2).integers(5, 50, (2, 7)).astype(np.int32))


def test_what_is_read_and_kept_is_part_of_the_whole(body, inputs):
    last = "decoder_block_01" if body.traits.source else "block_01"
    kind = f"{last}/attention/probabilities"
    positions = np.array([[6, 0], [3, 3]], np.int32)
    whole, read = body(inputs), body(inputs, read=positions)
    kept = body(inputs, read=positions, keep=[last, kind, last.replace("_01", "_00")])
    expected = tf.gather(whole["sequence"], positions, batch_dims=1)
    for outputs in (read, kept):
        assert np.abs(outputs["read"] - expected).max() < 1e-5 * np.abs(expected).max()
    assert kept[last].shape == whole["sequence"].shape and kept[kind].shape[2:] == (7, 7)
    assert np.abs(tf.reduce_sum(kept[kind], -1) - 1).max() < 1e-5
    if body.norm if not body.traits.source else body.decoder_norm:
        norm = body.decoder_norm if body.traits.source else body.norm
        assert np.abs(norm(kept[last]) - whole["sequence"]).max() < 1e-4
    else:
        assert np.abs(kept[last] - whole["sequence"]).max() < 1e-5


def dense(gradient):
    return gradient if gradient is None else tf.convert_to_tensor(gradient)


def test_a_matrix_of_all_rows_gives_the_numbers_and_gradients_of_texts(body, inputs):
    for layer in body._flatten_layers():
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    found = []
    for training in (False, True):  # the first computes with one matrix of all rows
        with tf.GradientTape() as tape:
            sequence = body(inputs, training=training)["sequence"]
            loss = tf.reduce_sum(sequence * np.random.default_rng(1).standard_normal(sequence.shape))
        gradients = tape.gradient(loss, body.trainable_variables)
        found.append([sequence, *(gradient for gradient in map(dense, gradients) if gradient is not None)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * float(tf.reduce_max(tf.abs(other))))


@pytest.mark.parametrize("name", ["bert_tiny", "gpt2_tiny"])
def test_more_layers_add_no_computation_of_shapes_and_all_products_have_their_biases(name):
    counts = []
    for layers in (1, 3):
        body = build_body(name, **{**SMALL, "num_layers": layers}, **({"pooler": False} if name == "bert_tiny" else {}))
        spec = {key: tf.TensorSpec([None, None], tf.int32) for key in ("token_ids", "padding_mask")}
        graph = tf.function(lambda given: body(given, training=False)["sequence"], input_signature=[spec],
                            autograph=False).get_concrete_function().graph.as_graph_def()
        counts.append(sum(node.op in ("Shape", "StridedSlice") for node in graph.node))
        products = {node.name for node in graph.node if node.op == "MatMul"}
        assert len(products) == 6 * layers
        assert products == {node.input[0] for node in graph.node if node.op == "BiasAdd"}
    assert counts[0] == counts[1]


@pytest.mark.parametrize("keep, says", [(["block_99"], "choose from (encoder_)?embeddings"), ("block_00", "a list of")])
def test_unknown_intermediates_are_refused(body, inputs, keep, says):
    with pytest.raises(ConfigError, match=says):
        body(inputs, keep=keep)


def test_embedded_stands_in_for_the_token_table(body, inputs):
    rows = {key: tf.gather(body.embeddings.token, value) for key, value in inputs.items()}
    if body.traits.source:
        embedded, left = {"encoder": rows["encoder_token_ids"], "decoder": rows["decoder_token_ids"]}, {}
    else:
        embedded, left = rows["token_ids"], {} if not body.config.get("position_offset") else inputs
    with tf.GradientTape() as tape:
        tape.watch(embedded)
        outputs = body(left, embedded=embedded)
        loss = tf.reduce_sum(outputs["sequence"] ** 2)
    assert np.array_equal(outputs["sequence"], body(inputs)["sequence"])
    assert all(np.abs(each).max() > 0 for each in tf.nest.flatten(tape.gradient(loss, embedded)))


@pytest.mark.parametrize("name", DECODING)
def test_prompts_of_different_lengths_decode_together_each_as_alone(name):
    body = make(name)
    lengths, more = (5, 1, 3), np.random.default_rng(3).integers(5, 50, (3, 4)).astype(np.int32)
    target = np.random.default_rng(2).integers(5, 50, (3, 5)).astype(np.int32)
    real = (np.arange(5)[None] >= 5 - np.array(lengths)[:, None]).astype(np.int32)
    inputs = inputs_of(body, target)
    before = "decoder_" if body.traits.source else ""
    outputs, state = body.start({**inputs, f"{before}padding_mask": real}, 12)
    parts = [outputs["sequence"]]
    for first, last in ((0, 1), (1, 3), (3, 4)):
        outputs, state = body.step(more[:, first:last], state)
        parts.append(outputs["sequence"])
    swapped = body.reorder(state, np.array([2, 2, 0]))
    again = body.step(more[[2, 2, 0], :1], swapped)[0]["sequence"]
    found = np.concatenate(parts, axis=1)
    for row, length in enumerate(lengths):
        alone = {key: value[row:row + 1] for key, value in inputs.items()}
        ids = np.concatenate([target[row, 5 - length:], more[row], more[row, :1]])[None]
        whole = body({**alone, f"{before}token_ids": ids})["sequence"][0]
        assert np.abs(found[row] - whole[length - 1:-1]).max() < 1e-5 * max(1, np.abs(whole).max())
        for place in np.flatnonzero(np.array([2, 2, 0]) == row):
            assert np.abs(again[place, 0] - whole[-1]).max() < 1e-5 * max(1, np.abs(whole).max())


@pytest.mark.parametrize("name", ["gpt2_tiny", "t5_tiny"])
def test_no_column_is_decoded_beyond_the_length(name):
    body, more = make(name), np.full((2, 2), 7, np.int32)
    inputs = inputs_of(body, np.full((2, 3), 6, np.int32))
    with pytest.raises(ConfigError, match="got 3 columns, but start reserved only 2"):
        body.start(inputs, 2)
    state = body.start(inputs, 4)[1]
    with pytest.raises(ConfigError, match="got 5 columns, but start reserved only 4"):
        body.step(more, state)
    with pytest.raises(tf.errors.InvalidArgumentError, match="start reserved 4 columns"):
        tf.function(body.step)(tf.constant(more), state)
    body.step(more[:, :1], state)


def test_encoders_do_not_decode():
    body = make("bert_tiny")
    assert not body.traits.cached and not body.traits.causal
    with pytest.raises(ConfigError, match="cannot decode"):
        body.start({"token_ids": np.array([[5]])}, 3)
