"""The loop's promises: one update however the batch is cut or compiled, exact resume, no decay of biases and norms."""
import keras
import numpy as np
import pytest

from tests.tasks.test_tasks import SMALL, TOKENIZER
from tfzoo import build
from tfzoo.data.encode import EncodedTexts
from tfzoo.tasks import TextBatches, task_of
from tfzoo.training.optimizer import WarmUp, make_optimizer
from tfzoo.training.trainer import Trainer


def make_data(task="classification"):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 14, 61)
    edges = np.cumsum([0, *lengths])
    encoded = EncodedTexts(rng.integers(4, 53, lengths.sum()).astype(np.int32), edges[:-1], edges[1:])
    labels = (rng.random(61) > 0.5).astype(np.int32) if task == "classification" else None
    return TextBatches((encoded,), TOKENIZER, labels, 8, 16, 3, shuffle=True)


def make_trainer(task="classification", optimizer="adamw", **settings):
    labels = ["a", "b"] if task == "classification" else None
    keras.utils.set_random_seed(0)
    model = build("bert_tiny", task=task, labels=labels, **SMALL)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape).astype(np.float32))
    updates = make_optimizer(optimizer, WarmUp(1e-3, 20, 4), model.trainable_variables, 0.1)
    return Trainer(model, task_of(task, labels), updates, seed=5, **settings)


def weights_after(trainer, steps, task="classification"):
    for _ in trainer.train(make_data(task), steps):
        continue
    return trainer.arrays()


@pytest.mark.parametrize("task", ["classification", "masked_lm"])
@pytest.mark.parametrize("settings", [{"microbatches": 2}, {"microbatches": 4, "xla": True}, {"xla": True}])
def test_updates_do_not_depend_on_microbatches_or_the_compiler(task, settings):
    one, two = make_trainer(task), make_trainer(task, **settings)
    batch = make_data(task).batch(0)
    (sums, norm), (other_sums, other_norm) = one.train_step(batch), two.train_step(batch)
    assert float(norm) == pytest.approx(float(other_norm), rel=1e-4)
    assert float(sums["loss"]) == pytest.approx(float(other_sums["loss"]), rel=1e-5)
    # The momentum after one step is the clipped gradient x 0.1: compared where rounding is not magnified by Adam.
    for path, value in one.arrays()["optimizer"].items():
        if "momentum" in path:
            assert np.abs(value - two.arrays()["optimizer"][path]).max() < 1e-6, path


def test_resumed_equals_uninterrupted_to_the_bit():
    whole = weights_after(make_trainer(), 12)
    first = make_trainer()
    weights_after(first, 5)
    second = make_trainer()
    second.restore(first.arrays())
    resumed = weights_after(second, 12)
    for group in whole:
        for path, value in whole[group].items():
            assert np.array_equal(value, resumed[group][path]), path


def test_training_learns_and_evaluation_counts_each_example_once():
    trainer = make_trainer()
    data = make_data()
    data.labels = np.array([data.encoded[0][n][0] > 28 for n in range(61)]).astype(np.int32)
    before = trainer.evaluate(data)
    steps = [step for step, *_ in trainer.train(data, 20)]
    after = trainer.evaluate(data)
    assert after["loss"] < before["loss"] and steps == list(range(1, 21))
    total = trainer.task.metrics
    trainer.task.metrics = lambda sums, raw_bytes: sums
    assert trainer.evaluate(data)["count"] == 61
    trainer.task.metrics = total


def test_biases_and_norms_do_not_decay():
    trainer = make_trainer()
    before = trainer.arrays()["model"]
    trainer.optimizer.apply([np.zeros(v.shape, np.float32) for v in trainer.model.trainable_variables])
    for path, value in trainer.arrays()["model"].items():
        decays = path.split("/")[-1] not in ("bias", "gamma", "beta")
        expected = before[path] * (1 - 0.1 * 1e-3 / 4) if decays else before[path]
        assert np.allclose(value, expected, rtol=1e-6, atol=0), path
        assert np.array_equal(value, before[path]) != decays, path


def test_bert_adamw_has_no_bias_correction():
    trainer = make_trainer(optimizer="bert_adamw", clip_norm=0.0)
    before = trainer.arrays()["model"]
    trainer.train_step(make_data().batch(0))
    after = trainer.arrays()
    moments = {path.split("_momentum")[0].split("/", 1)[1]: value for path, value in after["optimizer"].items()
               if path.endswith("_momentum")}
    path = "block_00/attention/value/bias"
    m = moments[path.replace("/", "_")]
    gradient = m / 0.1
    expected = before[path] - 1e-3 / 4 * m / (np.sqrt(0.001 * gradient ** 2) + 1e-6)
    assert np.abs(after["model"][path] - expected).max() < 1e-7


@pytest.mark.parametrize("kind, middle", [("linear", 0.5), ("cosine", 0.5), ("constant", 1.0)])
def test_schedules(kind, middle):
    schedule = WarmUp(2.0, 30, 10, kind)
    assert float(schedule(0)) == pytest.approx(0.2)
    assert float(schedule(9)) == pytest.approx(2.0)
    assert float(schedule(20)) == pytest.approx(2 * middle)
