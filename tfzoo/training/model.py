"""What a run trains: the model of its settings, from scratch or from --init, with its tokenizer."""
from tfzoo import files
from tfzoo.checkpoints import load
from tfzoo.checkpoints.folder import with_head
from tfzoo.errors import ConfigError, DataError
from tfzoo.generation import Generator, Sampling
from tfzoo.methods import method_of
from tfzoo.models import family_of
from tfzoo.progress import tell
from tfzoo.tasks import build_for, task_of, tasks
from tfzoo.text import learn_tokenizer, load_tokenizer
from tfzoo.text.bpe import BytePairTokenizer
from tfzoo.text.tokenizer import learned_in
from tfzoo.training.settings import METHODS, POLICIES, TASKS
from tfzoo.training.strategy import agree

SAMPLE_TOKENS, SAMPLE_TEMPERATURE = 200, 0.8


def open_init(settings):
    """Return the Loaded that --init names, or None for a model from scratch, before any data are read.

    Raises:
        ConfigError: an unknown model, one that cannot learn the task, or an --init without a tokenizer; see load too.
    """
    loaded = load(settings.init) if settings.init else None
    if loaded is not None:
        loaded.check_tokenizer()
    name = loaded.config["model"] if loaded else settings.model
    family_of(name)
    task_of(settings.task, ["0", "1"] if tasks()[settings.task].labelled else None).check_family(name)
    return loaded


def make_task(settings, source, init=None, recorded=None):
    """Return the Task of the settings, with the labels of its training source.

    Those of an --init that was taught the task, or of the run that goes on, stay as they are where they have all that
    the source has: a class that the data lack keeps its place, and the head its rows.

    Args:
        settings: Settings.
        source: the training source.
        init: Loaded of --init, or None.
        recorded: dict, config.json of the run that goes on, or None.
    """
    labels = source.labels() if tasks()[settings.task].labelled else None
    known = [one for one in (recorded, init and init.config)
             if one and one.get("task") == settings.task and one.get("labels")]
    if labels and known:
        there, beyond = known[0]["labels"], [label for label in labels if label not in known[0]["labels"]]
        missing = [label for label in there if label not in labels]
        if beyond:
            tell(f"{source.name} has {_some(beyond)} beyond those of --init={settings.init}: the head is fresh")
        elif missing:
            tell(f"{source.name} lacks {_some(missing)} of those of --init={settings.init}, which the head keeps")
        labels = labels if beyond else there
    return task_of(settings.task, labels, **settings.of(TASKS[settings.task]))


def make_method(settings):
    """Return the Method of the settings; raises ConfigError for targets that are no regular expression."""
    return method_of(settings.method, **settings.of(METHODS[settings.method]))


def get_tokenizer(settings, source, run, resumes, strategy):
    """Return the tokenizer of --tokenizer; a learned one is kept in the run's folder for when the run goes on.

    Args:
        settings: Settings.
        source: the training source, which a vocabulary is learned from.
        run: RunFolder that holds the folder.
        resumes: bool, the run goes on; a vocabulary in the folder of a new run was learned for settings which came to
            nothing.
        strategy: tf.distribute.Strategy; worker 0 learns, and the others wait for it.

    Raises:
        ConfigError: --tokenizer is none, the workers do not share the folder, or it holds a tokenizer/ that no run has
            learned; see load_tokenizer too.
    """
    lowercase = {"auto": "auto", "true": True, "false": False}[settings.lowercase]
    if not settings.tokenizer.startswith("learn:"):
        return load_tokenizer(settings.tokenizer, lowercase)
    kept = run.path / "tokenizer"
    if run.writes and not (resumes and kept.is_dir()):
        files.target_folder(kept, learned_in)  # refuses before all texts are read
        tell(f"learning a vocabulary: {settings.tokenizer}")
        tokenizer = learn_tokenizer(settings.tokenizer, source.passages(), lowercase)
        tokenizer.save_whole(kept)
    agree(strategy, 0)  # the other workers wait for the one that learns
    if not kept.is_dir():
        raise ConfigError(f"--output_dir={run.path}: this worker does not see what worker 0 writes there; give a "
                          "folder that all machines share")
    return load_tokenizer(kept)


def build_model(settings, task, init, tokenizer):
    """Build the model with its task's head, in the scope of its strategy.

    Args:
        settings: Settings.
        task: Task.
        init: Loaded of --init, or None.
        tokenizer: Tokenizer.

    Returns:
        (TaskModel, the tokenizer that it reads texts with).

    Raises:
        ConfigError: for an argument that the model does not have, or a vocabulary that is too small.
    """
    overrides, policy = settings.overrides(), POLICIES[settings.precision]
    if init is not None:
        model, fresh, dropped = with_head(init, task, policy, **overrides)
        tell(f"--init={settings.init}: {_layers_of(fresh)} fresh, {_layers_of([*dropped, *init.dropped])} dropped")
        return model, tokenizer_for(task, model, tokenizer) if fresh else tokenizer
    vocab_size = overrides.pop("vocab_size", tokenizer.vocab_size)
    if isinstance(vocab_size, int) and vocab_size < tokenizer.vocab_size:
        raise ConfigError(f"vocab_size={vocab_size}: the tokenizer has ids up to {tokenizer.vocab_size - 1}; omit it, "
                          f"or give {tokenizer.vocab_size} or more")
    model = build_for(settings.model, task, dtype=policy, vocab_size=vocab_size, **overrides)
    return model, tokenizer_for(task, model, tokenizer)


def tokenizer_for(task, model, tokenizer):
    """Return a tokenizer that puts no <|endoftext|> around what a decoder is fine-tuned on, as transformers has it.

    There it is padding too, which transformers passes over to find the last token, whose vector is classified.
    """
    if model.body.traits.causal and task.script == "finetune" and isinstance(tokenizer, BytePairTokenizer):
        return BytePairTokenizer(tokenizer.ids, tokenizer.merges, bare=True)
    return tokenizer


def make_sampler(model, task, tokenizer):
    """Return what Loop takes as `sample`: a causal language model continues the empty text; None for other tasks."""
    if task.name != "causal_lm":
        return None
    generator = Generator(model.body, model.logits, Sampling(SAMPLE_TEMPERATURE))

    def sample():
        try:
            tokens = generator.generate([tokenizer.beginning()], SAMPLE_TOKENS)[0].tolist()
        except DataError:  # outputs that are no numbers; whether the run goes on is not the sample's to decide
            return {}
        return {"sample": tokenizer.decode([tokens])[0]}

    return sample


def _some(labels):
    return f"label {labels[0]!r}" if len(labels) == 1 else f"{len(labels)} labels, as {labels[0]!r},"


def _layers_of(paths):
    layers = sorted({path.split("/")[0] for path in paths})
    return "nothing" if not layers else ", ".join(layers)
