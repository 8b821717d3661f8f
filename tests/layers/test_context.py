"""Test that the context is per thread: results of building and dropout do not depend on other threads."""
import random
import threading

import keras
import numpy as np
import tensorflow as tf

from tfzoo.layers import Block, Dropout, blank_weights, context, initial_weights, training_step
from tfzoo.models import build_body
from tfzoo.models.stack import Stack

SIZES = {"vocab_size": 20, "hidden_dim": 16, "num_heads": 2, "ffn_dim": 16}


def side_by_side(*functions):
    """Run functions in threads that wait for each other at each `meet`; return their results."""
    barrier, results = threading.Barrier(len(functions), timeout=60), [None] * len(functions)

    def run(number):
        results[number] = functions[number](barrier.wait)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_threads_draw_and_build_as_alone():
    layer = Dropout(0.5, name="dropout")
    layer.build()

    def work(seed, draw):
        def run(meet):
            with initial_weights(seed), training_step(seed, 3, 0), context.changed(draw=draw):
                meet()
                body = build_body("bert_tiny", **SIZES)
                dropped = [layer(tf.ones((4, 9)), training=True).numpy()]
                meet()
                dropped.append(layer(tf.ones((4, 9)), training=True).numpy())
                meet()
            meet()
            assert context.current() == context.Context()
            return [*dropped, *body.get_weights()]
        return run

    works = [work(1, 0), work(2, 1), work(1, 1)]
    together = side_by_side(*works)
    for alone, beside in zip([side_by_side(one)[0] for one in works], together):
        assert all(np.array_equal(one, other) for one, other in zip(alone, beside, strict=True))
    assert not np.array_equal(together[0][0], together[2][0])


def test_passes_of_another_number_drop_others_and_the_same_number_the_same():
    block = Block(2, 16, 16, dropout=0.5, name="block_00")
    block.build()
    hidden = tf.random.stateless_normal((2, 5, 16), (1, 2))
    with training_step(1, 2, 0):
        first, again = block(hidden, training=True), block(hidden, training=True)
        with context.changed(draw=1):
            second = block(hidden, training=True)
    assert np.array_equal(first, again) and not np.allclose(first, second)


def test_a_shared_block_drops_others_each_time_and_the_same_when_it_is_rematerialized():
    layer = Dropout(0.5, name="dropout")
    layer.build()

    class Shared(keras.layers.Layer):
        attention = cross_attention = None

        def call(self, hidden, bias=None, source=None, visible=None, rotary=None, source_visible=None, cache=None,
                 read=None, rows=None, taps=None, training=None):
            return hidden + layer(tf.ones_like(hidden), training=training)

    block, hidden, results = Shared(), tf.zeros((3, 4, 8)), []
    for remat in (False, True):
        with training_step(1, 2, 0, remat), tf.GradientTape() as tape:
            tape.watch(hidden)
            output = Stack([block], 3)(hidden, training=True)
            squared = tf.reduce_sum(output ** 3)
        results.append([output, tape.gradient(squared, hidden)])
    assert set(np.unique(results[0][0])) == {0, 2, 4, 6}  # using the same mask three times would give only 0 and 6
    assert all(np.array_equal(one, other) for one, other in zip(*results))


def test_initial_weights_are_a_function_of_seed_and_path_and_move_no_generator():
    def built(seed, **sizes):
        with initial_weights(seed):
            body = build_body("bert_tiny", **{**SIZES, **sizes})
        return {variable.path: variable.numpy() for variable in body.trainable_variables}

    random.seed(5), np.random.seed(5), keras.utils.set_random_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()
    two, three, other = built(1, num_layers=2), built(1, num_layers=3), built(2, num_layers=2)
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]
    assert all(np.array_equal(value, three[path]) for path, value in two.items())
    kernels = [path for path in two if path.endswith("kernel") or path.startswith("embeddings/")][:8]
    assert not any(np.allclose(two[path], other[path]) for path in kernels if "norm" not in path)
    assert not np.allclose(two["block_00/attention/query/kernel"], two["block_00/attention/key/kernel"])
    flat = np.concatenate([value.ravel() for path, value in three.items() if path.endswith("kernel")])
    assert abs(flat.std() / 0.02 - 0.88) < 0.02 and np.abs(flat).max() <= 0.04
    assert abs(flat.mean()) < 5 * 0.0176 / flat.size ** 0.5


def test_what_another_thread_builds_while_one_reads_weights_is_not_blank():
    def build():
        return build_body("bert_tiny", **{**SIZES, "num_layers": 1, "num_heads": 2, "max_length": 8})

    def read(meet):
        with blank_weights():
            meet()
            body = build()
            meet()
        return body

    def make(meet):
        meet()
        body = build()
        meet()
        return body

    blank, fresh = side_by_side(read, make)
    assert not np.any(blank.embeddings.token) and np.std(fresh.embeddings.token) > 0.01
