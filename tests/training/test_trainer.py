"""The trainer: updates independent of microbatches and XLA, exact resume, optimizers, averages, schedules."""
import functools
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import check_update
from tests.tasks.test_tasks import SMALL, TOKENIZER
from tfzoo import build
from tfzoo.data.batches import TextBatches
from tfzoo.data.encode import EncodedTexts
from tfzoo.errors import ConfigError, OutOfMemory
from tfzoo.tasks import task_of
from tfzoo.tasks.text_task import labelled
from tfzoo.tasks.masked_lm import masked
from tfzoo.training.checkpointing import Checkpoints
from tfzoo.training.loop import Loop, Pace
from tfzoo.training.optimizer import WarmUp, make_optimizer, rate_scales
from tfzoo.training.run_folder import RunFolder
from tfzoo.training.trainer import Trainer


def make_data(task="classification", labels=None, multiple=16):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 14, 61)
    edges = np.cumsum([0, *lengths])
    encoded = EncodedTexts(rng.integers(4, 53, lengths.sum()).astype(np.int32), edges[:-1], edges[1:])
    data = TextBatches((encoded,), TOKENIZER, 8, 16, 3, shuffle=True, multiple=multiple)
    if task == "masked_lm":
        return masked(data, TOKENIZER, 3)
    labels = rng.random(61) > 0.5 if labels is None else [labels(encoded[number]) for number in range(61)]
    return labelled(data, np.asarray(labels, np.int32))


def make_trainer(task="classification", optimizer="adamw", made=None, num_layers=2, **settings):
    labels = ["a", "b"] if task == "classification" else None
    keras.utils.set_random_seed(0)
    sizes = {**SMALL, "num_layers": num_layers}
    model = build("bert_tiny", task=task, labels=labels, dtype=settings.pop("dtype", None), **sizes)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape).astype(np.float32))
    updates = make_optimizer(optimizer, WarmUp(1e-3, 20, 4), model.trainable_variables, 0.1, **(made or {}))
    return Trainer(model, task_of(task, labels), updates, seed=5, **settings)


@functools.cache
def _shared():
    trainer = make_trainer()
    return trainer, trainer.arrays()


def shared_trainer():
    """Return the shared `make_trainer()` trainer, reset to its initial state, so that its step is traced only once."""
    trainer, beginning = _shared()
    trainer.restore(beginning)
    return trainer


def test_no_weights_are_trained_where_tensorflow_may_use_old_ones(monkeypatch):
    monkeypatch.setenv("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    with pytest.raises(ConfigError, match="TF_ONEDNN_ASSUME_FROZEN_WEIGHTS=1 lets TensorFlow use old weights"):
        make_trainer()


@pytest.mark.slow
def test_an_update_is_divided_by_its_weights_however_small_they_are():
    batch = make_data().batch(0)
    small = {**batch, "weights": batch["weights"] * np.float32(2.0 ** -9)}
    loss, norm, optimizer = one_update("classification")
    check_update(shared_trainer(), small, loss * 2.0 ** -9, norm=norm, optimizer=optimizer)


@functools.cache
def one_update(task):
    """Return (loss, gradient norm, optimizer arrays) of an update without microbatches or XLA."""
    trainer = shared_trainer() if task == "classification" else make_trainer(task)
    sums, norm, *_ = trainer.train_step(make_data(task).batch(0))
    return float(sums["loss"]), float(norm), trainer.arrays()["optimizer"]


@pytest.mark.parametrize("task, settings", [
    ("classification", {"microbatches": 2, "remat": True}),
    *(pytest.param("classification", settings, marks=pytest.mark.slow) for settings in (
        {"microbatches": 4, "remat": True, "xla": True}, {"remat": True, "xla": True})),
    *(pytest.param("masked_lm", settings, marks=pytest.mark.slow) for settings in (
        {"remat": True, "microbatches": 2}, {"microbatches": 4, "xla": True}, {"remat": True, "xla": True}))])
def test_updates_do_not_depend_on_microbatches_or_the_compiler(task, settings):
    check_update(make_trainer(task, **settings), make_data(task).batch(0), *one_update(task))


def test_resumed_equals_uninterrupted_to_the_bit_through_a_run_s_folder(tmp_path):
    def go(folder, steps, trainer):
        data = make_data()
        with RunFolder(folder) as run_folder:
            state = run_folder.create("--x", {"x": 1})
            loop = Loop(trainer, data, run_folder, Checkpoints(folder / "checkpoints", 2), Pace(steps, 5, 5, 5), data)
            if state == "resumable":
                loop.resume(loop.checkpoints.latest())
            loop.run_to_end()
        return loop.checkpoints.load(steps)[0]
    go(tmp_path / "cut", 7, shared_trainer())
    whole, cut = go(tmp_path / "whole", 12, shared_trainer()), go(tmp_path / "cut", 12, make_trainer())
    for group in whole:
        for name, value in whole[group].items():
            assert np.array_equal(value, cut[group][name]), name


@pytest.mark.parametrize("batch_seconds, share", [(0.0, 0.0), (0.03, 0.5)])
def test_records_have_the_share_of_the_time_that_was_waiting_for_data(batch_seconds, share, tmp_path, monkeypatch,
                                                                      capsys):
    trainer, data = shared_trainer(), make_data()
    batch = data.batch(0)
    result = trainer.train_step(batch)
    trainer.optimizer.iterations.assign(0)

    def sleeps(seconds, answer):
        time.sleep(seconds)
        return answer

    monkeypatch.setattr(data, "batch", lambda step: sleeps(batch_seconds, batch))
    monkeypatch.setattr(trainer, "train_step", lambda batch, stop: sleeps(0.015, result))
    with RunFolder(tmp_path) as run_folder:
        run_folder.create("--x", {"x": 1})
        Loop(trainer, data, run_folder, Checkpoints(tmp_path / "checkpoints", 2), Pace(20, 10, 0, 20)).run_to_end()
        waits = [record["data_wait"] for record in run_folder.records()]
    lines = [line for line in capsys.readouterr().err.splitlines() if "waiting for data" in line]
    # The prefetch thread takes 30 ms per batch, half of which is hidden by the step of 15 ms.
    assert waits == [pytest.approx(share, abs=0.1 if share else 0.02)] * 2
    assert len(lines) == (3 if share else 0) and (not share or "keep --data and $TFZOO_CACHE" in lines[-1])


def test_training_learns_and_evaluation_counts_each_example_once():
    trainer = shared_trainer()
    data = make_data(labels=lambda tokens: tokens[0] > 28)
    before = trainer.evaluator.evaluate(data)
    steps = [step for step, *_ in trainer.train(data, 20)]
    after = trainer.evaluator.evaluate(data)
    assert after["loss"] < before["loss"] and steps == list(range(1, 21))
    total = trainer.task.metrics
    trainer.task.metrics = lambda sums, answers, references: sums
    assert trainer.evaluator.evaluate(data)["count"] == 61
    trainer.task.metrics = total


def test_biases_and_norms_do_not_decay():
    trainer = shared_trainer()
    before = trainer.arrays()["model"]
    trainer.optimizer.apply([np.zeros(v.shape, np.float32) for v in trainer.model.trainable_variables])
    for path, value in trainer.arrays()["model"].items():
        decays = path.split("/")[-1] not in ("bias", "gamma", "beta")
        expected = before[path] * (1 - 0.1 * 1e-3 / 4) if decays else before[path]
        assert np.allclose(value, expected, rtol=1e-6, atol=0), path
        assert np.array_equal(value, before[path]) != decays, path


def test_bert_adamw_has_no_bias_correction():
    trainer = make_trainer(optimizer="bert_adamw", clip_norm=0.0, num_layers=1)
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


@pytest.mark.parametrize("kind, middle, end", [("linear", 0.5, 0), ("cosine", 0.5, 0), ("constant", 1, 1),
                                               ("polynomial", 0.25, 0), ("inverse_sqrt", (10 / 21) ** 0.5,
                                                                         (10 / 31) ** 0.5)])
def test_schedules(kind, middle, end):
    schedule = WarmUp(2.0, 30, 10, kind)
    assert float(schedule(0)) == pytest.approx(0.2)
    assert float(schedule(9)) == pytest.approx(2.0)
    assert float(schedule(20)) == pytest.approx(2 * middle)
    assert float(schedule(30)) == pytest.approx(2 * end)
    assert WarmUp.from_config(schedule.get_config()).get_config() == schedule.get_config()


@pytest.mark.parametrize("name, own", [
    ("adamw", {"beta_2": 0.999, "epsilon": 1e-6}),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (("lamb", {"beta_2": 0.999, "epsilon": 1e-6}),
                                                               ("adafactor", {})))])
def test_updates_are_those_of_keras_own_optimizer(name, own):
    trainer = make_trainer(optimizer=name)
    variables = [keras.Variable(v.numpy(), name=v.name) for v in trainer.model.trainable_variables]
    plain = {"adamw": keras.optimizers.AdamW, "lamb": keras.optimizers.Lamb, "adafactor": keras.optimizers.Adafactor}
    plain = plain[name](WarmUp(1e-3, 20, 4), weight_decay=0.1, **own)
    decays = [v.path.split("/")[-1] not in ("bias", "gamma", "beta") for v in trainer.model.trainable_variables]
    plain.exclude_from_weight_decay(var_list=[v for v, yes in zip(variables, decays) if not yes])
    plain.build(variables)
    rng = np.random.default_rng(0)
    for _ in range(3):
        gradients = [rng.standard_normal(v.shape).astype(np.float32) for v in variables]
        plain.apply(gradients)
        trainer.optimizer.apply(gradients)
    for one, other in zip(variables, trainer.model.trainable_variables):
        assert np.abs(one.numpy() - other.numpy()).max() < 1e-7, other.path
    arrays = trainer.arrays()["optimizer"]
    assert len(arrays) == len(trainer.optimizer.variables) == len(plain.variables)


def test_each_variable_of_a_strategy_has_an_update_of_its_own():
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])  # has distributed variables, as with several workers
    with strategy.scope():
        mirrored = make_trainer(strategy=strategy)
    plain, data = shared_trainer(), make_data()
    mirrored.restore(plain.arrays())
    for step in range(2):
        plain.train_step(data.batch(step))
        mirrored.train_step(data.batch(step))
    one, other = plain.arrays(), mirrored.arrays()
    for group, name in [(group, name) for group in one for name in one[group]]:
        assert np.abs(one[group][name] - other[group][name]).max() < 1e-6, name


def test_an_update_that_is_not_finite_changes_nothing_but_the_step():
    trainer, data = make_trainer(made={"ema_decay": 0.5}, num_layers=1), make_data()
    trainer.train_step(data.batch(0))
    before = trainer.arrays()
    batch = data.batch(1)
    batch["weights"][3] = np.nan
    sums, norm, finite, stop = trainer.train_step(batch, stop=True)
    assert not finite and float(sums["loss"]) == 0 and float(stop) == 1
    after = trainer.arrays()
    changed = [name for group in before for name in before[group]
               if not np.array_equal(before[group][name], after[group][name])]
    assert [name.rsplit("/", 1)[1] for name in changed] == ["iteration"] and trainer.step == 2


def test_one_weight_beyond_float32_is_noticed():
    trainer = shared_trainer()
    assert trainer.is_finite()
    bias = trainer.model.trainable_variables[-1]
    bias.assign([np.inf, *bias.numpy()[1:]])
    assert not trainer.is_finite()


def test_averages_follow_the_weights_and_are_what_is_evaluated():
    trainer, data = make_trainer(made={"ema_decay": 0.75}, num_layers=1), make_data()
    average = {path: value.astype(np.float64) for path, value in trainer.arrays()["model"].items()}
    for step in range(3):
        trainer.train_step(data.batch(step))
        for path, value in trainer.arrays()["model"].items():
            average[path] = 0.75 * average[path] + 0.25 * value
    before = trainer.arrays()
    with trainer.averages():
        inside = trainer.arrays()["model"]
        loss = trainer.evaluator.evaluate(data)["loss"]
    for path, value in average.items():
        assert np.abs(inside[path] - value).max() < 1e-6, path
    after = trainer.arrays()
    assert all(np.array_equal(before[group][name], after[group][name]) for group in before for name in before[group])
    assert trainer.evaluator.evaluate(data)["loss"] != loss
    trainer.use_averages()
    assert trainer.evaluator.evaluate(data)["loss"] == loss


def test_lower_layers_learn_slower():
    assert list(rate_scales(["embeddings/token", "projection/kernel", "block_00/norm/gamma", "block_01/feed_forward/up",
                             "pooler/bias"], 0.5).values()) == [0.125, 0.125, 0.25, 0.5, 1.0]
    trainer, decayed = shared_trainer(), make_trainer(made={"layer_decay": 0.5})
    before, ones = trainer.arrays()["model"], [np.ones(v.shape, np.float32) for v in trainer.model.trainable_variables]
    trainer.optimizer.apply(ones)
    decayed.optimizer.apply(ones)
    whole, less = trainer.arrays()["model"], decayed.arrays()["model"]
    for path, scale in (("embeddings/token", 0.125), ("block_01/attention/query/kernel", 0.5), ("head/dense/bias", 1)):
        assert np.allclose(less[path] - before[path], scale * (whole[path] - before[path]), atol=1e-7), path


@pytest.mark.parametrize("name, task, expected", [
    ("electra_tiny", "classification", {"embeddings/token": 4, "projection/kernel": 4,
                                        "block_02/attention_norm/gamma": 1}),
    ("albert_tiny_v1", "classification", {"embeddings/token": 2, "projection/bias": 2, "head/dense/kernel": 0}),
    ("t5_tiny", "seq2seq", {"embeddings/token": 7, "encoder_relative/table": 6,
                            "encoder_block_02/attention_norm/gamma": 4, "encoder_norm/gamma": 4,
                            "decoder_relative/table": 3, "decoder_block_02/attention_norm/gamma": 1,
                            "decoder_norm/gamma": 0})])
def test_layers_are_counted_from_the_embeddings_through_encoder_and_decoder_to_the_head(name, task, expected):
    model = build(name, task=task, labels=["a", "b"] if task == "classification" else None, num_layers=3)
    scales = rate_scales([v.path for v in model.weights], 0.5)
    assert {path: scales[path] for path in expected} == {path: 0.5 ** above for path, above in expected.items()}


def test_layers_are_counted_by_their_numbers():
    scales = rate_scales([f"block_{number:02d}/norm/gamma" for number in range(120)], 0.5)
    assert scales["block_119/norm/gamma"] == 0.5 and scales["block_12/norm/gamma"] == 0.5 ** 108


def test_layers_that_are_frozen_count():
    model = build("bert_tiny", task="classification", labels=["a", "b"], num_layers=2)
    lowest = [v for v in model.trainable_variables if v.path.startswith("block_00/")]
    optimizer = make_optimizer("adamw", 1e-3, lowest, layer_decay=0.5, paths=[v.path for v in model.weights])
    assert set(optimizer.rate_scales) == {0.25}


def test_the_step_is_traced_once_for_each_shape_and_only_divisible_batches_are_taken():
    trainer, data = make_trainer(num_layers=1), make_data(multiple=8)
    for _ in trainer.train(data, 2 * data.batches_per_epoch):
        continue
    assert trainer.traces == len(data.base.plan.buckets) == 2
    with pytest.raises(ConfigError, match="choose a multiple of 3"):
        make_trainer(microbatches=3).train_step(data.batch(0))


def test_out_of_memory_says_what_takes_it_and_what_lowers_it(monkeypatch):
    trainer, data = shared_trainer(), make_data()

    def fail(*inputs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(trainer, "_step", fail)
    with pytest.raises(OutOfMemory, match=r"8 x (8|16) tokens .* bytes of parameters .*--accumulate_steps") as info:
        trainer.train_step(data.batch(0))
    size = 4 * sum(np.prod(v.shape) for v in trainer.model.trainable_variables)
    assert f"{size:,} bytes of parameters" in str(info.value)


@pytest.mark.slow
def test_bfloat16_computes_in_16_bits_and_keeps_weights_and_slots_in_32():
    trainer, data = make_trainer(dtype="mixed_bfloat16"), make_data()
    sums, norm, finite, _ = trainer.train_step(data.batch(0))
    plain, plain_norm, _ = one_update("classification")
    assert finite and 0 < abs(float(sums["loss"]) - plain) < 0.02 * plain
    assert float(norm) == pytest.approx(plain_norm, rel=0.05)
    for arrays in trainer.arrays().values():
        assert {array.dtype.name for array in arrays.values()} <= {"float32", "int64", "int32"}


def test_weights_that_do_not_decay_are_chosen_by_a_regular_expression():
    trainer = make_trainer(made={"no_decay": "embeddings|kernel$"})
    before = trainer.arrays()["model"]
    trainer.optimizer.apply([np.zeros(v.shape, np.float32) for v in trainer.model.trainable_variables])
    for path, value in trainer.arrays()["model"].items():
        fixed = "embeddings" in path or path.endswith("kernel")
        assert np.array_equal(value, before[path]) == fixed, path
