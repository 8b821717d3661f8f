"""Create the model that a run trains, from scratch or from --init, with its task, method and tokenizer."""
from tfzoo import folders
from tfzoo.checkpoints import load
from tfzoo.checkpoints.folder import with_head
from tfzoo.errors import ConfigError, DataError, shown
from tfzoo.generation import Generator, Options
from tfzoo.methods import method_of
from tfzoo.models import family_of
from tfzoo.progress import tell
from tfzoo.tasks import build_for, task_of, tasks
from tfzoo.text import learn_tokenizer, load_tokenizer
from tfzoo.text.bpe import BytePairTokenizer
from tfzoo.text.tokenizer import learned_in
from tfzoo.training.fields import METHODS, POLICIES, TASKS
from tfzoo.training.strategy import agree

SAMPLE_TOKENS, SAMPLE_TEMPERATURE = 200, 0.8


def open_init(settings):
    """Load --init, and check that its model, or --model, can learn the task before any data are read.

    Args:
        settings: Settings.

    Returns:
        Loaded, or None for a model from scratch.

    Raises:
        ConfigError: if the model is unknown or cannot learn the task, or --init has no tokenizer; also anything `load`
            raises.
    """
    loaded = load(settings.init) if settings.init else None
    if loaded is not None:
        loaded.check_tokenizer()
    name = loaded.config["model"] if loaded else settings.model
    family_of(name)
    task_of(settings.task, ["0", "1"] if tasks()[settings.task].labelled else None).check_family(name)
    return loaded


def make_task(settings, source, init=None, recorded=None):
    """Create the Task selected by the settings, with the labels found in its training source.

    If the resumed run, or an --init trained on the same task, has all of these labels, its labels are used instead: a
    class missing from the data keeps its index and its weights in the head.

    Args:
        settings: Settings.
        source: the training source.
        init: Loaded, the model given as --init, or None.
        recorded: dict, config.json of the run to resume, or None.

    Returns:
        Task.

    Raises:
        DataError: if the data and --init have fewer than two labels.
    """
    kind = tasks()[settings.task]
    labels = kind.labels_in(source) if kind.labelled else None
    known = next((one["labels"] for one in (recorded, init and init.config)
                  if one and one.get("task") == settings.task and one.get("labels")), None)
    if labels and known:
        beyond, missing = ([label for label in one if label not in other]
                           for one, other in ((labels, known), (known, labels)))
        if beyond and recorded is None:  # resuming with different labels is refused later
            tell(f"{source.name} has {_some(beyond)} not known to --init={settings.init}: the head is "
                 "newly initialized")
        elif missing and recorded is None:
            tell(f"{source.name} lacks {_some(missing)} known to --init={settings.init}: the head is kept unchanged")
        labels = labels if beyond else known
    if labels is not None and len(labels) < 2:
        raise DataError(f"{source.name}: {settings.task} requires at least two different labels, but the data have "
                        f"{f'only {shown(labels[0])}' if labels else 'none'}")
    task = task_of(settings.task, labels, **settings.of(TASKS[settings.task]))
    task.adapt(source, init and init.embedding)
    task.label_smoothing, task.batch_tokens = settings.label_smoothing, settings.batch_tokens
    return task


def make_method(settings):
    """Create the Method selected by the settings; raise ConfigError if `targets` is not a regular expression."""
    return method_of(settings.method, **settings.of(METHODS[settings.method]))


def get_tokenizer(settings, source, run, resumes, strategy):
    """Load or learn the tokenizer specified by --tokenizer; save a learned one in the run's folder for resuming.

    Args:
        settings: Settings.
        source: the training source, from which a vocabulary is learned.
        run: RunFolder on which `create` was called.
        resumes: bool, whether the run is being resumed. In the folder of a new run, a vocabulary is left over from an
            attempt that never trained, and is replaced.
        strategy: tf.distribute.Strategy; worker 0 learns, and the others wait for it.

    Returns:
        Tokenizer.

    Raises:
        ConfigError: if --tokenizer is not valid, the workers do not share the folder, or the folder contains a
            tokenizer/ that was not written by a run; also anything `load_tokenizer` raises.
    """
    lowercase = {"auto": "auto", "true": True, "false": False}[settings.lowercase]
    if not settings.tokenizer.startswith("learn:"):
        return load_tokenizer(settings.tokenizer, lowercase)
    kept = run.path / "tokenizer"
    if run.writes and not (resumes and kept.is_dir()):
        folders.target_folder(kept, learned_in)  # fail before all texts are read
        tell(f"learning a vocabulary: {settings.tokenizer}")
        tokenizer = learn_tokenizer(settings.tokenizer, source.passages(), lowercase)
        tokenizer.save_whole(kept)
    agree(strategy, 0)  # the other workers wait here
    if not kept.is_dir():
        raise ConfigError(f"--output_dir={run.path}: this worker cannot see the files that worker 0 wrote there; "
                          "choose a folder that all machines share")
    return load_tokenizer(kept)


def build_model(settings, task, init, tokenizer):
    """Build the model with its task's head; call this in the scope of the strategy.

    Args:
        settings: Settings.
        task: Task.
        init: Loaded, the model given as --init, or None.
        tokenizer: Tokenizer.

    Returns:
        (TaskModel, its Tokenizer).

    Raises:
        ConfigError: if --override names an unknown argument, or vocab_size is less than the tokenizer's.
    """
    overrides, policy = settings.overrides(), POLICIES[settings.precision]
    if init is not None:
        model, fresh, dropped = with_head(init, task, policy, **overrides)
        tell(f"--init={settings.init}: {_layers_of(fresh)} newly initialized, "
             f"{_layers_of([*dropped, *init.dropped])} dropped")
        return model, tokenizer_for(task, model, tokenizer) if fresh else tokenizer
    vocab_size = overrides.pop("vocab_size", tokenizer.vocab_size)
    if isinstance(vocab_size, int) and vocab_size < tokenizer.vocab_size:
        raise ConfigError(f"vocab_size={vocab_size}: the tokenizer has ids up to {tokenizer.vocab_size - 1}; omit it, "
                          f"or use at least {tokenizer.vocab_size}")
    model = build_for(settings.model, task, dtype=policy, vocab_size=vocab_size, **overrides)
    return model, tokenizer_for(task, model, tokenizer)


def tokenizer_for(task, model, tokenizer):
    """Return the tokenizer for a model with a new head; for fine-tuning a decoder, one that adds no <|endoftext|>.

    As in transformers, <|endoftext|> is also the padding token. The head classifies the last token that is not padding,
    so <|endoftext|> must not end a text.

    Args:
        task: Task.
        model: TaskModel.
        tokenizer: Tokenizer.

    Returns:
        Tokenizer.
    """
    traits, is_bpe = model.body.traits, isinstance(tokenizer, BytePairTokenizer)
    if traits.causal and not traits.source and "finetune" in task.script and is_bpe:
        plain = BytePairTokenizer(tokenizer.ids, tokenizer.merges, bare=True)
        plain.chat_template = tokenizer.chat_template
        return plain
    return tokenizer


def make_sampler(model, task, tokenizer):
    """Return the `sample` callable for Loop, which generates text from scratch; None if the task is not causal_lm."""
    if task.name != "causal_lm":
        return None
    generator = Generator(model.body, model.logits, Options(SAMPLE_TOKENS, temperature=SAMPLE_TEMPERATURE))

    def sample():
        try:
            tokens = generator.generate([tokenizer.beginning()]).token_ids[0].tolist()
        except DataError:  # outputs are NaN; a sample must not end the run
            return {}
        return {"sample": tokenizer.decode([tokens])[0]}

    return sample


def _some(labels):
    return f"label {labels[0]!r}" if len(labels) == 1 else f"{len(labels)} labels, such as {labels[0]!r},"


def _layers_of(paths):
    layers = sorted({path.split("/")[0] for path in paths})
    return "nothing" if not layers else ", ".join(layers)
