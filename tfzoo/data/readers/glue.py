"""The columns of GLUE's files (Wang et al. 2018, arXiv:1804.07461) and CLUE's (Xu et al. 2020, arXiv:2004.05986).

A file is recognized by its columns. Where it has a column `text`, its columns are tfzoo's own.
"""
import functools

# Columns of one or two texts, in order of precedence.
TEXTS = (("sentence1", "sentence2"), ("question1", "question2"), ("question", "sentence"), ("premise", "hypothesis"),
         ("#1 String", "#2 String"), ("sentence",))
LABELS = ("label", "gold_label", "is_duplicate", "Quality", "label_desc", "label_des")
COLA = ("source", "label", "mark", "sentence")  # the columns of CoLA's train.tsv and dev.tsv, which have no header
NO_LABEL = "-"  # of pairs whose annotators disagree, in MNLI, SNLI and CMNLI


@functools.lru_cache(maxsize=100)
def names_for(columns, regression=False):
    """Return tfzoo's names for the columns that a task reads.

    Args:
        columns: tuple of str, the columns of a file or the keys of an object.
        regression: bool, whether the label is a number: STS-B's `score`.

    Returns:
        dict of name in the file -> "text", "text_pair" or "label", empty if the columns are not those of GLUE or CLUE.
    """
    texts = next((names for names in TEXTS if set(names) <= set(columns)), None)
    if "text" in columns or texts is None:
        return {}
    label = next((name for name in (("score", *LABELS) if regression else LABELS) if name in columns), None)
    return {**dict(zip(texts, ("text", "text_pair"))), **({label: "label"} if label else {})}


def renamed(record, glue):
    """Return a record of GLUE or CLUE with tfzoo's column names, or any other record unchanged.

    Args:
        record: dict.
        glue: callable, `names_for` of a task.
    """
    names = glue(tuple(record))
    if not names:
        return record
    found = {names.get(name, name): value for name, value in record.items()
             if name in names or name not in names.values()}
    if found.get("label") == NO_LABEL:
        del found["label"]
    return found


def is_cola(row):
    """Return whether the first row of a .tsv file, a list of str, is a row of CoLA rather than a header."""
    return len(row) == len(COLA) and row[1] in ("0", "1") and row[2] in ("", "*")
