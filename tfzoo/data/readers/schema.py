"""The columns that a task reads from each row of its data, and the checks of their values."""
import dataclasses
import math

from tfzoo.errors import shown

ENDINGS = (".jsonl", ".tsv", ".csv", ".txt")


def _string(value):
    return value, "" if isinstance(value, str) else "not a string"


def _label(value):
    value = str(value) if isinstance(value, int) else value
    if not isinstance(value, str):
        return value, "not a string or whole number"
    return value, "" if value.strip() else "empty"


def _number(value):
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    return number, "" if math.isfinite(number) else "not a finite number"


def _index(value):
    whole = isinstance(value, int) and not isinstance(value, bool) or \
        isinstance(value, str) and value.isdecimal() and len(value) < 20  # `int` refuses thousands of digits
    return (int(value), "") if whole and 0 <= int(value) < 2 ** 31 else (value, "not an index, a whole number from 0")


def _strings(value):
    right = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return value, "" if right else "not a list of strings"


def _labels(value):
    value = [str(item) if type(item) is int else item for item in value] if isinstance(value, list) else value
    right = isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
    return value, "" if right else "not a list of labels"


def _objects(value):
    right = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    return value, "" if right else "not a list of objects"


def _answers(value):
    if isinstance(value, dict) and {"text", "answer_start"} <= value.keys():  # as the library datasets writes them
        texts, starts = value["text"], value["answer_start"]
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            value = [{"text": text, "answer_start": start} for text, start in zip(texts, starts)]
    return _objects(value)


def _pairs(value):
    right = isinstance(value, list) and all(isinstance(item, (list, tuple)) and len(item) == 2 and
                                            all(type(part) is int for part in item) for item in value)
    return [tuple(item) for item in value] if right else None, ""  # in other files, `offsets` may mean something else


# Column -> (its name in files, the function that returns its value and what is wrong with it or "").
COLUMNS = {
    **{name: (name, _string) for name in ("text", "text_pair", "question", "context", "source", "target", "prompt",
                                          "completion")},
    **{name: (name, _strings) for name in ("tokens", "tags", "choices", "negatives")},
    **{name: (name, _objects) for name in ("entities", "messages")},
    "answers": ("answers", _answers), "id": ("id", _label),
    "label": ("label", _label), "labels": ("labels", _labels), "value": ("label", _number),
    "choice": ("label", _index), "predicate": ("predicate", _index), "document": ("document", _label),
    "offsets": ("offsets", _pairs)}


@dataclasses.dataclass(frozen=True)
class Schema:
    """The columns of a task's data.

    A column has the same name in files, except for `value` (regression) and `choice` (multiple choice), which are
    called label there.

    Attributes:
        inputs: tuple of str, the columns that each row must have.
        targets: tuple of str, the columns that each row must have as well, except in prediction.
        optional: tuple of str, the columns that are read if a row has them.
        optional_targets: tuple of str, more of these, which are not read in prediction.
        check: callable that takes a row (dict) and whether targets are required (bool), and returns why the row is bad,
            or ""; it may complete the row.
        endings: tuple of str, the extensions of data files.
        needs: (str, str), what a row must contain, without and with its targets; by default, the names of the columns.
        source: type, the class of a data set in memory; None: Source.
        streamed: bool, whether files are read as TextFiles, which are not held in memory.
    """

    inputs: tuple = ("text",)
    targets: tuple = ()
    optional: tuple = ()
    optional_targets: tuple = ()
    check: callable = None
    endings: tuple = ENDINGS
    needs: tuple = ()
    source: type = None
    streamed: bool = False

    def columns(self, labelled=True):
        """Return the names of the required columns: tuple of str; without targets unless `labelled`."""
        return self.inputs + self.targets * labelled

    def required(self, labelled=True):
        """Return a description of what a row must contain: str."""
        return self.needs[labelled] if self.needs else " and ".join(COLUMNS[name][0] for name in self.columns(labelled))

    def allowed(self, labelled=True):
        """Return the extensions of data files: tuple of str; any file of texts can be predicted."""
        texts = {"text", "prompt"} & {*self.inputs, *self.optional}
        return self.endings if labelled or not texts else tuple(dict.fromkeys(self.endings + ENDINGS))

    def row(self, record, labelled=True):
        """Return the row of a record, and what is wrong with it.

        Args:
            record: dict, for example a JSON object; other keys than the names of columns are ignored.
            labelled: bool, whether the targets are required.

        Returns:
            (dict of column to value, str): the row; and why it is bad, or "".
        """
        row = {}
        for name in self.columns(labelled) + self.optional + self.optional_targets * labelled:
            key, read = COLUMNS[name]
            if record.get(key) is None:
                continue
            row[name], reason = read(record[key])
            if reason:
                return row, f"an empty {key}" if reason == "empty" else f"{key} is {shown(record[key])}, {reason}"
        missing = [COLUMNS[name][0] for name in self.columns(labelled) if name not in row]
        if missing:
            return row, f"no value for {', '.join(missing)}"
        return row, self.check(row, labelled) if self.check else ""


TEXTS = Schema(streamed=True)
LABELLED = Schema(targets=("label",), optional=("text_pair",))
