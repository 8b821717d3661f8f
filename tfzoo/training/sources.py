"""Open the data sources of a run, make batches from them, and report anything unusual."""
import pathlib

from tfzoo.data.source import has_own_eval, open_source
from tfzoo.data.splits import EVAL, splits_in
from tfzoo.errors import ConfigError, DataError
from tfzoo.progress import tell
from tfzoo.tasks import tasks
from tfzoo.training.fields import LONGEST


def open_sources(settings):
    """Open the data of a run.

    Args:
        settings: Settings.

    Returns:
        (training source, evaluation source or None, test source or None).

    Raises:
        FileNotFoundError, ConfigError, DataError: if `open_source` raises them; DataError also if some of the sources
            have text pairs and others have not, or --test_data has no test split.
    """
    options = {"schema": tasks()[settings.task].schema, "document": settings.document,
               "max_bad_rows": settings.max_bad_rows, "allow_download": settings.allow_download}
    train, evaluation, test = open_source(settings.data, **options), None, None
    if splits_in(pathlib.Path(settings.data).name) & set(EVAL):
        tell(f"{settings.data}: judging by its name, this is not training data; training on it anyway")
    if settings.eval_data:
        evaluation = open_source(settings.eval_data, split="eval", **options)
        if evaluation is None:
            evaluation = open_source(settings.eval_data, split="train", **options)
    elif settings.eval_fraction:
        train, evaluation = train.split(settings.eval_fraction, settings.seed)
    elif has_own_eval(settings.data):
        evaluation = open_source(settings.data, split="eval", **options)
    if settings.test_data:
        test = open_source(settings.test_data, split="test", **options)
        if test is None:
            raise DataError(f"--test_data={settings.test_data} has no test split: give a file, or a folder that "
                            "contains test.jsonl")
    for source in (train, evaluation, test):
        if source is None:
            continue
        tell_counts(source)
        one, two = (1 + ("text_pair" in each.columns) for each in (train, source))
        if tasks()[settings.task].paired and one != two:
            raise DataError(f"{train.name} has {one} text(s) per example and {source.name} {two}: text_pair must be "
                            "in both or in neither")
    return train, evaluation, test


def make_batches(settings, task, tokenizer, sources):
    """Make Batches from both sources, and print notes about them for the user.

    Args:
        settings: Settings.
        task: Task.
        tokenizer: Tokenizer.
        sources: (training source, evaluation source or None, test source or None).

    Returns:
        list of the Batches of each source, or None.
    """
    made = [None] * len(sources)
    for number in (0, 2, 1):  # the evaluation data last, since a task may choose by them what the best step is
        if sources[number] is not None:
            made[number] = task.features(
                sources[number], tokenizer, batch_size=settings.batch_size, max_length=settings.max_length,
                seed=settings.seed, training=number == 0)
    for source, data in zip(sources, made):
        if data is not None:
            data.numbers = source.numbers
            tell_notes(source, data, settings.max_length)
    return made


def length_of(loaded, given=0):
    """Return the maximum number of tokens per example for a loaded model: int.

    Args:
        loaded: Loaded.
        given: int, --max_length; 0 for the length that the model was trained with. Models from other libraries record
            only their number of positions; for these, the length is limited to LONGEST, and a message is printed.

    Raises:
        ConfigError: if --max_length exceeds the model's number of positions.
    """
    positions, length = loaded.body.config["max_length"], given or loaded.config["max_length"]
    if given > positions:
        raise ConfigError(f"--max_length={given} exceeds the model's {positions} positions: lower it")
    if not given and "kept" in loaded.config and length > LONGEST:
        tell(f"--max_length={LONGEST} by default; the model accepts up to {length:,} tokens")
        return LONGEST
    return length


def tell_counts(source):
    """Print how many examples a source has, how many rows were skipped, and how many invalid bytes were replaced."""
    counts = ((source.skipped, "bad rows skipped"), (source.replaced, "invalid UTF-8 bytes replaced by U+FFFD"))
    extra = [f"{count:,} {what}" for count, what in counts if count]
    tell(f"{source.name}: {len(source):,} examples{''.join(f', {item}' for item in extra)}")


def tell_notes(source, data, max_length):
    """Print notes about the batches made from a source, for example how many texts were truncated."""
    for note in data.notes(source, max_length):
        tell(note)
