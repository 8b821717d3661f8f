"""Test that blockwise attention equals plain attention, even with dropout, and its memory is linear in the length."""
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import CHECKOUT
from tests.training.test_trainer import make_data, make_trainer
from tfzoo.layers import Attention, Taps, attention, blockwise, context, kernels, training_step

BATCH, HEADS, WIDTH = 2, 4, 16


@pytest.fixture
def in_blocks(monkeypatch):
    """Return a function that selects attention in blocks of at most 4 query rows, or plain attention."""
    def choose(chosen=True):
        monkeypatch.setattr(blockwise, "LARGE", 0 if chosen else math.inf)
        monkeypatch.setattr(blockwise, "BLOCK", 4)
    return choose


def make(dropout=0.0, dtype=None):
    layer = Attention(HEADS, WIDTH, dropout, name="attention", dtype=dtype)
    layer.build()
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape).astype(np.float32) * 0.3)
    return layer


def make_mask(kind, queries, keys):
    padding = (np.arange(keys)[None] < np.array([[keys], [3]]))[:, None, None]
    causal = (np.arange(queries)[:, None] >= np.arange(keys))[None, None]
    return {"all": None, "padding": padding, "causal": causal, "both": padding & causal,
            "heads": np.random.default_rng(3).random((BATCH, HEADS, queries, keys)) > 0.5}[kind]


def results_of(layer, length, mask, training=True, keyed=True, source_length=None, jit=False, eager=False):
    """Return the output of a layer and the gradients of its inputs and variables, as float32 arrays."""
    rng = np.random.default_rng(1)
    given = [tf.constant(rng.standard_normal((BATCH, size, WIDTH)), layer.compute_dtype)
             for size in (length, source_length) if size]
    weight = rng.standard_normal((BATCH, length, WIDTH)).astype(np.float32)
    visible = make_mask(mask, length, source_length or length)

    def run(*given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            output = layer(*given, visible=None if visible is None else tf.constant(visible), training=training)
            loss = tf.reduce_sum(tf.cast(output, tf.float32) * weight)
        variables = [variable.value for variable in layer.trainable_variables if variable is not layer.key.bias]
        gradients = tape.gradient(loss, [*given, *variables])  # the gradient of the key bias is zero up to rounding
        return [tf.cast(value, tf.float32) for value in (output, *gradients)]

    def keyed_run(*given):
        if not keyed:
            return run(*given)
        with training_step(1, 2, 3):
            return run(*given)

    call = keyed_run if eager else tf.function(keyed_run, jit_compile=jit, autograph=False)
    return [value.numpy() for value in call(*given)]


def assert_close(one, other, bound=2e-6):
    for number, (value, same) in enumerate(zip(one, other, strict=True)):
        assert value.shape == same.shape
        assert np.abs(value - same).max() <= bound * np.abs(value).max(), number


MASKED = [(3, "all"), (8, "padding"), (8, "heads"), (11, "causal"), (11, "both")]  # lengths and masks


@pytest.mark.parametrize("settings, length, mask", [
    *(pytest.param(settings, *masked, marks=[] if masked == MASKED[-1] else pytest.mark.slow) for masked in MASKED
      for settings in ({}, {"dropout": 0.3}, {"keyed": False}, {"dropout": 0.3, "jit": True},
                       {"dropout": 0.3, "eager": True},
                       {"training": False, "dropout": 0.3}, {"training": False, "jit": True, "keyed": False}))],
    ids=str)
def test_blocks_equal_the_plain_attention(in_blocks, settings, length, mask):
    settings = dict(settings)
    layer = make(settings.pop("dropout", 0.0))
    in_blocks(False)
    plain = results_of(layer, length, mask, **settings)
    in_blocks()
    assert_close(plain, results_of(layer, length, mask, **settings))


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("mask", ["all", "padding", "heads"])
def test_blocks_equal_plain_cross_attention(in_blocks, mask, keyed):
    layer = make(0.3 if keyed else 0.0)
    in_blocks(False)
    plain = results_of(layer, 11, mask, source_length=7, keyed=keyed)
    in_blocks()
    assert_close(plain, results_of(layer, 11, mask, source_length=7, keyed=keyed))


@pytest.mark.parametrize("settings, length", [  # 3 blocks; or 256, whose sums require float32
    ({"training": False}, 11), ({"keyed": False}, 11), ({"dropout": 0.3}, 11),
    *(pytest.param(settings, 1024, marks=pytest.mark.slow) for settings in (
        {"training": False}, {"keyed": False}, {"dropout": 0.3}))],
    ids=str)
def test_blocks_in_bfloat16_are_as_near_to_float32_as_the_plain_attention(in_blocks, settings, length):
    settings = dict(settings)
    dropout = settings.pop("dropout", 0.0)
    in_blocks(False)
    exact = results_of(make(dropout), length, "padding", **settings)
    plain = results_of(make(dropout, "mixed_bfloat16"), length, "padding", **settings)
    in_blocks()
    blocks = results_of(make(dropout, "mixed_bfloat16"), length, "padding", **settings)
    for value, one, other in zip(exact, plain, blocks, strict=True):
        assert np.linalg.norm(other - value) <= 1.5 * np.linalg.norm(one - value)


def test_blocks_drop_what_the_whole_does_at_any_size():
    def mix(bits):  # Wellons' lowbias32
        bits = (bits ^ (bits >> 16)) * 0x7FEB352D & 0xFFFFFFFF
        bits = (bits ^ (bits >> 15)) * 0x846CA68B & 0xFFFFFFFF
        return bits ^ (bits >> 16)

    heads, length, first, step, row, rate = 60, 8192, 8190, 7, 5, 0.3  # 4.03e9 positions, below 2 ** 32
    key = [1, 2]
    drop = kernels.Drop(rate, [tf.constant(key, tf.uint32), tf.constant(step), tf.constant(row)])
    with context.changed(fused=True):
        scores = tf.zeros((1, heads, 2, length))
        dropped = kernels.softmax(scores, 1.0, drop=drop, first=first, length=length)[0].numpy()
    one, other = (mix(mix(row) ^ mix(word ^ mix(step + 0x9E3779B9))) for word in key)
    places = np.ravel_multi_index(np.ix_(range(heads), [first, first + 1], range(length)), (heads, length, length))
    assert places.max() == heads * length ** 2 - 1
    assert np.array_equal(dropped > 0, mix(places ^ one) ^ other >= round(rate * 2 ** 32))


def test_without_a_key_both_passes_drop_the_same_and_steps_differ(in_blocks):
    layer = make(0.5)
    layer.query.kernel.assign(tf.zeros_like(layer.query.kernel))  # then the output is linear in the inputs
    for projection in (layer.query, layer.key, layer.value, layer.output_projection):
        projection.bias.assign(tf.zeros_like(projection.bias))
    in_blocks()
    inputs = tf.random.stateless_normal((BATCH, 11, WIDTH), (1, 2))
    outputs = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs.append(layer(inputs, training=True))
            loss = tf.reduce_sum(outputs[-1])
        assert np.sum(tape.gradient(loss, inputs) * inputs) == pytest.approx(float(loss), rel=1e-4)
    assert not np.allclose(*outputs)
    assert not np.allclose(outputs[0], layer(inputs))


def test_probabilities_few_scores_and_unknown_shapes_take_the_plain_path(in_blocks, monkeypatch):
    layer, inputs = make(), tf.ones((BATCH, 6, WIDTH))
    in_blocks()
    taken = []
    monkeypatch.setattr(attention, "attend_in_blocks", lambda mix, queries, *given: taken.append(1) or queries)
    layer(inputs, taps=Taps(["probabilities"]))
    run = tf.function(lambda inputs: layer(inputs), autograph=False)
    run.get_concrete_function(tf.TensorSpec((None, 6, WIDTH)))
    run.get_concrete_function(tf.TensorSpec((BATCH, None, WIDTH)))
    monkeypatch.setattr(blockwise, "LARGE", BATCH * HEADS * 6 * 6)
    layer(inputs)
    assert not taken
    monkeypatch.setattr(blockwise, "LARGE", BATCH * HEADS * 6 * 6 - 1)
    layer(inputs)
    assert taken


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"remat": True, "microbatches": 2}, {"xla": True, "remat": True}], ids=str)
def test_an_update_is_the_same(in_blocks, settings):
    batch, results = make_data().batch(0), []
    for chosen in (False, True):
        in_blocks(chosen)
        sums, norm, *_ = make_trainer(**settings).train_step(batch)
        results.append((float(norm), float(sums["loss"])))
    assert results[0] == pytest.approx(results[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("xla", ["no_xla", "xla"])
def test_memory_grows_with_the_length_and_not_its_square(xla):
    def peak(system, length):
        done = subprocess.run([sys.executable, "-m", "benchmarks.attention", f"--variant={system} {xla} {length}",
                               "--num_heads=4", "--rounds=1"], cwd=CHECKOUT, capture_output=True, text=True,
                              env={**os.environ, "TF_XLA_FLAGS": ""})  # a compilation cache also takes memory
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])["peak_bytes"]

    peaks = [peak("blocks", length) for length in (2048, 4096, 8192)]
    assert peaks[1] < 2.6 * peaks[0] and peaks[2] < 2.6 * peaks[1], peaks
    # XLA's compiler takes at least half of the peak, which depends on the machine and not on the length.
    compiler = peak("blocks", 256) if xla == "xla" else 0
    assert peaks[1] - compiler < (peak("plain", 4096) - compiler) / 4, peaks
