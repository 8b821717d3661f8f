"""Checks that every layer, model and task must pass, and access to the development data."""
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tfzoo.checkpoints.huggingface import Names
from tfzoo.errors import DataError
from tfzoo.layers import context, training_step

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


# Replaces the package with an empty one, since the real tfzoo/__init__.py imports TensorFlow, which takes seconds.
BARE = ("import sys, types\nsys.modules['tfzoo'] = package = types.ModuleType('tfzoo')\n"
        f"package.__path__ = [{str(CHECKOUT / 'tfzoo')!r}]\n")


def run_bare(code, *words):
    """Run Python code in a separate process and return its stdout.

    It may only import modules of tfzoo that do not need TensorFlow.
    """
    done = subprocess.run([sys.executable, "-c", BARE + code, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def data_dir():
    """Return the folder of development data ($TFZOO_DATA), or skip the test if it does not exist."""
    folder = pathlib.Path(os.environ.get("TFZOO_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}: set TFZOO_DATA")
    return folder


def vocab_dir():
    """Return the folder of published vocabularies next to the development data, or skip the test."""
    folder = data_dir().parent / "vocab"
    if not folder.is_dir():
        pytest.skip(f"no vocabularies at {folder}")
    return folder


def checkpoint_dir():
    """Return the folder of real checkpoints next to the development data, or skip the test."""
    folder = data_dir().parent / "checkpoints"
    if not folder.is_dir():
        pytest.skip(f"no checkpoints at {folder}")
    return folder


def memory(field):
    """Return a memory field of this process's /proc status, such as "VmRSS", in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(f"{field}:"))


def refused(folder, says, error=DataError):
    """Assert that loading a folder fails with a one-line message and takes less than 200 MB of memory."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # reset the peak memory
    before = memory("VmRSS")
    with pytest.raises(error, match=says) as caught:
        tfzoo.load(folder)
    line = str(caught.value).replace(str(folder), "FOLDER")
    assert line.isprintable() and len(line) < 400, line
    taken = memory("VmHWM") - before
    assert taken < 200e6, f"{taken:,} bytes were taken"


def fill(variables, seed=0):
    """Fill variables with large random values seeded by their paths: initial zeros and ones could hide errors."""
    for variable in variables:
        rng = np.random.default_rng([seed, *variable.path.encode()])
        variable.assign(rng.standard_normal(variable.shape).astype(np.float32) * 0.3)


def check_layer(layer, call, inputs, variables=None):
    """Assert that a layer gives the same output and gradients with and without fused kernels, dropout included.

    Args:
        layer: built Layer; its variables are overwritten.
        call: callable that takes the inputs and returns an output of the same shape.
        inputs: float32 array.
        variables: list of variables to check in addition to those of the layer.
    """
    variables = [*layer.trainable_variables, *(variables or [])]
    fill(variables)
    weight = np.random.default_rng(9).standard_normal(inputs.shape).astype(np.float32)
    found = []
    for fused in (False, True):
        values = tf.constant(inputs)
        with training_step(1, 2, 0), context.changed(fused=fused), tf.GradientTape() as tape:
            tape.watch(values)
            output = call(values)
            loss = tf.reduce_sum(tf.cast(output, tf.float32) * weight)
        gradients = tape.gradient(loss, [values, *(variable.value for variable in variables)])
        found.append([output, *map(tf.convert_to_tensor, gradients)])
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape and np.abs(one - other).max() <= 2e-6 * np.abs(one).max() + 1e-5


def inputs_of(body, target):
    """Return the inputs of a body for the token ids `target` (int32 [B, T]), with a random source if it needs one."""
    source = np.random.default_rng(1).integers(5, 50, (len(target), 6)).astype(np.int32)
    return {"encoder_token_ids": source, "decoder_token_ids": target} if body.traits.source else {"token_ids": target}


def check_body(make, folder):
    """Assert the contract of a body.

    A saved and loaded body has the same outputs and paths; padding does not change the outputs of other positions;
    packed documents give the same outputs as separate ones; every weight gets a gradient; outputs in bfloat16 are close
    to those in float32.

    Args:
        make: callable that takes further arguments and returns a Body with at least 50 tokens and 16 positions.
        folder: path of an empty folder.
    """
    body, target = make(), np.random.default_rng(0).integers(5, 50, (3, 16)).astype(np.int32)
    side = "decoder_" if body.traits.source else ""
    whole = body(inputs_of(body, target))
    body.save(folder / "body.keras")
    again = keras.models.load_model(folder / "body.keras")
    assert [v.path for v in body.trainable_variables] == [v.path for v in again.trainable_variables]
    for key, value in again(inputs_of(again, target)).items():
        assert np.array_equal(value, whole[key])

    mask = np.repeat([[1] * 10 + [0] * 6], 3, axis=0).astype(np.int32)
    kept, other = (body({**inputs_of(body, ids), f"{side}padding_mask": mask})["sequence"][:, :10]
                   for ids in (target, np.where(mask, target, 7)))
    assert np.array_equal(kept, other)
    assert np.abs(kept - body(inputs_of(body, target[:, :10]))["sequence"]).max() < 1e-5

    if not body.traits.source:
        packed = body({"token_ids": target, "document_ids": np.repeat([[1] * 9 + [2] * 7], 3, axis=0),
                       "position_ids": np.repeat([[*range(9), *range(7)]], 3, axis=0)})["sequence"]
        apart = [body({"token_ids": part})["sequence"] for part in (target[:, :9], target[:, 9:])]
        assert np.abs(packed - np.concatenate(apart, axis=1)).max() < 1e-5

    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(value ** 3) for value in body(inputs_of(body, target), training=True).values())
    for variable, gradient in zip(body.trainable_variables, tape.gradient(loss, body.trainable_variables)):
        # The bias of the keys shifts all scores of a row equally, so its gradient is zero except for rounding.
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0 or variable.path.endswith("key/bias"), variable.path
    half = make(dtype="mixed_bfloat16")
    half.set_weights(body.get_weights())
    assert np.abs(tf.cast(half(inputs_of(half, target))["sequence"], tf.float32) - whole["sequence"]).max() < 0.1


def check_task(model, batch, folder):
    """Assert the contract of a task's head and objective.

    A saved and loaded model has the same task and outputs; every weight gets a gradient; each sum over a batch equals
    the total over its parts, however it is divided.

    Args:
        model: TaskModel without dropout.
        batch: dict of arrays with at least two rows.
        folder: path of an empty folder.

    Returns:
        (dict, dict): the loss terms of the batch, and its sums for metrics.
    """
    def objective(rows):
        return model.task.objective(lambda given: model(given, only_read=True, training=True), rows)

    with tf.GradientTape() as tape:
        terms, sums = objective(batch)
        loss = tf.add_n(list(terms.values()))
    assert np.isfinite(loss)
    for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables)):
        assert gradient is not None, variable.path
    parts = [objective({key: value[rows] for key, value in batch.items()}) for rows in (slice(0, 1), slice(1, None))]
    for whole, first, rest in zip((terms, sums), *parts):
        for name, value in whole.items():
            assert np.asarray(first[name] + rest[name]) == pytest.approx(np.asarray(value), rel=1e-5, abs=1e-6), name
    assert terms.keys() == model.task.counts(batch).keys()

    model.save(folder / "model.keras")
    again = keras.models.load_model(folder / "model.keras")
    assert (again.task.name, again.task.labels, again.task.settings) == (
        model.task.name, model.task.labels, model.task.settings)
    one, other = model(batch), again(batch)
    assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
    return terms, sums


def check_method(method, model, logits_of):
    """Assert that a method starts from the outputs of its model, and that training, inference and merging agree.

    Args:
        method: Method.
        model: TaskModel with large weights.
        logits_of: callable that takes the model and `fused` (bool) and returns the logits as a float array.
    """
    before, owned = logits_of(model, False), {id(variable) for variable in model.weights}
    method.prepare(model)
    # If the method adds no weights, use those that it trains.
    added = [variable for variable in model.weights if id(variable) not in owned] or model.trainable_variables
    assert np.array_equal(logits_of(model, False), before)
    fill(added, 1)
    plain, trained = logits_of(model, False), logits_of(model, True)
    method.merge(model)
    merged = logits_of(model, False)
    assert {id(variable) for variable in model.weights} == owned
    size = np.abs(plain).max()
    assert np.abs(plain - before).max() > 5e-4 * size  # the trained weights have an effect
    assert np.abs(trained - plain).max() < 2e-5 * size and np.abs(merged - plain).max() < 2e-5 * size


def check_update(trainer, batch, loss, norm, optimizer):
    """Assert that a trainer's first update has the given loss, gradient norm and optimizer state."""
    sums, other_norm, *_ = trainer.train_step(batch)
    assert float(other_norm) == pytest.approx(norm, rel=1e-4)
    assert float(sums["loss"]) == pytest.approx(loss, rel=1e-5)
    # After one step, the momentum is the clipped gradient x 0.1, without Adam's magnified rounding.
    arrays = trainer.arrays()["optimizer"]
    momenta = [path for path in optimizer if "momentum" in path]
    assert momenta and arrays.keys() == optimizer.keys()
    for path in momenta:
        assert np.abs(arrays[path] - optimizer[path]).max() < 1e-6, path


def damaged(content, rng, end=None):
    """Return a copy of some bytes with random bytes before `end` changed, deleted, inserted or repeated."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, min(len(content), end or len(content))))
        kind = rng.integers(4)
        if kind == 0:
            content[place] = rng.integers(256)
        elif kind == 1:
            del content[place:place + int(rng.integers(1, 9))]
        elif kind == 2:
            content[place:place] = rng.bytes(int(rng.integers(1, 9)))
        else:
            content[place:place] = content[place:place + int(rng.integers(1, 40))]
    return bytes(content)


def assign_reference(body, weights, family):
    """Fill a body with the weights of a reference implementation, using the name map of its family.

    Args:
        body: Body.
        weights: dict of the reference's name -> array; must contain every weight of the body.
        family: module with a REFERENCE.
    """
    for name, (variables, turned) in Names(family.reference, None, "").plan(body.weights).items():
        value = weights[name].T if turned else weights[name]
        for variable, part in zip(variables, np.split(value, len(variables), axis=-1)):
            variable.assign(part)


def real_lines():
    """Return 10,000 real lines: 2,500 of each side of English-German and English-Chinese translations."""
    lines = []
    for pair in ("translation_en_de", "translation_en_zh"):
        with open(data_dir() / pair / "train.tsv", encoding="utf-8") as file:
            next(file)
            rows = [line.rstrip("\n").split("\t") for line, _ in zip(file, range(2500))]
        lines += [row[side] for side in (0, 1) for row in rows]
    return lines


def hostile_texts(count=200):
    """Return texts as bytes: empty text, emoji, CJK, combining accents, NUL, controls, long words, invalid UTF-8."""
    fixed = ["", " ", "\t\n", "plain text", "Ünïcödé ÀÉÎ", "e\u0301a\u0308", "\u4e2d\u6587 \u65e5\u672c",
             "\U0001f600 ok \U0001f468\u200d\U0001f469", "nul \x00 inside", "\x01\x7f\x85", "x" * 5000,
             "\u0436" * 101, "a" * 100, "[CLS] [SEP] [MASK] [PAD]", "don't... \u00bd \u2026", "\u200b\ufeff\u00ad",
             "\u202e right", b"\xff\xfe broken", b"cut \xe4\xb8", b"\xed\xa0\x80", "\ufffd", "tab\tand\r\nbreak"]
    rng = np.random.default_rng(0)
    ranges = [(32, 127), (0xa0, 0x250), (0x370, 0x600), (0x4e00, 0x4e40), (0x1f600, 0x1f640), (0, 32), (0x300, 0x330)]
    texts = list(fixed)
    while len(texts) < count:
        low, high = ranges[rng.integers(len(ranges))]
        words = ["".join(map(chr, rng.integers(low, high, rng.integers(1, 12)))) for _ in range(rng.integers(1, 15))]
        text = " ".join(words)
        texts.append(text if rng.random() < 0.8 else rng.bytes(rng.integers(1, 40)))
    return [text.encode("utf-8", "replace") if isinstance(text, str) else text for text in texts]
