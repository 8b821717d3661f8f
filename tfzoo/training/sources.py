"""The examples of a run: from the settings to sources, and from sources to batches, with a line for what is special."""
import pathlib

from tfzoo.data.source import has_own_eval, open_source
from tfzoo.data.splits import EVAL, splits_in
from tfzoo.errors import ConfigError, DataError
from tfzoo.progress import tell
from tfzoo.tasks import tasks
from tfzoo.training.settings import LONGEST


def open_sources(settings):
    """Open the data that a run trains on and is evaluated on.

    Args:
        settings: Settings.

    Returns:
        (training source, evaluation source or None).

    Raises:
        FileNotFoundError, ConfigError, DataError: see open_source; DataError too where one has pairs and one has none.
    """
    options = {"columns": tasks()[settings.task].columns, "document": settings.document,
               "max_bad_rows": settings.max_bad_rows, "allow_download": settings.allow_download}
    train, evaluation = open_source(settings.data, **options), None
    if splits_in(pathlib.Path(settings.data).name) & set(EVAL):
        tell(f"{settings.data} is by its name no training data; it is trained on because --data names it")
    if settings.eval_data:
        evaluation = open_source(settings.eval_data, split="eval", **options)
        if evaluation is None:
            evaluation = open_source(settings.eval_data, split="train", **options)
    elif settings.eval_fraction:
        train, evaluation = train.split(settings.eval_fraction, settings.seed)
    elif has_own_eval(settings.data):
        evaluation = open_source(settings.data, split="eval", **options)
    for source in (train, evaluation):
        if source is not None:
            tell_counts(source)
    if evaluation is not None and ("text_pair" in train.columns) != ("text_pair" in evaluation.columns):
        one, two = (1 + ("text_pair" in source.columns) for source in (train, evaluation))
        raise DataError(f"{train.name} has {one} text(s) an example and {evaluation.name} {two}: allowed is text_pair "
                        "in both or in neither")
    return train, evaluation


def make_batches(settings, task, tokenizer, sources):
    """Return the Batches (training data, evaluation data or None) of two sources, and tell what is special in them."""
    made = [None if source is None else task.features(
        source, tokenizer, batch_size=settings.batch_size, max_length=settings.max_length, seed=settings.seed,
        training=training) for source, training in zip(sources, (True, False))]
    for source, data in zip(sources, made):
        if data is not None:
            data.numbers = source.numbers
            tell_notes(source, data, settings.max_length)
    return made


def length_of(loaded, given=0):
    """Return the tokens of an example of a model's data: int.

    Args:
        loaded: Loaded.
        given: int, --max_length. 0: what the model was trained with; of one that others trained, whose max_length is
            all of its positions, at most LONGEST, which a line says.

    Raises:
        ConfigError: more than the model's positions.
    """
    positions, length = loaded.body.config["max_length"], given or loaded.config["max_length"]
    if given > positions:
        raise ConfigError(f"--max_length={given}: the model has {positions} positions; lower it")
    if not given and "kept" in loaded.config and length > LONGEST:
        tell(f"--max_length={LONGEST}, as none is given: the model takes up to {length:,} tokens")
        return LONGEST
    return length


def tell_counts(source):
    """Print how many examples a source has and what was wrong with them."""
    counts = ((source.skipped, "bad rows skipped"), (source.replaced, "bytes that were no UTF-8 replaced by U+FFFD"))
    extra = [f"{count:,} {what}" for count, what in counts if count]
    tell(f"{source.name}: {len(source):,} examples{''.join(f', {item}' for item in extra)}")


def tell_notes(source, data, max_length):
    """Print what a user should know of the batches of a source, as how many texts were cut."""
    for note in data.notes(source, max_length):
        tell(note)
