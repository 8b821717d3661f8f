"""The training loop of a run: resume, log, evaluate, save checkpoints, stop early, and keep the best weights.

With several workers, each one runs this loop. All make the same decisions, which depend only on sums over all workers.
Only worker 0 writes.
"""
import dataclasses
import math
import sys
import time

import numpy as np
from tqdm import tqdm

from tfzoo.errors import DataError, Diverged, Interrupted
from tfzoo.progress import tell
from tfzoo.training.averaging import average_checkpoints
from tfzoo.training.saver import Saver
from tfzoo.training.signals import stop_requests
from tfzoo.training.strategy import agree

WAIT_TO_TELL = 0.02  # fraction of the training time above which waiting for data is reported
MOST_SUMS = 32  # number of steps whose sums stay on the device, since with many labels they take memory
ADVICE = ("lower --learning_rate, raise --warmup_steps, or use --precision=float32; the last good checkpoint, if any, "
          "is kept")


@dataclasses.dataclass
class Pace:
    """How often to log, evaluate and save, in steps, and when to stop.

    Args:
        steps: int, the last step.
        log_every: int, steps between records of training metrics.
        eval_every: int, steps between evaluations; the last step is always evaluated.
        save_every: int, steps between checkpoints; each new best and the last step are always saved.
        patience: int, end the run after this many consecutive evaluations without a new best; 0: never.
        max_bad_steps: int, end the run after this many consecutive non-finite updates.
    """

    steps: int
    log_every: int = 50
    eval_every: int = 500
    save_every: int = 500
    patience: int = 0
    max_bad_steps: int = 10

    def due(self, step, every):
        """Return whether a step is a multiple of `every`, or the last one."""
        return step == self.steps or (every > 0 and step % every == 0)


class _Stopped(Exception):
    """An evaluation was abandoned because of a signal."""


class Loop:
    """Train a model in a run folder.

    In addition to the arrays, a checkpoint stores the last evaluated step, the number of evaluations since the last new
    best, the best step with its value and metrics, the number of consecutive non-finite updates, and the metric sums
    since the last record. With these, a resumed run logs the same records as an uninterrupted one.

    Args:
        trainer: Trainer.
        data: Batches, the training data.
        run: RunFolder on which `create` was called.
        checkpoints: Checkpoints of that folder.
        pace: Pace.
        eval_data: Batches, the evaluation data, or None.
        sample: callable that returns a dict of tag to text, called after each evaluation; None: no samples.
        schedule: callable that takes a step and returns its learning rate, which is logged; None: not logged.
        average: int, the number of newest checkpoints whose mean becomes the final weights; 0: no mean.
    """

    def __init__(self, trainer, data, run, checkpoints, pace, eval_data=None, sample=None, schedule=None, average=0):
        self.trainer, self.data, self.run, self.checkpoints = trainer, data, run, checkpoints
        self.pace, self.eval_data, self.sample, self.schedule = pace, eval_data, sample, schedule
        self.metric, self.better = trainer.task.better
        self.average = average
        self.state = {"evaluated": 0, "waited": 0, "best": None, "bad": 0}
        self.window = _Window()
        self.saver = Saver(checkpoints, tell)

    def resume(self, step):
        """Resume from a checkpoint and discard later log records.

        Args:
            step: int, the checkpoint's step; None to start over.

        Raises:
            DataError: if the checkpoint was trained with frozen weights that differ from the model's.
        """
        arrays, state = (None, {}) if step is None else self.checkpoints.load(step)
        if step is not None and state.pop("base", None) != self.trainer.base:
            raise DataError(f"{self.checkpoints.path(step)} was trained with different frozen weights: resume with the "
                            "--init that the run started with, or use another --output_dir")
        self.run.truncate(step)
        if step is not None:
            self.trainer.restore(arrays)
            self.window = _Window(state.pop("window"), state.pop("skipped", ()))
            self.state.update(state)
            best = self.state["best"]
            if best is not None and self.checkpoints.path(best["step"]).is_dir():
                # The run may have been killed after saving the checkpoint but before marking it as the best.
                self.checkpoints.mark_best(best["step"], self.metric, best["value"])

    def run_to_end(self):
        """Train until the last step or early stopping, then load the best or averaged weights into the model.

        Returns:
            dict with `steps`, `examples_per_second` and, if there are evaluation data, `best_step` and its metrics; for
            averaged weights, `averaged_steps` and their metrics.

        Raises:
            Interrupted: if a signal arrives; the state is saved.
            Diverged: if too many consecutive updates are not finite, or the weights or the evaluation loss are not; the
                last good checkpoint remains the newest.
            OSError: if the last checkpoint or record cannot be written.
            DataError, FileNotFoundError: if the best checkpoint was damaged or deleted.
        """
        with stop_requests() as stopped, self._bar() as bar:
            try:
                speed = self._train(stopped, bar)
            finally:
                self.saver.finish()  # within `stop_requests`, so that a signal cannot abort the save
        self._require_saved()
        best, step = self.state["best"], self.trainer.step
        results = {"steps": step, "examples_per_second": speed}
        if self.average:
            return {**results, **self._averaged(step)}
        if best is not None:
            results.update(best_step=best["step"], **best["metrics"])
        if self.run.writes and best is not None and best["step"] != step:
            self.trainer.restore(self.checkpoints.load(best["step"])[0])
        self.trainer.use_averages()
        return results

    def _averaged(self, step):
        if self.trainer.shared:  # wait for worker 0 to save
            agree(self.trainer.strategy, 0)
        arrays, steps = average_checkpoints(self.checkpoints, self.average, step)
        self.trainer.restore(arrays)
        results = {"averaged_steps": steps}
        if self.eval_data is not None:
            metrics = self.trainer.evaluator.evaluate(self.eval_data, evaluation_bar)
            if self.run.last_step("average") != step:  # it may have been logged before the run was killed
                self.run.log(step, "average", **metrics)
                self.run.flush()
            results.update(metrics)
            self._tell("the average of the last checkpoints", metrics)
        return results

    def _tell(self, what, metrics):
        tell(f"{what}: " + ", ".join(
            f"{name} {metrics[name]:.4f}" for name in self.trainer.task.shown if name in metrics))

    def _require_saved(self):
        error = self.saver.error
        try:
            self.run.flush()
        except OSError as refused:
            error = refused
        if error is not None:
            raise OSError(f"the last checkpoint or record could not be written to {self.run.path} "
                          f"({getattr(error, 'strerror', None) or error}): free space or fix the disk, then run the "
                          "same command again to resume from the last good checkpoint") from error

    def _bar(self):
        return tqdm(total=self.pace.steps, initial=self.trainer.step, desc="train", unit="step", file=sys.stderr,
                    disable=None, dynamic_ncols=True)

    def _train(self, stopped, bar):
        examples, seconds, waited = 0, 0.0, 0.0
        self._catch_up(stopped)
        verdict, stop = None, False
        begin = time.perf_counter()
        for step, sums, norm, *mine, tokens, wait in self.trainer.train(self.data, self._last(), stopped):
            if verdict is not None:  # of the previous step; waiting for the current one would leave the device idle
                stop = self._judge(step - 1, *verdict)
            passed = time.perf_counter() - begin  # only training time: `begin` is reset after everything else
            seconds, waited = seconds + passed, waited + wait
            examples, verdict = examples + self.data.batch_size, mine
            self.window.add(sums, norm, tokens=tokens, seconds=passed, waited=wait)
            bar.update(1)
            log, save = self.pace.due(step, self.pace.log_every), self.pace.due(step, self.pace.save_every)
            evaluate = self.eval_data is not None and self.pace.due(step, self.pace.eval_every)
            if log or save or evaluate or stop:
                stop, verdict = self._judge(step, *verdict) or stop, None
                self._pause(step, log=log, evaluate=evaluate, save=save, stop=stop, stopped=stopped, bar=bar)
                if self._out_of_patience():
                    break
            begin = time.perf_counter()
        _tell_wait(waited, seconds)
        return round(examples / seconds, 2) if seconds else None

    def _judge(self, step, finite, stop):
        # Counts non-finite updates; returns whether any worker was asked to stop.
        if bool(finite):
            self.state["bad"] = 0
            return float(stop) > 0
        self.state["bad"] += 1
        examples = [int(number) for number in self.data.examples(step - 1)]
        if self.data.numbers is not None:
            examples = [int(self.data.numbers[number]) for number in examples]
        self.window.skipped.append({"step": step, "examples": examples})
        tell(f"step {step}: the loss or gradients are not finite, so the update is skipped; examples in the batch "
             "(numbered from 0 in the order of --data): "
             f"{', '.join(map(str, examples[:64]))}{' ...' if len(examples) > 64 else ''}")
        if self.state["bad"] >= self.pace.max_bad_steps:
            raise Diverged(f"{self.state['bad']} consecutive updates up to step {step} were not finite: {ADVICE}")
        return float(stop) > 0

    def _pause(self, step, log, evaluate, save, stop, stopped, bar):
        if log:
            self._log(step, bar)
            self.window = _Window()
        if (evaluate or save or stop) and not self.trainer.is_finite():
            raise Diverged(f"the weights are not finite at step {step}: {ADVICE}")
        owed, is_best = evaluate, False
        if evaluate and not stop:
            try:
                is_best, owed = self._evaluate(stopped), False
            except _Stopped:
                stop = True
        last = stop or self._out_of_patience() or step == self.pace.steps
        # While updates are skipped, keep the checkpoint from before, unless the current weights are the best.
        if last or is_best or (save and not self.state["bad"]):
            self._save(step)
        if stop and (owed or step < self.pace.steps):
            self.saver.finish()
            self._require_saved()
            if self.trainer.shared:  # wait for worker 0 to save while late signals are still caught
                agree(self.trainer.strategy, 0)
            raise Interrupted(f"stopped at step {step}, saved in {self.checkpoints.path(step)}: run the same command "
                              "again to resume")

    def _catch_up(self, stopped):
        # Evaluate the step of the checkpoint if the run stopped before evaluating it.
        step = self.trainer.step
        if self.eval_data is None or not step or self.state["evaluated"] == step:
            return
        if not self.pace.due(step, self.pace.eval_every):
            return
        try:
            if self._evaluate(stopped):
                self.checkpoints.mark_best(step, self.metric, self.state["best"]["value"])
        except _Stopped:
            raise Interrupted(f"stopped at step {step}, which is saved: run the same command again to resume") from None

    def _last(self):
        return self.trainer.step if self._out_of_patience() else self.pace.steps

    def _out_of_patience(self):
        return 0 < self.pace.patience <= self.state["waited"]

    def _log(self, step, bar):
        window = self.window
        sums = window.values()
        metrics = self.trainer.task.metrics(sums) if sums.get("count", 1) else {}  # 0 if all updates were skipped
        values = {**metrics, "gradient_norm": window.norm(),
                  "tokens_per_second": round(window.tokens / max(1e-9, window.seconds)),
                  "data_wait": round(window.waited / max(1e-9, window.seconds), 4)}
        if self.schedule is not None:
            values["learning_rate"] = float(self.schedule(step - 1))
        if window.skipped:
            values["skipped"] = window.skipped
        self.run.log(step, "train", **values)
        line = f"loss {values.get('loss', math.nan):.4f} tokens/s {values['tokens_per_second']:,}"
        if values["data_wait"] > WAIT_TO_TELL:
            line += f" waiting for data {values['data_wait']:.0%}"
        if bar.disable:
            tell(f"step {step} of {self.pace.steps}: {line}")
        else:
            bar.set_postfix_str(line)

    def _evaluate(self, stopped):
        # Returns whether the result is a new best.
        step = self.trainer.step
        with self.trainer.averages():
            metrics = self.trainer.evaluator.evaluate(self.eval_data, self._evaluation_bar(stopped))
            value, best = metrics[self.metric], self.state["best"]
            if not math.isfinite(metrics["loss"]):
                raise Diverged(f"the evaluation loss is {metrics['loss']} at step {step}: {ADVICE}")
            is_better = best is None or (value != best["value"] and self.better(value, best["value"]) == value)
            self.state["evaluated"] = step
            self.state["waited"] = 0 if is_better else self.state["waited"] + 1
            if is_better:
                self.state["best"] = {"step": step, "value": value, "metrics": metrics}
            if self.run.last_step("eval") != step:  # it may have been logged before the run was killed
                self.run.log(step, "eval", **metrics)
            for tag, text in (self.sample() if self.sample else {}).items():
                if self.run.last_step(tag) != step:
                    self.run.text(step, tag, text)
        self._tell(f"step {step} evaluation", metrics)
        return is_better

    def _evaluation_bar(self, stopped):
        # Adds a progress bar and, if there is only one worker, stops on a signal.
        def wrap(batches, count):
            for batch in evaluation_bar(batches, count):
                if not self.trainer.shared and stopped():
                    raise _Stopped
                yield batch
        return wrap

    def _save(self, step):
        if not self.run.writes:
            return
        self.saver.finish()
        best = self.state["best"]
        is_best = best is not None and best["step"] == step
        state = {**self.state, "window": self.window.state(), "skipped": list(self.window.skipped)}
        state.update({"base": self.trainer.base} if self.trainer.base else {})
        job = (step, self.trainer.arrays(), state, (self.metric, best["value"]) if is_best else None)
        try:
            self.run.sync()  # without its records, a checkpoint would seem to belong to another run
        except OSError as error:
            self.saver.refuse(job, error)
            return
        self.saver.save(*job)


def _tell_wait(waited, seconds):
    if waited > WAIT_TO_TELL * seconds:
        tell(f"{waited / seconds:.0%} of the training time was spent waiting for data: leave a CPU core free to build "
             "batches, and keep --data and $TFZOO_CACHE on a local disk")


def evaluation_bar(batches, count):
    """Wrap batches in a progress bar, shown only on a terminal.

    Args:
        batches: iterable.
        count: int, the number of batches.
    """
    return tqdm(batches, total=count, desc="evaluate", unit="batch", leave=False, file=sys.stderr, disable=None,
                dynamic_ncols=True)


class _Window:
    # Sums over the steps since the last record, kept on the device until they are needed or there are too many.
    # They are added on the host, in float32 and in step order: adding them on the device, scalar by scalar, costs more
    # than everything else that the loop does in a step. `sums` and `skipped` may come from a checkpoint.

    def __init__(self, sums=None, skipped=()):
        self.sums = None if sums is None else {key: np.array(value, np.float32) for key, value in sums.items()}
        if self.sums and "confusion" in self.sums:  # saved by a release that stored the whole matrix
            matrix = self.sums.pop("confusion")
            self.sums["labels"] = np.stack([np.diagonal(matrix), matrix.sum(1), matrix.sum(0)])
        self.skipped, self.new = list(skipped), []
        self.last_norm, self.tokens, self.seconds, self.waited = None, 0, 0.0, 0.0

    def add(self, sums, norm, tokens, seconds, waited):
        if len(self.new) == MOST_SUMS:
            self._add_up()  # without this step's sums, which the device may still be computing
        self.new.append(sums)
        self.last_norm, self.tokens = norm, self.tokens + tokens
        self.seconds, self.waited = self.seconds + seconds, self.waited + waited

    def _add_up(self):
        for sums in self.new:
            sums = {key: np.asarray(value) for key, value in sums.items()}
            self.sums = sums if self.sums is None else {key: self.sums[key] + value for key, value in sums.items()}
        self.new = []

    def state(self):
        # A float32 survives JSON unchanged.
        self._add_up()
        return None if self.sums is None else {key: np.asarray(value).tolist() for key, value in self.sums.items()}

    def values(self):
        self._add_up()
        return {key: np.asarray(value, np.float64) for key, value in self.sums.items()}

    def norm(self):
        return float(self.last_norm)
