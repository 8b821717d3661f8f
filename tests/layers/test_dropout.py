"""Test that dropout masks depend on seed, step, layer and row, but not on how the batch is split or compiled."""
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers import Dropout, training_step
from tfzoo.models import build_body


def draw(first, rows, step=3, seed=1, name="dropout", jit=False, width=7):
    layer = Dropout(0.3, name=name)

    @tf.function(jit_compile=jit)
    def run(step, first):
        with training_step(seed, step, first):
            return layer(tf.ones((rows, 5, width)), training=True)
    return run(tf.constant(step), tf.constant(first)).numpy()


@pytest.mark.parametrize("jit", [False, True])
def test_slices_draw_the_bits_of_the_whole(jit):
    whole = draw(0, 8)
    assert np.array_equal(whole, np.concatenate([draw(0, 3, jit=jit), draw(3, 5, jit=jit)]))


def test_seed_step_and_layer_change_the_bits():
    whole = draw(0, 8)
    for other in (draw(0, 8, step=4), draw(0, 8, seed=2), draw(0, 8, name="another")):
        assert not np.array_equal(whole, other)


def test_rate_and_scale():
    drawn = draw(0, 400, width=64)
    assert set(np.unique(drawn)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((drawn == 0).mean() - 0.3) < 0.01
    assert np.array_equal(Dropout(0.3)(np.ones((2, 2), np.float32)), np.ones((2, 2)))


def test_each_dropout_of_a_model_has_a_path_of_its_own():
    body = build_body("bert_tiny", vocab_size=20, hidden_dim=16, num_heads=2, ffn_dim=16)
    paths = [layer.path for layer in body._flatten_layers() if isinstance(layer, Dropout)]
    assert len(paths) == 1 + 2 * 3 and len(set(paths)) == len(paths) and None not in paths
