"""Texts with two marked entities, whose relation is the label.

The marks are plain text that every tokenizer knows, the "typed entity marker (punct)" of Zhou and Chen (2021, An
Improved Baseline for Sentence-level Relation Extraction, arXiv:2102.01373): `@ * person * Ann @ works for # ^ company ^
Acme #`. Without types: `@ Ann @ works for # Acme #`.
"""
from tfzoo.data.readers import Schema
from tfzoo.data.source import Source
from tfzoo.errors import shown

MARKS = ("@", "*"), ("#", "^")  # around the entity and around its type: of the first entity, of the second


def _check(row, labelled):
    if "entities" not in row:
        return ""
    entities, length = row["entities"], len(row["text"])
    if len(entities) != 2:
        return f"entities has {len(entities)} items, but must have two"
    for entity in entities:
        start, end = entity.get("start"), entity.get("end")
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= length:
            return f"the entity {shown(entity)} is not a span (start, end) of a text of {length} characters"
        if not isinstance(entity.get("type", ""), str):
            return f"the entity {shown(entity)} has a type that is not a string"
    (one, other) = sorted(entities, key=lambda entity: entity["start"])
    return f"the entities {shown(entities)} overlap" if other["start"] < one["end"] else ""


def mark_entities(text, entities):
    """Return a text with marks around two entities.

    Args:
        text: str.
        entities: list of two dict with `start` and `end` (int, code points, `end` exclusive) and, optionally, `type`.

    Example:
        >>> mark_entities("Ann left Acme.", [{"start": 9, "end": 13, "type": "ORG"}, {"start": 0, "end": 3}])
        '# Ann # left @ * org * Acme @.'
    """
    marked = [(entity["start"], entity["end"], entity.get("type"), *marks) for entity, marks in zip(entities, MARKS)]
    for start, end, kind, around, of_type in sorted(marked, reverse=True):
        kind = f"{of_type} {kind.replace('_', ' ').lower()} {of_type} " if kind else ""
        text = f"{text[:start]}{around} {kind}{text[start:end]} {around}{text[end:]}"
    return text


class Relations(Source):
    """A Source whose texts have marks around their `entities`, if it has that column."""

    @property
    def texts(self):
        first, *second = super().texts
        if "entities" in self.columns:
            first = [mark_entities(*row) for row in zip(first, self.columns["entities"])]
        return first, *second


RELATIONS = Schema(targets=("label",), optional=("text_pair", "entities"), check=_check, source=Relations)
