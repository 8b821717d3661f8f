"""A complete training run, from settings to results; the scripts pretrain and finetune call `train`."""
import contextlib
import math
import re

import tensorflow as tf

from tfzoo.checkpoints import Loaded, save
from tfzoo.checkpoints.adapter import write_adapter
from tfzoo.errors import Diverged, Interrupted, LostWorker
from tfzoo.layers import initial_weights
from tfzoo.progress import tell
from tfzoo.text import load_tokenizer
from tfzoo.training.checkpointing import Checkpoints
from tfzoo.training.differences import in_effect
from tfzoo.training.evaluator import Evaluator
from tfzoo.training.fields import POWER
from tfzoo.training.loop import Loop, Pace, evaluation_bar
from tfzoo.training.model import build_model, get_tokenizer, make_method, make_sampler, make_task, open_init
from tfzoo.training.optimizer import WarmUp, make_optimizer
from tfzoo.training.run_folder import RunFolder
from tfzoo.training.settings import BEFORE, Settings, checked
from tfzoo.training.sources import length_of, make_batches, open_sources
from tfzoo.training.strategy import (
    LOST, agree, check_batch, choose_xla, is_chief, is_multi_worker, leave, make_strategy)
from tfzoo.training.trainer import Trainer


def train(output_dir, **settings):
    """Train a model, resume an interrupted run, or train a finished one for more steps.

    Args:
        output_dir: str or path; the run's folder.
        **settings: the flags of the scripts pretrain and finetune (see `tfzoo.training.settings.Settings`). In a
            resumed run, settings that are not given keep their recorded values.

    Returns:
        dict with `steps`, `planned_steps`, `examples_per_second`, `model` (its folder, for `tfzoo.load`) and, if there
        are evaluation data, `best_step` and its metrics; with `test_data`, also these metrics as `test_...`.

    Raises:
        ConfigError: if a setting is unknown, or the settings contradict each other or the run.
        DataError, FileNotFoundError: if the data are unusable or missing.
        Interrupted, Diverged, OutOfMemory, LostWorker, OSError: if the run ends early; the last good checkpoint is
            kept, and the same call resumes from it. Signals are handled only in the main thread.

    Example:
        >>> results = tfzoo.train("runs/reviews", task="classification", init="runs/bert",  # doctest: +SKIP
        ...                       data="reviews.jsonl", eval_fraction=0.1)
        >>> tfzoo.train("runs/reviews", lerning_rate=1e-4)
        Traceback (most recent call last):
        tfzoo.errors.ConfigError: unknown setting 'lerning_rate': did you mean learning_rate?
    """
    given = checked({**settings, "output_dir": output_dir})
    recorded = _record_of(given)
    settings = Settings.resolve(given, recorded)
    strategy = _start_strategy(settings)
    with _with_all_workers(strategy), RunFolder(settings.output_dir, is_chief(strategy), tell) as run:
        init = open_init(settings)
        sources = open_sources(settings)
        task, method = make_task(settings, sources[0], init, recorded), make_method(settings)
        facts = _facts_of(settings, task, sources=sources[:2], init=init)
        resumes = _take_folder(run, settings, facts=facts, strategy=strategy)
        tokenizer = init.tokenizer if init else get_tokenizer(
            settings, sources[0], run=run, resumes=resumes, strategy=strategy)
        with strategy.scope():
            with initial_weights(settings.seed):
                model, tokenizer = build_model(settings, task, init=init, tokenizer=tokenizer)
                method.prepare(model)
            trained = length_of(init) if init and not settings.max_length else None
            settings = settings.with_length(model.body.config["max_length"], trained)
            data, eval_data, test_data = make_batches(settings, task, tokenizer=tokenizer, sources=sources)
            settings = settings.with_epoch(data.batches_per_epoch)
            run.update({**settings.config(), **facts})
            if results := _results_of_finished(run, settings, resumes=resumes, strategy=strategy):
                return results
            schedule, optimizer = _make_optimizer(settings, model)
            xla, choice = choose_xla(settings.xla)
            trainer = Trainer(model, task, optimizer=optimizer, seed=settings.seed, clip_norm=settings.clip_norm,
                              microbatches=settings.accumulate_steps, xla=xla, remat=settings.remat,
                              strategy=strategy, method=method, penalties=settings.penalties())
        checkpoints = Checkpoints(run.path / "checkpoints", keep=max(settings.keep, settings.average_checkpoints),
                                  warn=tell, writes=run.writes)
        loop = Loop(trainer, data, run=run, checkpoints=checkpoints, pace=_pace_of(settings), eval_data=eval_data,
                    schedule=schedule, sample=make_sampler(model, task, tokenizer) if run.writes else None,
                    average=settings.average_checkpoints)
        _tell_plan(settings, method, model=model, data=data,
                   devices=f"{strategy.num_replicas_in_sync} device(s), {choice}")
        if resumes:
            _resume(loop, settings, strategy)
        results = {**loop.run_to_end(), "planned_steps": settings.steps, "model": str(run.path / "model")}
        task.adopt(results)
        loaded = Loaded(model, tokenizer, _config_of(settings, task, model))
        if test_data is not None and run.writes:
            metrics = Evaluator(model, task, xla).evaluate(test_data, evaluation_bar)
            results |= {f"test_{name}": value for name, value in metrics.items()}
        return _save(run, loaded, method=method, results=results)


def _record_of(given):
    # The config.json of the run to resume, or None.
    if not given["output_dir"] or given.get("resume") == "never":
        return None
    recorded = RunFolder(given["output_dir"]).recorded()
    return None if recorded is None else in_effect(recorded)


def _start_strategy(settings):
    # Must run before TensorFlow computes anything.
    strategy = make_strategy(settings.strategy, settings.virtual_devices)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    check_batch(strategy, settings.batch_size, settings.accumulate_steps,
                settings.group_size)  # fail before the data are read
    return strategy


@contextlib.contextmanager
def _with_all_workers(strategy):
    # All workers end together; TensorFlow's errors about a lost worker become a one-line error.
    try:
        try:
            yield
        except (Diverged, Interrupted):  # raised on all workers alike
            leave(strategy)
            raise
        leave(strategy)
    except LOST as error:
        if not is_multi_worker(strategy):
            raise
        reason = re.sub(r"\{\{.*?\}\} ", "", (error.message.strip().splitlines() or [type(error).__name__])[0])
        raise LostWorker(f"lost another worker ({reason[:200]}): restart all workers with the same command; they "
                         "resume from the last checkpoint") from error


def _facts_of(settings, task, sources, init):
    # Facts that, in addition to the settings, determine the outcome of a run.
    facts = {"data_sha256": [None if source is None else source.fingerprint for source in sources],
             "labels": task.labels}
    tokenizer = init and init.tokenizer
    if init is not None:
        facts["init_model"] = {"name": init.config["model"], "tokenizer": init.tokenizer.fingerprint}
    elif not settings.tokenizer.startswith("learn:"):
        facts["tokenizer_sha256"] = (tokenizer := load_tokenizer(settings.tokenizer)).fingerprint
    if task.name == "causal_lm" and tokenizer and len(tokenizer.separator) > 1:
        facts["separator"] = tokenizer.separator  # runs without this field used only the end token
    return facts


def _take_folder(run, settings, facts, strategy):
    # Returns whether worker 0 found a run to resume in the folder.
    state = run.create(settings.flags(), {**settings.config(), **facts}, settings.resume, defaults=BEFORE)
    return bool(agree(strategy, int(state == "resumable")))


def _results_of_finished(run, settings, resumes, strategy):
    results = run.results() if resumes else None
    is_done = results is not None and (_stopped_early(results) or results["planned_steps"] >= settings.steps)
    if not agree(strategy, int(is_done)):
        return None
    results = results or run.results()
    tell(f"{run.path} stopped early at step {results['steps']} (--patience={settings.patience}): choose another "
         "--output_dir to train further" if _stopped_early(results) else
         f"{run.path} is finished: raise --steps or choose another --output_dir to train further")
    if settings.test_data and not any(name.startswith("test_") for name in results):
        tell(f"--test_data={settings.test_data} is not evaluated after the run: use experiments.evaluate "
             f"--init={run.path}")
    return results


def _stopped_early(results):
    return results["steps"] < results["planned_steps"]


def _make_optimizer(settings, model):
    schedule = WarmUp(settings.learning_rate, settings.steps, warmup_steps=settings.warmup_steps,
                      kind=settings.schedule,
                      power=POWER if settings.schedule_power is None else settings.schedule_power)
    return schedule, make_optimizer(
        settings.optimizer, schedule, variables=model.trainable_variables, weight_decay=settings.weight_decay,
        no_decay=settings.no_decay, layer_decay=settings.layer_decay, ema_decay=settings.ema_decay,
        paths=[v.path for v in model.weights])


def _pace_of(settings):
    return Pace(settings.steps, log_every=settings.log_every, eval_every=settings.eval_every,
                save_every=settings.save_every, patience=settings.patience, max_bad_steps=settings.max_bad_steps)


def _tell_plan(settings, method, model, data, devices):
    if method.name != "full":
        tell(method.report(model))
    tell(f"{model.body.name}: {sum(math.prod(v.shape) for v in model.trainable_variables):,} trainable "
         f"weights; {settings.steps:,} steps of {data.batch_size} examples, {data.batches_per_epoch:,} steps per "
         f"epoch; {devices}")


def _resume(loop, settings, strategy):
    # Resume from the newest intact checkpoint or, if there is none, from the beginning; all workers agree on the step.
    step = loop.checkpoints.latest(must=settings.resume == "must") if loop.run.writes else None
    step = agree(strategy, -1 if step is None else step)
    loop.resume(None if step < 0 else step)
    tell(f"resuming from step {loop.trainer.step} of {settings.steps}")


def _config_of(settings, task, model):
    # The config.json in the model's folder (see tfzoo.checkpoints.folder.KEYS).
    return {"model": model.body.name, "task": task.name, "labels": task.labels,
            "settings": task.settings, "max_length": settings.max_length}


def _save(run, loaded, method, results):
    # Write adapter/ (unless all weights were trained), the merged model/ and results.json; return the results.
    if run.writes:
        if method.name != "full":
            write_adapter(loaded, method, run.path / "adapter")
        method.merge(loaded.model)
        save(loaded, run.path / "model")
        run.finish(results)
        results = run.results()
    return results
