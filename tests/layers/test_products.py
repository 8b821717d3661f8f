"""Test that bfloat16 products and their gradients are rounded once, even on machines that would truncate them."""
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers import context, products


def test_no_kernel_is_widened_before_its_product_is_due(monkeypatch):
    monkeypatch.setattr(products, "rounds_bfloat16", lambda: False)
    spec = tf.TensorSpec((4, 4), tf.bfloat16)
    graph = tf.function(products.multiply).get_concrete_function(spec, spec).graph
    widened = [op for op in graph.get_operations() if op.type == "Cast" and op.outputs[0].dtype == tf.float32]
    assert len(widened) == 2 and all(len({*op.control_inputs, op.inputs[0].op}) == 2 for op in widened)


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("leading", [(), (2, 3)])
def test_product_and_gradients_are_the_exact_ones_rounded(monkeypatch, here, transpose_a, transpose_b, leading):
    if not here:  # as on a machine that truncates
        monkeypatch.setattr(products, "rounds_bfloat16", lambda: False)
    rng = np.random.default_rng(0)
    shapes = ((5, 4) if transpose_a else (4, 5)), ((3, 5) if transpose_b else (5, 3)), (4, 3)
    left, right, upstream = (tf.cast(rng.standard_normal((*leading, *shape)), tf.bfloat16) for shape in shapes)
    with tf.GradientTape() as tape:
        tape.watch([left, right])
        product = products.multiply(left, right, transpose_a=transpose_a, transpose_b=transpose_b)
    found = [product, *tape.gradient(product, [left, right], upstream)]
    one, other, above = (np.asarray(tf.cast(each, tf.float64)) for each in (left, right, upstream))
    one, other = one.swapaxes(-1, -2) if transpose_a else one, other.swapaxes(-1, -2) if transpose_b else other
    of_one, of_other = above @ other.swapaxes(-1, -2), one.swapaxes(-1, -2) @ above
    expected = [one @ other, of_one.swapaxes(-1, -2) if transpose_a else of_one,
                of_other.swapaxes(-1, -2) if transpose_b else of_other]
    for value, exact in zip(found, expected):
        assert value.dtype == tf.bfloat16
        half = 2 ** -9 * 2 ** np.ceil(np.log2(np.abs(exact)))  # half the value of the last of 8 bits
        assert (np.abs(tf.cast(value, tf.float64) - exact) <= half + 1e-6).all()  # plus the error of sums in float32


def test_a_product_of_one_row_in_a_decoding_loop_is_the_exact_one_rounded():
    rng = np.random.default_rng(0)
    left, right = (tf.cast(rng.standard_normal(shape), tf.bfloat16) for shape in ((1, 70), (50, 70)))

    @tf.function
    def run(left, right):
        with context.changed(prepared=context.Prepared()):
            return products.multiply(left, right, transpose_b=True)

    graph = run.get_concrete_function(left, right).graph
    assert [op.type for op in graph.get_operations() if op.type in ("MatMul", "Empty", "BiasAdd")] == [
        "MatMul", "Empty", "BiasAdd"]
    exact = np.asarray(tf.cast(left, tf.float64)) @ np.asarray(tf.cast(right, tf.float64)).T
    half = 2 ** -9 * 2 ** np.ceil(np.log2(np.abs(exact)))
    assert (np.abs(tf.cast(run(left, right), tf.float64) - exact) <= half + 1e-6).all()
