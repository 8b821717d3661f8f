"""Test that both forms of each kernel are equal, and that skipping unread positions does not change the logits."""
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import check_layer
from tests.tasks.test_tasks import SMALL
from tfzoo.layers import Attention, Block, LayerNorm, context, kernels, training_step
from tfzoo.layers.norm import RMSNorm
from tfzoo.layers.positions import RelativePositions, rotary_table
from tfzoo.models.stack import Stack
from tfzoo.tasks import build

BATCH, LENGTH, WIDTH = 3, 7, 16


def compare(layer, call, variables=None):
    inputs = np.random.default_rng(0).standard_normal((BATCH, LENGTH, WIDTH)).astype(np.float32)
    check_layer(layer, call, inputs, variables)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_block_is_the_same_in_fused_kernels(norm_first, activation, masked):
    block = Block(4, WIDTH, 24, activation, norm_first, dropout=0.2, name="block_00")
    block.build()
    visible = None
    if masked:
        visible = tf.constant(np.arange(LENGTH)[None] < np.array([[7], [3], [1]]))[:, None, None, :]
    compare(block, lambda inputs: block(inputs, visible=visible, training=True))


LLAMA = {"activation": "swiglu", "norm_first": True, "use_bias": False, "num_kv_heads": 2, "norm": "rms"}
T5 = {"activation": "geglu_tanh", "norm_first": True, "use_bias": False, "norm": "rms", "scaled": False, "head_dim": 6}


@pytest.mark.parametrize("settings", [
    LLAMA, {**LLAMA, "qkv_bias": True}, {**LLAMA, "head_dim": 10, "num_kv_heads": 1}, T5,
    {**T5, "norm_first": False, "activation": "relu", "use_bias": True}])
@pytest.mark.parametrize("how", ["whole", "read", "remat"])
def test_a_block_of_llama_s_or_t5_s_kind_is_the_same_in_fused_kernels(settings, how):
    block = Block(4, WIDTH, 24, epsilon=1e-5, dropout=0.0 if how == "read" else 0.2, name="block_00", **settings)
    block.build()
    relative = RelativePositions(4, True, 8, 6, name="relative")
    relative.build()
    columns, with_bias = tf.range(LENGTH), not settings.get("scaled", True)
    visible = tf.constant(np.arange(LENGTH)[None] < np.array([[7], [3], [1]]))[:, None, None, :]
    rotary = None if with_bias else rotary_table(columns[None], block.attention.head_dim, 100.0)
    places = tf.constant([[0, 6], [2, 1], [0, 0]])

    def call(inputs):
        bias = relative(columns, columns) if with_bias else None
        with context.changed(remat=how == "remat"):
            return Stack([block], 1)(inputs, visible=visible, rotary=rotary, bias=bias, training=True)

    def read(inputs):
        bias = relative(columns, columns) if with_bias else None
        found = block(inputs, visible=visible, rotary=rotary, bias=bias, read=places, training=True)
        expected = tf.gather(call(inputs), places, axis=1, batch_dims=1)
        assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())
        return tf.reduce_sum(found, 1, keepdims=True) + 0 * inputs

    compare(block, read if how == "read" else call, relative.trainable_variables if with_bias else None)


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_a_norm_is_the_same_in_a_fused_kernel(kind):
    norm = kind(epsilon=1e-5, name="norm")
    norm.build((None, None, WIDTH))
    compare(norm, norm)


@pytest.mark.parametrize("num_heads, dropout", [(4, 0.0), (1, 0.4)])  # one head: both cases drop the same
@pytest.mark.parametrize("masked", [False, True])
def test_one_query_attends_without_keys_and_values_as_with_them(masked, num_heads, dropout):
    layer = Attention(num_heads, WIDTH, dropout, name="attention")
    layer.build()
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape).astype(np.float32) * 0.3)
    query, source = (tf.constant(rng.standard_normal((BATCH, size, WIDTH)).astype(np.float32)) for size in (1, LENGTH))
    visible = tf.constant(np.arange(LENGTH)[None] < np.array([[7], [3], [1]]))[:, None, None, :] if masked else None
    results = []
    for queries in (query, tf.concat([query, query], 1)):  # two queries take the plain path; their gradients add up
        with training_step(1, 2, 0), tf.GradientTape() as tape:
            tape.watch([queries, source])
            output = layer(queries, source=source, visible=visible, training=True)[:, :1]
            loss = tf.reduce_sum(output ** 2)
        of_query, *gradients = tape.gradient(loss, [queries, source, *(v.value for v in layer.trainable_variables)])
        results.append([output, of_query[:, :1], *gradients])
    for one, other in zip(*results, strict=True):
        assert np.abs(one - other).max() <= 2e-6 * np.abs(other).max() + 1e-5


def test_dropped_elements_have_no_gradient_and_the_others_the_scale():
    values = tf.ones((4, 5, 6))
    randomness = [tf.constant([1, 2], tf.uint32), tf.constant(3), tf.constant(0)]
    with tf.GradientTape() as tape:
        tape.watch(values)
        with context.changed(fused=True):
            dropped = kernels.dropout(values, kernels.Drop(0.25, randomness))
    assert np.array_equal(tape.gradient(dropped, values), dropped)
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_masks_are_as_random_as_they_should_be(rate):
    draw = tf.function(lambda key, step, row: kernels.keep_mask((64, 32, 32), rate, key, step, row), jit_compile=True)
    masks = [draw(tf.constant(key, tf.uint32), tf.constant(step), tf.constant(row)).numpy()
             for key, step, row in (((1, 2), 0, 0), ((1, 2), 1, 0), ((3, 2), 0, 0), ((1, 2), 0, 64))]
    size, kept = masks[0].size, 1 - rate
    five_sigma = 5 * np.sqrt(kept * rate / size)
    for mask in masks:
        assert abs(mask.mean() - kept) < five_sigma
        assert abs(mask.mean((1, 2)) - kept).max() < 5 * np.sqrt(kept * rate / 1024)  # each row
        assert abs(mask.mean((0,)) - kept).max() < 6 * np.sqrt(kept * rate / 64)  # each position
        for other in (np.roll(mask, 1, 0), np.roll(mask, 1, 2), np.roll(mask, 1, 1), *masks):  # pairs are independent
            if other is not mask:
                assert abs((mask & other).mean() - kept ** 2) < 5 * kept / np.sqrt(size) + 1e-4


@pytest.mark.parametrize("name, task", [
    ("bert_tiny", "masked_lm"), ("bert_tiny", "classification"), ("gpt2_tiny", "classification"),
    ("gpt2_tiny", "causal_lm"), ("roberta_tiny", "masked_lm"), ("albert_tiny_v1", "masked_lm"),
    ("electra_tiny", "classification"), ("distilbert_tiny", "classification"), ("llama_tiny", "classification"),
    ("mistral_tiny", "causal_lm"), ("qwen2_tiny", "classification")])
def test_what_the_head_does_not_read_changes_no_logits(name, task):
    model = build(name, task=task, labels=["a", "b"] if task == "classification" else None, **SMALL)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape).astype(np.float32) * 0.3)
    mask = (np.arange(9)[None] < np.array([[9], [4], [1]])).astype(np.int32)
    inputs = {"token_ids": rng.integers(5, 53, (3, 9)).astype(np.int32), "padding_mask": mask}
    if task == "masked_lm":
        inputs["masked_positions"] = np.array([[1, 8], [3, 0], [0, 0]], np.int32)
    whole, read = model(inputs), model(inputs, only_read=True)
    assert np.abs(whole["logits"] - read["logits"]).max() < 1e-5 * np.abs(whole["logits"]).max()
    assert ("read" in read) == (task != "causal_lm") and ("sequence" in read) == (task == "causal_lm")


def test_positions_of_packed_rows_see_their_own_document_only():
    model = build("bert_tiny", task="masked_lm", **SMALL)
    rng = np.random.default_rng(0)
    inputs = {"token_ids": rng.integers(5, 53, (2, 8)).astype(np.int32), "masked_positions": np.array([[1, 6], [2, 7]]),
              "document_ids": np.array([[1, 1, 1, 1, 2, 2, 2, 0]] * 2, np.int32)}
    whole, read = model(inputs)["logits"], model(inputs, only_read=True)["logits"]
    assert np.abs(whole - read).max() < 1e-5 * np.abs(whole).max()
