"""Assignment of the files in a folder to splits by name, following common usage and Hugging Face's datasets library.

A file or subfolder belongs to a split if its name contains the split's name as a word of its own, possibly with "set"
or "data" appended. Case is ignored. Examples: `dev_matched.tsv`, `Test-00000-of-00002.jsonl.gz`, `my_trainset2.csv`.
"""
import re

from tfzoo.data.readers import find_ending
from tfzoo.errors import DataError

TRAIN = ("train",)
EVAL = ("eval", "dev", "valid", "validation", "test")  # the first one that exists is used for evaluation
TEST = ("test",)
_SPLIT_OF = {name: name for name in TRAIN + EVAL} | {
    "training": "train", "evaluation": "eval", "val": "valid", "testing": "test"}
_WORD = re.compile("({})(?:sets?|data)?".format("|".join(sorted(_SPLIT_OF, key=len, reverse=True))))
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NO_LETTERS = re.compile(r"[\W\d_]+")
_SHARD = re.compile(r"(\d+)[-_. ]?of[-_. ]?(\d+)")
_NO_DATA = re.compile(r"(readme|licen[cs]e|copying|notice|citation|changelog|requirements|dataset_infos?)\b", re.I)


def splits_in(name):
    """Return the splits that the name of a file or folder mentions: set of str, a subset of TRAIN + EVAL.

    Example:
        >>> splits_in("dev_mismatched.tsv"), splits_in("Train-00000-of-00001.jsonl.gz"), splits_in("latest.csv")
        ({'dev'}, {'train'}, set())
    """
    words = _NO_LETTERS.split(_CAPITAL.sub(" ", name).lower())
    return {_SPLIT_OF[found[1]] for found in map(_WORD.fullmatch, words) if found}


def files_of(folder, splits, endings):
    """Select the files for training or evaluation in a folder, including any subfolders that are named after a split.

    Args:
        folder: pathlib.Path.
        splits: tuple of str, TRAIN, EVAL or TEST. If no name mentions train, the files whose names mention no split are
            the training data.
        endings: tuple of str, the supported file extensions.

    Returns:
        (list of pathlib.Path, list of str), both sorted: the files to read, and the names in the folder that are used
        for neither training nor evaluation, or all names if there are no files to read.

    Raises:
        DataError: if a name mentions both train and another split, shards are missing, or the same data exists in two
            forms, such as whole and sharded.
    """
    found, unread = {}, []
    for path in _entries(folder):
        if path.is_file() and find_ending(path) in endings and not path.name.startswith("."):
            found[path] = _split_of(path, folder)
        else:
            unread.append(path)
    read = {}
    for group in (TRAIN, EVAL, TEST):
        split = next((split for split in group if split in found.values()), None)
        read[group] = [path for path in found if found[path] == split and (split or not _NO_DATA.match(path.name))]
        if split is None and group != TRAIN:
            read[group] = []
    chosen = read[splits]
    _check_whole(chosen)
    taken = read[TRAIN] + read[EVAL] if chosen else []
    left = [path for path in [*unread, *found] if path not in taken]
    return chosen, sorted(f"{path.relative_to(folder)}{'/' if path.is_dir() else ''}" for path in left)


def _entries(folder):
    for path in sorted(folder.iterdir()):
        if path.is_dir() and splits_in(path.name) and not path.name.startswith("."):
            yield from _entries(path)
        else:
            yield path


def _split_of(path, folder):
    named = set().union(*map(splits_in, path.relative_to(folder).parts))
    if len(named) > 1 and "train" in named:
        raise DataError(f"the name of {path} mentions the splits {' and '.join(sorted(named))}: rename it to "
                        "mention only one, or pass the file itself instead of the folder")
    return next((split for split in reversed(TRAIN + EVAL) if split in named), None)


def _check_whole(paths):
    # Reject incomplete sets of shards, and files that exist in two forms (whole and sharded, plain and .gz).
    groups = {}
    for path in paths:
        name = path.name.lower().removesuffix(".gz")
        shard = _SHARD.search(name)
        whole = name[:shard.start()].rstrip("-_. ") + name[shard.end():] if shard else name
        number, count = map(int, shard.groups()) if shard else (0, 1)
        groups.setdefault((path.parent, whole), []).append((number, count, path))
    for (folder, whole), group in groups.items():
        numbers, counts, files = zip(*group)
        if len(set(counts)) > 1 or len(set(numbers)) < len(numbers):
            raise DataError(f"{files[0]} and {files[-1].name} contain the same data, judging by their names: keep "
                            "only one of them")
        if len(numbers) != counts[0] or min(numbers) > 1 or max(numbers) - min(numbers) >= counts[0]:
            raise DataError(f"{folder}: found only {len(numbers)} of {counts[0]} shards of {whole}, such as "
                            f"{files[0].name}: download the missing shards")
