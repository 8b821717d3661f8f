"""Reader for questions in .json files in the form of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, arXiv:1606.05250), which
CMRC 2018 and many others share: articles, with paragraphs, with questions."""
import json

from tfzoo.errors import DataError, shown
from tfzoo.files import once


def _items(parent, key, what):
    # Yield (place, item) of a list of objects, or (place, None) for what is not an object.
    found = parent.get(key)
    if not isinstance(found, list):
        raise DataError(f"{what} has no list of {key}, but {shown(found)}")
    for number, item in enumerate(found, 1):
        yield number, item if isinstance(item, dict) else None


def questions_of(lines, labelled=True):
    """Yield questions one at a time.

    Args:
        lines: Lines of a .json file: {"data": [{"paragraphs": [{"context", "qas": [{"question", "id", "answers",
            "is_impossible"}]}]}]}.
        labelled: bool, whether `is_impossible` is read, which makes a question one without answers.

    Yields:
        (int, dict, str): the number of the question in the file, from 1; a record with `question`, `context`, `id` and
        `answers` as they are in the file, or None if it is bad; and why it is bad, or "".

    Raises:
        DataError: if the file is not JSON, or not in this form.
    """
    try:
        whole = json.loads("".join(lines), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{lines.path}: bad JSON ({error})") from None
    number = 0
    try:
        for article, one in _items(whole if isinstance(whole, dict) else {}, "data", "the file"):
            for place, paragraph in _items(one or {}, "paragraphs", f"article {article}"):
                where = f"paragraph {place} of article {article}"
                for _, question in _items(paragraph or {}, "qas", where):
                    number += 1
                    yield (number, *_record(question, paragraph, labelled=labelled))
    except DataError as error:
        raise DataError(f"{lines.path}: {error}; required: the form of SQuAD, "
                        '{"data": [{"paragraphs": [{"context", "qas": [{"question", "answers"}]}]}]}') from None


def _record(question, paragraph, labelled):
    if question is None:
        return None, "not a JSON object"
    record = {**question, "context": paragraph.get("context")}
    impossible = record.get("is_impossible", False)
    if not labelled or impossible is False:
        return record, ""
    if impossible is not True:
        return None, f"is_impossible is {shown(impossible)}, not true or false"
    if record.get("answers"):
        return None, "is_impossible, but there are answers"
    return {**record, "answers": []}, ""
