"""The reader for the rows of any data file, one by one, in constant memory."""
import functools

from tfzoo.data.readers.conll import sentences_of
from tfzoo.data.readers.conllu import conllu_sentences
from tfzoo.data.readers.glue import names_for, renamed
from tfzoo.data.readers.lines import ending_of, json_objects, skip_bad
from tfzoo.data.readers.schema import COLUMNS, LABELLED
from tfzoo.data.readers.squad import questions_of
from tfzoo.data.readers.tables import table_rows
from tfzoo.errors import ConfigError


def read_rows(lines, schema=LABELLED, labelled=True, max_bad_rows=0, on_bad=None):
    """Read rows one by one.

    Args:
        lines: Lines of a file with one of the schema's extensions: .jsonl; .tsv or .csv with a header (see
            `table_rows`); .txt with one text per line; .conll (see `sentences_of`); .conllu (see `conllu_sentences`);
            or .json (see `questions_of`).
        schema: Schema, the columns to read; other columns are ignored.
        labelled: bool, whether the rows must have the schema's targets. If False, the targets are not read.
        max_bad_rows: int, the number of bad rows to skip before an error is raised.
        on_bad: callable that receives a message (str) for each skipped row, or None.

    Yields:
        dict of column to value; the columns of GLUE and CLUE (see glue.py) get tfzoo's names. Integer labels are
        converted to str. Blank lines are skipped, except in .txt files.

    Raises:
        ConfigError: if the file extension is not supported, or a .txt file would have to contain labels.
        DataError: if there are more bad rows than allowed; the message states the file, the line and the reason.
        OSError: if the file cannot be read; FileNotFoundError if it does not exist.
    """
    ending = ending_of(lines.path, schema.allowed(labelled))
    if ending == ".txt" and labelled and schema.targets:
        raise ConfigError(f"{lines.path}: labelled texts must be .jsonl, .tsv or .csv, optionally with .gz")
    yield from skip_bad(lines.path, _rows(lines, ending, schema, labelled), needs=schema.required(labelled),
                        max_bad_rows=max_bad_rows, on_bad=on_bad, unit="question" if ending == ".json" else "line")


def _rows(lines, ending, schema, labelled):
    for number, record, reason in _records(lines, ending, schema, labelled):
        row, wrong = ({}, "") if record is None else schema.row(record, labelled)
        yield number, row, reason or wrong


def _records(lines, ending, schema, labelled):
    if ending == ".txt":
        name = "text" if "text" in schema.inputs + schema.optional else (schema.inputs + schema.optional)[0]
        return ((number, {name: line.removesuffix("\n").removesuffix("\r")}, "")
                for number, line in enumerate(lines, 1))
    scored = "value" in schema.targets + schema.optional_targets
    glue = functools.partial(names_for, regression=scored) if "text" in schema.inputs else None
    if ending == ".jsonl":
        return ((number, renamed(record, glue) if glue and record else record, reason)
                for number, record, reason in json_objects(lines))
    if ending == ".conll":
        return sentences_of(lines, labelled)
    if ending == ".json":
        return questions_of(lines, labelled)
    if ending == ".conllu":
        return conllu_sentences(lines, labelled)
    needed = [COLUMNS[name][0] for name in schema.columns(labelled)]
    return table_rows(lines, ending, needed, known=[*needed, *(COLUMNS[name][0] for name in (
        *schema.optional, *(schema.optional_targets if labelled else ())))], glue=glue)
