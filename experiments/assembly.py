"""From flags to the parts of a run: sources, tokenizer, model, trainer, and the run itself."""
import ast
import dataclasses
import math
import re
import shutil

from experiments.app import say

POLICIES = {"auto": None, "float32": "float32", "bfloat16": "mixed_bfloat16"}
DEFAULT_LENGTH = 256
OLDER = {"pack": "off"}  # what runs did before there was the flag, where its default is another now


def prepare(values):
    """Set seed and determinism as the flags say; return the strategy, made before TensorFlow computes anything."""
    import keras
    import tensorflow as tf

    from tfzoo.training.strategy import check_batch, make_strategy
    strategy = make_strategy(values.strategy, values.virtual_devices)
    keras.utils.set_random_seed(values.seed)
    if values.deterministic:
        tf.config.experimental.enable_op_determinism()
    check_batch(strategy, values.batch_size, values.accumulate_steps)  # before the data are read
    return strategy


def check_training_flags(values):
    """Refuse combinations of flags before any work."""
    from tfzoo.errors import ConfigError
    if bool(values.model) == bool(values.init):
        raise ConfigError(f"--model={values.model} and --init={values.init}: give one of them, a name to train from "
                          "scratch or a folder to start from")
    if values.epochs is not None and values.steps is not None:
        raise ConfigError(f"--epochs={values.epochs} and --steps={values.steps}: give one of them")
    if values.eval_data and values.eval_fraction:
        raise ConfigError(f"--eval_data={values.eval_data} and --eval_fraction={values.eval_fraction}: give one of "
                          "them")
    if values.init and (values.tokenizer or values.lowercase != "auto"):
        raise ConfigError("--init brings its own tokenizer: leave --tokenizer and --lowercase away")
    if values.model and not values.tokenizer:
        raise ConfigError("--tokenizer is missing: needed with --model; a vocabulary, learn:wordpiece:8000 or bytes")
    if values.schedule_power is not None and values.schedule != "polynomial":
        raise ConfigError(f"--schedule_power={values.schedule_power} is for --schedule=polynomial: got "
                          f"--schedule={values.schedule}")


def overrides_of(values):
    """Return the model's arguments of --override and --dropout."""
    from tfzoo.errors import ConfigError
    overrides = {}
    for text in values.override:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--override={text}: allowed is name=value, for instance num_layers=3")
        try:
            overrides[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            overrides[name] = value
    if values.dropout is not None:
        overrides["dropout"] = values.dropout
    return overrides


def open_sources(values, columns, document="paragraph"):
    """Return (training source, evaluation source or None)."""
    from tfzoo.data.source import has_own_eval, open_source
    from tfzoo.errors import DataError
    settings = {"columns": columns, "document": document, "max_bad_rows": values.max_bad_rows,
                "allow_download": values.allow_download}
    train = open_source(values.data, **settings)
    evaluation = None
    if values.eval_data:
        evaluation = open_source(values.eval_data, split="eval", **settings)
        if evaluation is None:
            evaluation = open_source(values.eval_data, split="train", **settings)
    elif values.eval_fraction:
        train, evaluation = train.split(values.eval_fraction, values.seed)
    elif has_own_eval(values.data):
        evaluation = open_source(values.data, split="eval", **settings)
    for source in (train, evaluation):
        if source is not None:
            tell_counts(source)
    if evaluation is not None and ("text_pair" in train.columns) != ("text_pair" in evaluation.columns):
        one, two = (1 + ("text_pair" in source.columns) for source in (train, evaluation))
        raise DataError(f"{train.name} has {one} text(s) an example and {evaluation.name} {two}: allowed is text_pair "
                        "in both or in neither")
    return train, evaluation


def tell_counts(source):
    """Print how many examples a source has and what was wrong with them."""
    counts = ((source.skipped, "bad rows skipped"), (source.replaced, "bytes that were no UTF-8 replaced by U+FFFD"))
    extra = [f"{count:,} {what}" for count, what in counts if count]
    say(f"{source.name}: {len(source):,} examples{''.join(f', {item}' for item in extra)}")


def get_tokenizer(values, source, run, strategy):
    """Return the tokenizer of --tokenizer; a learned one is kept in the run's folder for when the run goes on."""
    from tfzoo.errors import ConfigError
    from tfzoo.text import learn_tokenizer, load_tokenizer
    from tfzoo.training.strategy import agree
    lowercase = {"auto": "auto", "true": True, "false": False}[values.lowercase]
    if not values.tokenizer.startswith("learn:"):
        return load_tokenizer(values.tokenizer, lowercase)
    kept = run.path / "tokenizer"
    if run.writes and not kept.is_dir():
        say(f"learning a vocabulary: {values.tokenizer}")
        tokenizer = learn_tokenizer(values.tokenizer, source.passages(), lowercase)
        tokenizer.save_whole(kept)
    agree(strategy, 0)  # the other workers wait for the one that learns
    if not kept.is_dir():
        raise ConfigError(f"--output_dir={run.path}: this worker does not see what worker 0 writes there; give a "
                          "folder that all machines share")
    return load_tokenizer(kept)


def length_of(values, body_config, loaded):
    """Return the length that examples are cut to (that of --init by default), refusing more than the positions."""
    from tfzoo.errors import ConfigError
    most = body_config["max_length"]
    if values.max_length > most:
        raise ConfigError(f"--max_length={values.max_length}: the model has {most} positions; lower it, or train from "
                          f"scratch with --override=max_length={values.max_length}")
    return values.max_length or min(most, loaded.config["max_length"] if loaded else DEFAULT_LENGTH)


@dataclasses.dataclass
class Parts:
    """What a training run is made of: model, task, tokenizer, name of the model, fresh and dropped weights."""

    model: object
    task: object
    tokenizer: object
    name: str


def build_parts(values, task, source, loaded, run, strategy):
    """Build the model that the flags name, with its task's head."""
    from tfzoo.checkpoints.folder import with_head
    from tfzoo.errors import ConfigError
    from tfzoo.tasks import build_for
    overrides, policy = overrides_of(values), POLICIES[values.precision]
    if loaded is not None:
        model, fresh, dropped = with_head(loaded, task, policy, **overrides)
        say(f"--init={values.init}: {tell_paths(fresh)} fresh, {tell_paths([*dropped, *loaded.dropped])} dropped")
        return Parts(model, task, tokenizer_for(model, loaded.tokenizer) if fresh else loaded.tokenizer,
                     loaded.config["model"])
    tokenizer = get_tokenizer(values, source, run, strategy)
    vocab_size = overrides.pop("vocab_size", tokenizer.vocab_size)
    if isinstance(vocab_size, int) and vocab_size < tokenizer.vocab_size:
        raise ConfigError(f"vocab_size={vocab_size}: the tokenizer has ids up to {tokenizer.vocab_size - 1}; leave it "
                          f"away, or give {tokenizer.vocab_size} or more")
    model = build_for(values.model, task, dtype=policy, vocab_size=vocab_size, **overrides)
    return Parts(model, task, tokenizer_for(model, tokenizer), values.model)


def tokenizer_for(model, tokenizer):
    """Return a tokenizer that puts no <|endoftext|> around what a decoder classifies, as transformers has it.

    There it is padding too, which transformers passes over to find the last token, whose vector is classified.
    """
    from tfzoo.models import Decoder
    from tfzoo.tasks.heads import ClassificationHead
    from tfzoo.text.bpe import BytePairTokenizer
    if isinstance(model.body, Decoder) and isinstance(model.head, ClassificationHead) and isinstance(
            tokenizer, BytePairTokenizer):
        return BytePairTokenizer(tokenizer.ids, tokenizer.merges, bare=True)
    return tokenizer


def tell_paths(paths):
    """Return the layers of some variables in a few words."""
    layers = sorted({path.split("/")[0] for path in paths})
    return "nothing" if not layers else ", ".join(layers)


def load_init(values):
    """Return what --init names, or None; refuses one without a tokenizer."""
    from tfzoo.checkpoints import load
    from tfzoo.errors import ConfigError
    if not values.init:
        return None
    loaded = load(values.init)
    if loaded.tokenizer is None:
        raise ConfigError(f"--init={values.init} has no tokenizer: needed is a folder with one")
    return loaded


def config_of_run(values, task_labels, sources, loaded):
    """Return all that decides the outcome of a run, as plain values."""
    names = [name for name in values if name not in ("flagfile", "undefok")]
    config = {name: values[name].value for name in names if name not in ("allow_download",)}
    config["data_sha256"] = [None if source is None else source.fingerprint for source in sources]
    config["labels"] = task_labels
    if loaded is not None:
        config["init_model"] = {"name": loaded.config["model"], "tokenizer": loaded.tokenizer.fingerprint}
    elif not values.tokenizer.startswith("learn:"):
        from tfzoo.text import load_tokenizer
        config["tokenizer_sha256"] = load_tokenizer(values.tokenizer).fingerprint
    return config


def run_training(script, values, task, sources, loaded, strategy, make_sample=None):
    """Train, and save the best model.

    Args:
        script: Flags, for flags.txt.
        values: the flags' values.
        task: Task.
        sources: (training, evaluation or None).
        loaded: Loaded of --init, or None.
        strategy: what `prepare` returned.
        make_sample: callable of Parts -> callable that Loop takes as `sample`, or None.

    Returns:
        dict of results.
    """
    from tfzoo.errors import LostWorker
    from tfzoo.training.run_folder import RunFolder
    from tfzoo.training.strategy import LOST, is_chief, is_multi_worker
    try:
        with RunFolder(values.output_dir, is_chief(strategy), say) as run:
            return _train_in(run, script, values, task, sources, loaded, strategy, make_sample)
    except LOST as error:
        if not is_multi_worker(strategy):
            raise
        reason = re.sub(r"\{\{.*?\}\} ", "", (error.message.strip().splitlines() or [type(error).__name__])[0])
        raise LostWorker(f"another worker is gone ({reason[:200]}): start all workers again with the same command; "
                         "they go on from the last checkpoint") from error


def _train_in(run, script, values, task, sources, loaded, strategy, make_sample):
    from tfzoo.checkpoints import Loaded, save
    from tfzoo.training.run_folder import MAY_CHANGE
    from tfzoo.training.strategy import agree
    labels = getattr(task, "labels", None)
    config = config_of_run(values, labels, sources, loaded)
    state = run.create(script.text(), config, values.resume, MAY_CHANGE | {"data", "eval_data"},  # data_sha256 may not
                       {name: OLDER.get(name, values[name].default) for name in config if name in values})
    resumable = agree(strategy, int(state == "resumable"))
    if run.writes and not resumable:  # a vocabulary that was learned for settings which came to nothing
        shutil.rmtree(run.path / "tokenizer", ignore_errors=True)
    with strategy.scope():
        parts = build_parts(values, task, sources[0], loaded, run, strategy)
        loop, length = _make_loop(values, parts, run, sources, loaded, strategy, make_sample)
    results = run.results() if resumable else None
    if agree(strategy, int(results is not None and results["planned_steps"] >= loop.pace.steps)):
        say(f"{run.path} is finished: give more --steps or another --output_dir to train on")
        return results or run.results()
    if resumable:
        step = loop.checkpoints.latest(must=values.resume == "must") if run.writes else None
        step = agree(strategy, -1 if step is None else step)
        loop.resume(None if step < 0 else step)
        say(f"going on from step {loop.trainer.step} of {loop.pace.steps}")
    results = {**loop.run_to_end(), "planned_steps": loop.pace.steps, "model": str(run.path / "model")}
    if run.writes:
        save(Loaded(parts.model, parts.tokenizer, {"model": parts.name, "task": task.name, "labels": labels,
                                                   "settings": task.settings, "max_length": length}),
             run.path / "model")
        run.finish(results)
        results = run.results()
    agree(strategy, 0)  # no worker leaves before the model is written
    return results


def _make_loop(values, parts, run, sources, loaded, strategy, make_sample):
    from tfzoo.training.checkpointing import Checkpoints
    from tfzoo.training.loop import Loop, Pace
    from tfzoo.training.optimizer import WarmUp, make_optimizer
    from tfzoo.training.strategy import choose_xla
    from tfzoo.training.trainer import Trainer
    length = length_of(values, parts.model.body.config, loaded)
    train, evaluation = (None if source is None else parts.task.batches(
        source, parts.tokenizer, values.batch_size, length, values.seed, training)
        for source, training in zip(sources, (True, False)))
    for data, source in zip((train, evaluation), sources):
        if data is not None and data.cut:
            say(f"{source.name}: {data.cut:,} of {len(source):,} texts were cut at {length} tokens")
        if getattr(parts.task, "pack", False) and data is not None:
            say(f"{source.name}: packed into {data.plan.rows:,} rows of {length} tokens, {data.padding:.2%} padding")
    epochs = 3 if values.epochs is None else values.epochs
    steps = values.steps or max(1, math.ceil(epochs * train.batches_per_epoch))
    every = values.eval_every or train.batches_per_epoch
    pace = Pace(steps, values.log_every, every, values.save_every or every, values.patience, values.max_bad_steps)
    warmup = values.warmup_steps if values.warmup_steps >= 0 else steps // 10
    rate = values.learning_rate if values.learning_rate is not None else 5e-5 if values.init else 5e-4
    power = 2.0 if values.schedule_power is None else values.schedule_power
    schedule = WarmUp(rate, steps, warmup, values.schedule, power)
    optimizer = make_optimizer(values.optimizer, schedule, parts.model.trainable_variables, values.weight_decay,
                               no_decay=values.no_decay, layer_decay=values.layer_decay, ema_decay=values.ema_decay)
    xla, choice = choose_xla(values.xla)
    trainer = Trainer(parts.model, parts.task, optimizer, values.seed, values.clip_norm, values.accumulate_steps, xla,
                      values.remat, strategy)
    loop = Loop(trainer, train, run, Checkpoints(run.path / "checkpoints", values.keep, say, run.writes), pace,
                evaluation, make_sample(parts) if make_sample and run.writes else None, schedule)
    say(f"{parts.name}: {sum(math.prod(v.shape) for v in parts.model.trainable_variables):,} weights, "
        f"{steps:,} steps of {values.batch_size} examples, {train.batches_per_epoch:,} an epoch; "
        f"{strategy.num_replicas_in_sync} device(s), {choice}")
    return loop, length
