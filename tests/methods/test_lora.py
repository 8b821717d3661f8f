"""Test that all forms of LoRA are equal, frozen weights cost nothing, and splitting batches changes no update."""
import functools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.helpers import CHECKOUT, assign_reference, check_method, check_update, fill
from tests.models.test_golden import GOLDEN
from tests.tasks.test_tasks import SMALL
from tests.training.test_trainer import make_data
from tfzoo.errors import ConfigError
from tfzoo.layers import Linear, context, initial_weights, shapes_only, training_step
from tfzoo.methods import LoRA, Method, method_of
from tfzoo.methods.method import split
from tfzoo.models import build_body, family_of
from tfzoo.models.reference import name_in
from tfzoo.tasks import task_of
from tfzoo.training.optimizer import WarmUp, make_optimizer
from tfzoo.training.trainer import Trainer

T5 = {key: value for key, value in SMALL.items() if key != "max_length"} | {"head_dim": 6}
FAMILIES = {"bert_tiny": ("classification", SMALL), "gpt2_tiny": ("causal_lm", SMALL),
            "llama_tiny": ("causal_lm", SMALL), "t5_1.1_small": ("seq2seq", T5),
            "albert_tiny_v1": ("classification", {**SMALL, "embedding_dim": 12})}
KINDS = {"bert_tiny": ["query", "key", "value", "output", "up", "down", "pooler"],
         "gpt2_tiny": ["query", "key", "value", "output", "up", "down"],
         "llama_tiny": ["query", "key", "value", "output", "gate", "up", "down"],
         "t5_1.1_small": ["_attention/query", "_attention/key", "_attention/value", "_attention/output", "gate", "up",
                          "down"],
         "albert_tiny_v1": ["projection"]}
MADE = {}


def make(name, dtype=None, dropout=0.0, **sizes):
    """Return a task model with large weights, which are the same for each call with a name."""
    task, small = FAMILIES[name]
    labels = ["a", "b"] if task == "classification" else None
    with initial_weights(3):
        model = tfzoo.build(name, task=task, labels=labels, dtype=dtype, dropout=dropout,
                            **{**small, **sizes})
    fill(model.weights)
    return model


def inputs_of(model):
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 53, (3, 9)).astype(np.int32)
    mask = (np.arange(9)[None] < np.array([[9], [4], [7]])).astype(np.int32)
    if model.body.traits.source:
        return {"encoder_token_ids": tokens[:, :7], "encoder_padding_mask": mask[:, :7], "decoder_token_ids": tokens,
                "decoder_padding_mask": mask}
    return {"token_ids": tokens, "padding_mask": mask}


def logits_of(model, fused=False):
    inputs = inputs_of(model)
    if not fused:
        return np.asarray(model(inputs)["logits"], np.float64)
    with training_step(1, 2, 0):
        return np.asarray(model(inputs, only_read=True, training=True)["logits"], np.float64)


@pytest.mark.parametrize("name, kind", [
    pytest.param(name, kind, marks=[] if kind in KINDS[name][::4] else pytest.mark.slow)
    for name in FAMILIES for kind in KINDS[name]])
def test_training_plain_and_merged_are_one_function(name, kind):
    model = MADE.setdefault(name, make(name))
    fill(model.weights)  # replace the weights merged for the previous kind
    method = LoRA(rank=3, alpha=6.0, targets=kind)
    check_method(method, model, logits_of)
    method.prepare(model)
    assert model.body.adapters and all(kind.split("/")[-1] in path for path in model.body.adapters)
    method.merge(model)
    assert not split(model)[1]


@pytest.mark.parametrize("name", ["bert_tiny", "llama_tiny"])
def test_in_bfloat16_they_are_one_within_its_rounding(name):
    exact, model = make(name), make(name, "mixed_bfloat16")
    for each in (exact, model):
        LoRA(rank=3, alpha=6.0, targets=".*").prepare(each)
        fill([weight for weight in each.weights if "/lora_" in weight.path], 1)
    assert {weight.dtype for weight in model.weights} == {"float32"}  # Adam's moments would underflow in 16 bits
    expected = logits_of(exact)
    found = {"plain": logits_of(model), "trained": logits_of(model, fused=True)}
    LoRA().merge(model)
    found["merged"] = logits_of(model)
    errors = {how: np.sqrt(np.mean((value - expected) ** 2) / np.mean(expected ** 2)) for how, value in found.items()}
    assert max(errors.values()) < 0.05 and errors["plain"] < 2 * errors["merged"] + 0.01, errors


def test_one_step_on_a_linear_is_the_one_derived_by_hand():
    rng = np.random.default_rng(0)
    x, upstream = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 3, 4))
    linear = Linear(4, name="linear")
    linear.build((None, None, 5))
    linear.add_adapter(2, alpha=3.0)
    fill(linear.weights)
    w, bias, a, b = (weight.numpy().astype(np.float64) for weight in linear.weights)
    for fused in (False, True):
        with context.changed(fused=fused), tf.GradientTape() as tape:
            inputs = tf.constant(x, tf.float32)
            tape.watch(inputs)
            result = linear(inputs)
            loss = tf.reduce_sum(result * tf.constant(upstream, tf.float32))
        found = tape.gradient(loss, [inputs, linear.lora_a.value, linear.lora_b.value])
        flat, above = x.reshape(-1, 5), upstream.reshape(-1, 4)
        expected = [(above @ w.T + 1.5 * above @ b.T @ a.T).reshape(x.shape), 1.5 * flat.T @ above @ b.T,
                    1.5 * (flat @ a).T @ above]
        assert np.abs(result - (x @ w + bias + 1.5 * x @ a @ b)).max() < 1e-5
        for one, other in zip(found, expected):
            assert np.abs(one - other).max() < 1e-5
    assert np.abs(linear.weight() - (w + 1.5 * a @ b)).max() < 1e-6
    assert np.abs(linear.delta(inputs) - 1.5 * x @ a @ b).max() < 1e-5
    linear.lora_a.assign_sub(0.1 * found[1])  # an SGD step, merged, is a step of the effective kernel
    linear.lora_b.assign_sub(0.1 * found[2])
    linear.merge_adapter()
    assert np.abs(linear.kernel - (w + 1.5 * (a - 0.1 * expected[1]) @ (b - 0.1 * expected[2]))).max() < 1e-5


def test_adapters_begin_as_the_seed_and_their_path_say():
    a, b = (make("bert_tiny") for _ in range(2))
    for model, seed in ((a, 7), (b, 7)):
        with initial_weights(seed):
            LoRA(rank=2).prepare(model)
    found = {weight.path: weight.numpy() for weight in a.weights if "/lora_" in weight.path}
    again = {weight.path: weight.numpy() for weight in b.weights if "/lora_" in weight.path}
    assert all(np.array_equal(value, again[path]) for path, value in found.items())
    downs = [value for path, value in found.items() if path.endswith("lora_a")]
    assert len(downs) == 4 and not np.array_equal(downs[0], downs[1])
    assert all(0.5 * 24 ** -0.5 < np.abs(value).max() <= 24 ** -0.5 for value in downs)
    assert all(not value.any() for path, value in found.items() if path.endswith("lora_b"))


@pytest.mark.parametrize("name, expected", [("bert_base", 294_912), ("t5_base", 884_736), ("llama2_7b", 4_194_304)])
def test_counts_are_those_that_peft_gives(name, expected):
    with shapes_only():
        body = build_body(name)
        model = type("Model", (), {"body": body, "trainable_variables": body.trainable_variables})
        LoRA().prepare(model)
    assert sum(np.prod(weight.shape) for weight in body.weights if "/lora_" in weight.path) == expected


def make_trainer(name="bert_tiny", dropout=0.1, adapter_dropout=0.2, targets=None, dtype=None, made=None, **settings):
    keras.utils.set_random_seed(0)
    model = make(name, dtype, dropout)
    method = LoRA(rank=3, alpha=6.0, adapter_dropout=adapter_dropout, **({"targets": targets} if targets else {}))
    method.prepare(model)
    fill([weight for weight in model.weights if "/lora_" in weight.path], 1)
    updates = make_optimizer("adamw", WarmUp(1e-2, 20, 4), model.trainable_variables, 0.1, **(made or {}))
    task = FAMILIES[name][0]
    labels = ["a", "b"] if task == "classification" else None
    return Trainer(model, task_of(task, labels), updates, seed=5, method=method, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_what_is_frozen_has_no_gradient_and_no_slot_and_stays(remat):
    trainer = make_trainer(targets="query|value|down", remat=remat)
    trained, frozen = split(trainer.model)
    assert len(trainer.arrays()["model"]) == len(trained) and "lora" in trainer.method.report(trainer.model)
    slots = [v for v in trainer.optimizer.variables if v.path.endswith(("momentum", "velocity"))]
    assert len(slots) == 2 * len(trained)
    before, kept = ([weight.numpy() for weight in weights] for weights in (trained, frozen))
    assert trainer.train_step(make_data().batch(0))[2]
    assert all(not np.array_equal(weight, old) for weight, old in zip(trained, before))
    assert all(np.array_equal(weight, old) for weight, old in zip(frozen, kept))


def products_of(trainer, batch):
    """Return the output shapes of the matrix products that contribute to the results of a step: list of tuples."""
    batch = {key: tf.constant(value) for key, value in batch.items()}
    graph = tf.function(trainer._backward, autograph=False).get_concrete_function(
        batch, tf.constant(0, tf.int64), tf.constant(0, tf.int64), {"loss": tf.constant(8.0)}).graph
    left, seen = [tensor.op for tensor in tf.nest.flatten(graph.structured_outputs)], set()
    while left:
        op = left.pop()
        if op.name not in seen:
            seen.add(op.name)
            left += [tensor.op for tensor in op.inputs]
    return [tuple(op.outputs[0].shape) for op in graph.get_operations() if op.type == "MatMul" and op.name in seen]


@pytest.mark.parametrize("remat", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_product_makes_the_gradient_of_a_frozen_kernel(remat):
    batch = make_data().batch(0)
    found = products_of(make_trainer(adapter_dropout=0.0, remat=remat), batch)
    kernels = {(24, 72), (24, 24), (24, 40), (40, 24), (24, 48)}
    assert not [shape for shape in found if shape in kernels and shape != (24, 24)]
    assert found.count((24, 24)) <= 1 + 3  # the pooler, and A x B of the last block's keys and values
    whole = products_of(make_trainer_of_all(remat), batch)
    assert any(shape == (24, 72) for shape in whole) and any(shape == (40, 24) for shape in whole)


def make_trainer_of_all(remat):
    model = make("bert_tiny")
    optimizer = make_optimizer("adamw", 1e-3, model.trainable_variables)
    return Trainer(model, task_of("classification", ["a", "b"]), optimizer, remat=remat)


@functools.cache
def one_update():
    """Return (loss, gradient norm, optimizer arrays, a merged kernel) of an update without splits or XLA."""
    trainer = make_trainer(targets=".*")
    sums, norm, *_ = trainer.train_step(make_data().batch(0))
    optimizer = trainer.arrays()["optimizer"]
    trainer.method.merge(trainer.model)
    return float(sums["loss"]), float(norm), optimizer, trainer.model.body.linears["pooler"].kernel.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    {"microbatches": 4}, {"remat": True, "microbatches": 2, "xla": True}])
def test_one_update_however_it_is_split(settings):
    check_update(make_trainer(targets=".*", **settings), make_data().batch(0), *one_update()[:3])


@pytest.mark.slow
def test_resumed_equals_uninterrupted_to_the_bit():
    def weights_after(trainer, steps):
        for _ in trainer.train(make_data(), steps):
            continue
        return trainer.arrays()

    first, second = make_trainer(made={"ema_decay": 0.5}), make_trainer(made={"ema_decay": 0.5})
    beginning = first.arrays()
    whole = weights_after(first, 6)
    first.restore(beginning)
    second.restore(weights_after(first, 3))
    assert first.base == second.base and len(first.base) == 64
    resumed = weights_after(second, 6)
    for group in whole:
        for path, value in whole[group].items():
            assert np.array_equal(value, resumed[group][path]), path


def test_the_frozen_table_of_a_language_model_has_no_gradient():
    trainer = make_trainer("gpt2_tiny", adapter_dropout=0.0)
    tokens = np.random.default_rng(0).integers(5, 53, (8, 9)).astype(np.int32)
    batch = {"token_ids": tokens, "padding_mask": np.ones_like(tokens), "labels": np.roll(tokens, -1, 1),
             "weights": np.ones(tokens.shape, np.float32)}
    assert (53, 24) not in products_of(trainer, batch)
    assert trainer.train_step(batch)[2]


@pytest.mark.parametrize("settings, says", [
    ({"targets": "nothing"}, "matches no projection"), ({"targets": "embeddings/token"}, "a token table"),
    ({"targets": "head/dense"}, "matches no projection"), ({"rank": 0}, "rank must be .* 1 to 24, .* got 0"),
    ({"rank": 25}, "rank must be an integer from 1 to 24, .* got 25"), ({"rank": 2.0}, "an integer .* got 2.0"),
    ({"alpha": 0}, "alpha must be a finite number above 0, got 0"),
    ({"alpha": float("nan")}, "alpha must be a finite number above 0, got nan"),
    ({"adapter_dropout": 1.0}, "adapter_dropout must be at least 0 and less than 1, got 1.0")])
def test_refused_in_one_line_and_nothing_is_changed(settings, says):
    model = MADE.setdefault("bert_tiny", make("bert_tiny"))
    with pytest.raises(ConfigError, match=says) as caught:
        LoRA(**settings).prepare(model)
    assert str(caught.value).isprintable() and not model.body.adapters and not split(model)[1]


def test_other_refusals():
    with pytest.raises(ConfigError, match="targets must be a valid regular expression, got '\\('"):
        LoRA(targets="(")
    with pytest.raises(ConfigError, match="unknown method 'dora'; choose from .*full.*lora"):
        method_of("dora")
    model = make("bert_tiny")
    LoRA(rank=2).prepare(model)
    LoRA(rank=2).prepare(model)  # the same adapters are kept
    with pytest.raises(ConfigError, match="different adapters .*: merge them first"):
        LoRA(rank=3).prepare(model)
    with pytest.raises(ValueError, match="variables other than the trainable ones"):
        Trainer(model, task_of("classification", ["a", "b"]), make_optimizer("adamw", 1e-3, model.weights))


@pytest.mark.slow
def test_hooks_are_called_where_they_say():
    class Doubled(Method):
        def objective(self, inner):
            def objective(forward, batch):
                terms, sums = inner(forward, batch)
                again, _ = inner(lambda inputs: forward(inputs, draw=1), batch)  # a second pass has different masks
                assert model.body.embeddings.dropout.rate == 0  # so both passes are the same here
                return {name: terms[name] + again[name] for name in terms}, sums
            return objective

        def after_gradients(self, gradients, step):
            return [gradient / 2 + 0 * tf.cast(step, gradient.dtype) for gradient in gradients]

    found = []
    for method in (None, Doubled()):
        model = make("bert_tiny", num_layers=1)
        optimizer = make_optimizer("adamw", 1e-3, model.trainable_variables)
        trainer = Trainer(model, task_of("classification", ["a", "b"]), optimizer, method=method, microbatches=2)
        found.append([trainer.train_step(make_data().batch(0))[1], *trainer.arrays()["model"].values()])
    for one, other in zip(*found):
        assert np.abs(one - other).max() < 1e-6


ON_DEVICES = """
import sys
import numpy as np
from tests.methods.test_lora import make_trainer
from tests.training.test_trainer import make_data
from tfzoo.training.strategy import make_strategy
strategy = make_strategy("mirrored", 2)
with strategy.scope():
    trainer = make_trainer(targets=".*", strategy=strategy, remat=True, microbatches=2)
assert trainer.train_step(make_data().batch(0))[2]
found = {path: value for path, value in trainer.arrays()["optimizer"].items() if "momentum" in path}
trainer.method.merge(trainer.model)
np.savez(sys.argv[1], **found, kernel=trainer.model.body.linears["pooler"].kernel.numpy())
"""


@pytest.mark.slow
def test_one_update_on_two_devices(tmp_path):
    subprocess.run([sys.executable, "-c", ON_DEVICES, str(tmp_path / "found.npz")], check=True, cwd=CHECKOUT,
                   capture_output=True)
    *_, expected, kernel = one_update()
    found = np.load(tmp_path / "found.npz")
    assert len(found.files) == 1 + sum("momentum" in path for path in expected)
    for path in found.files:
        if path != "kernel":
            assert np.abs(found[path] - expected[path]).max() < 1e-6, path
    assert np.abs(found["kernel"] - kernel).max() < 1e-4


@pytest.mark.parametrize("name, task, prefix", [("bert", "classification", "bert."),
                                                ("gpt2", "causal_lm", "transformer.")])
def test_logits_are_peft_s(name, task, prefix):
    golden = np.load(GOLDEN / "lora.npz")
    model = tfzoo.build(f"{name}_tiny", task=task, labels=["a", "b"] if task == "classification" else None,
                        **json.loads(str(golden["about"]))["config"])
    weights = {key.split(":", 2)[2]: golden[key] for key in golden if key.startswith(f"{name}:weight:")}
    body = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    assign_reference(model.body, body, family_of(name))
    if task == "classification":
        model.head.dense.kernel.assign(weights["classifier.weight"].T)
        model.head.dense.bias.assign(weights["classifier.bias"])
    targets = {"bert": "query|value|up", "gpt2": "attention/(query|key|value)|down"}[name]
    method = LoRA(rank=3, alpha=6.0, targets=targets)
    method.prepare(model)
    for path, linear in model.body.linears.items():
        if linear.rank:
            layer, _ = name_in(family_of(name).reference.names, f"{path}/kernel")
            a, b = (golden[f"{name}:base_model.model.{prefix}{layer}.lora_{side}.default.weight"].T for side in "AB")
            linear.lora_a.assign(a)  # in GPT-2, query, key and value share A; each has its columns of B
            place = ["query", "key", "value"].index(path.split("/")[-1]) if layer.endswith("c_attn") else 0
            linear.lora_b.assign(b[:, place * linear.units:(place + 1) * linear.units])
    real = golden["padding_mask"].astype(bool) if task == "causal_lm" else slice(None)
    inputs = {key: golden[key] for key in ("token_ids", "padding_mask")}
    size = np.abs(golden[f"{name}:logits"]).max()
    assert np.abs(np.asarray(model(inputs)["logits"]) - golden[f"{name}:logits"])[real].max() < 1e-5 * size
    method.merge(model)
    assert np.abs(np.asarray(model(inputs)["logits"]) - golden[f"{name}:merged"])[real].max() < 1e-5 * size
