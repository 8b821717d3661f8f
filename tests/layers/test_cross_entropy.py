"""Test that chunked cross-entropy and its gradients equal those of all logits, with only one chunk in memory."""
import numpy as np
import pytest
import tensorflow as tf

from tests.tasks.test_tasks import SMALL
from tfzoo.layers import cross_entropy
from tfzoo.layers.cross_entropy import projected_cross_entropy
from tfzoo.tasks import build, task_of

ROWS, WIDTH, WORDS = 22, 12, 53


def plain(hidden, table, bias, labels, weights, smoothing=0.0):
    logits = tf.cast(tf.matmul(hidden, tf.cast(table, hidden.dtype), transpose_b=True), tf.float32) + bias
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    right = tf.cast(tf.argmax(logits, 1, output_type=tf.int32) == labels, tf.float32)
    others = tf.ones_like(logits) * smoothing / (WORDS - 1)  # the targets, word by word
    targets = tf.where(tf.one_hot(labels, WORDS) > 0, 1 - smoothing, others)
    smoothed = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    return tuple(tf.reduce_sum(part * weights) for part in (losses, right, smoothed))


def inputs(dtype, seed=0):
    rng = np.random.default_rng(seed)
    hidden, table = rng.standard_normal((ROWS, WIDTH)), rng.standard_normal((WORDS, WIDTH)).astype(np.float32)
    labels = rng.integers(0, WORDS, ROWS).astype(np.int32)
    labels[::3] = (hidden @ table.T).argmax(1)[::3]  # some correct predictions
    weights = (rng.integers(0, 3, ROWS) / 2).astype(np.float32)
    return (tf.cast(hidden, dtype), tf.constant(table), tf.constant(rng.standard_normal(WORDS).astype(np.float32)),
            tf.constant(labels), tf.constant(weights))


def gradients_of(function, hidden, table, bias, *targets):
    with tf.GradientTape() as tape:
        tape.watch((hidden, table, bias))
        *sums, smoothed = function(hidden, table, bias, *targets)
        scaled = smoothed * 0.25
    return *sums, smoothed, *tape.gradient(scaled, (hidden, table, bias))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("dtype, bound", [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("rows_at_once", [ROWS, 11, 5, 1])  # with and without a partial last chunk
def test_chunks_give_what_all_logits_give(monkeypatch, rows_at_once, dtype, bound, smoothing):
    monkeypatch.setattr(cross_entropy, "CHUNK", rows_at_once * WORDS)
    values, smooth = inputs(dtype), tf.constant(smoothing) if smoothing else None
    chunked = tf.function(lambda *values: projected_cross_entropy(*values, training=True, smoothing=smooth),
                          autograph=False)
    expected, got = gradients_of(lambda *values: plain(*values, smoothing), *values), gradients_of(chunked, *values)
    assert float(got[1]) == float(expected[1]) > 0
    for one, other in zip(expected, got, strict=True):
        one, other = np.asarray(one, np.float32), np.asarray(other, np.float32)
        assert one.shape == other.shape and np.abs(one - other).max() <= bound * np.abs(one).max()
    evaluated = projected_cross_entropy(*values, smoothing=smooth)
    assert np.allclose(evaluated, got[:3], rtol=1e-6) and (got[0] == got[2]) == (smoothing == 0)


def test_no_tensor_of_a_long_batch_has_all_logits():
    rows, words, width = 8 * 1024, 50257, 8
    like = [tf.TensorSpec(shape, dtype) for shape, dtype in (
        ((rows, width), tf.bfloat16), ((words, width), tf.float32), ((words,), tf.float32), ((rows,), tf.int32),
        ((rows,), tf.float32))]
    run = tf.function(lambda *values: gradients_of(
        lambda *inputs: projected_cross_entropy(*inputs, training=True), *values), autograph=False)
    graph = run.get_concrete_function(*like).graph
    graphs = [graph, *(graph._get_function(name).graph for name in graph._functions)]
    sizes = [output.shape.num_elements() or 0 for one in graphs for op in one.get_operations() for output in op.outputs]
    assert cross_entropy.CHUNK / 2 < max(sizes) <= cross_entropy.CHUNK < rows * words / 6


def test_the_first_of_equal_logits_is_the_answer():
    hidden, table, weights = tf.zeros((3, WIDTH)), tf.ones((WORDS, WIDTH)), tf.ones(3)
    loss, right, _ = projected_cross_entropy(hidden, table, tf.zeros(WORDS), tf.constant([0, 1, 52]), weights)
    assert float(right) == 1 and float(loss) == pytest.approx(3 * np.log(WORDS), rel=1e-6)


def test_a_gradient_that_nobody_announced_is_refused():
    hidden, *rest = inputs("float32")
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        loss, *_ = projected_cross_entropy(hidden, *rest)
    with pytest.raises(ValueError, match="training=False"):
        tape.gradient(loss, hidden)


@pytest.mark.parametrize("name, task", [("bert_tiny", "masked_lm"), ("gpt2_tiny", "causal_lm")])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_language_model_gives_the_sums_of_its_own_logits(name, task, dtype):
    model = build(name, task=task, dtype=dtype, **SMALL)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.standard_normal(variable.shape).astype(np.float32) * 0.3)
    batch = {"token_ids": rng.integers(5, 53, (3, 9)).astype(np.int32)}
    targets = (3, 2) if task == "masked_lm" else (3, 9)
    if task == "masked_lm":
        batch["masked_positions"] = np.array([[1, 8], [3, 0], [0, 0]], np.int32)
    batch.update(labels=rng.integers(5, 53, targets).astype(np.int32),
                 weights=rng.random(targets).astype(np.float32))  # not exact in bfloat16
    with_logits, sums = model(batch), model(batch, only_read=True)
    assert "logits" not in sums
    one, other = (task_of(task, None).objective(lambda inputs: outputs, batch)[1] for outputs in (with_logits, sums))
    assert float(one["right"]) == pytest.approx(float(other["right"]), rel=1e-6)
    assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-6 if dtype == "float32" else 2e-4)
