"""Entities and the word tags that encode them (Tjong Kim Sang and De Meulder 2003, arXiv:cs/0306050).

IO, IOB1, IOB2, BIOES, BILOU and BMES are all read by conlleval's rule, which accepts any sequence of tags: an entity
continues until a tag ends it, begins another entity, or has a different type. Training and prediction use IOB2, except
for data sets in IO, which stay in IO: it cannot represent adjacent entities of the same type, so IOB2 would only add
labels that have to be learned. An entity's type is the text after the first "-". For example, the type in
B-creative-work is creative-work.
"""
import re

import numpy as np

from tfzoo.errors import DataError, shown

OUTSIDE = "O"
BEGINS, INSIDE, ENDS = frozenset("BSU"), frozenset("IM"), frozenset("ELSU")
MARKS = BEGINS | INSIDE | ENDS
_TYPED = re.compile(rf"[{''.join(sorted(MARKS))}]-.", re.DOTALL)
_MISSPELLED = re.compile(r".+[-_][BIMELSU]|[BIMELSU](_.+|[-_])|[bimelsu][-_].*", re.DOTALL)  # PER-B, B_PER, B-, b-per


def are_entities(found):
    """Return whether tags encode entities, as opposed to plain classes such as NOUN.

    Args:
        found: iterable of str, the tags that occur in a data set, or its labels.

    Returns:
        bool, True if every tag is O or a mark with a type (B-PER), or if every tag is O or a bare mark and the marks
        can encode entities that span several words (B, I, O). Also True if O is the only tag.

    Raises:
        DataError: if O and marks with a type are mixed with other tags, or all tags except O look like misspelled marks
            with a type (PER-B, B_PER, b-per).

    Example:
        >>> are_entities(["O", "I-PER"]), are_entities(["ADJ", "NOUN"])
        (True, False)
    """
    found = set(found)
    typed = {tag for tag in found if _TYPED.match(tag)}
    others = found - typed - {OUTSIDE}
    if typed and others and OUTSIDE in found:
        raise DataError(f"the tag {shown(min(others))} is mixed with entity tags such as {shown(min(typed))}: "
                        f"expected O, or one of {' '.join(sorted(MARKS))} followed by - and a type")
    if others and found & {OUTSIDE, "o"} and all(map(_MISSPELLED.fullmatch, others - {"o"})) and not typed:
        raise DataError(f"the tag {shown(max(others))} looks like a misspelled entity tag: expected O, or "
                        f"one of {' '.join(sorted(MARKS))} followed by - and a type, such as B-PER")
    bare = "B" in others and others & (INSIDE | {"E", "L"}) and others <= MARKS
    return bool(typed and not others) or found == {OUTSIDE} or bool(bare and not typed)


def entities(tags):
    """Return the entities that a sentence's tags encode according to conlleval.

    Args:
        tags: sequence of str, the tags of one sentence.

    Returns:
        List of (str, int, int): the type, first word and end (exclusive) of each entity, in order.

    Raises:
        DataError: if a tag is not an entity tag.

    Example:
        >>> entities(["B-PER", "I-PER", "O", "I-LOC"])
        [('PER', 0, 2), ('LOC', 3, 4)]
    """
    found, first, current, ended = [], 0, None, False  # `current` is the type of the open entity
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, kind = tag.partition("-")
        if mark != OUTSIDE and mark not in MARKS:
            raise DataError(f"{shown(tag)} is not an entity tag: expected O, or one of "
                            f"{' '.join(sorted(MARKS))} followed by - and a type")
        if current is not None and (ended or mark == OUTSIDE or mark in BEGINS or kind != current):
            found.append((current, first, place))
            current = None
        if mark != OUTSIDE and current is None:
            first, current = place, kind
        ended = mark in ENDS
    return found


def strict_entities(tags, ends=False):
    """Return only the entities that are encoded without error, as seqeval does in its strict mode.

    Args:
        tags: sequence of str, the tags of one sentence.
        ends: bool, whether the scheme marks the ends of entities (BIOES, BILOU, BMES), unlike IOB2.

    Returns:
        List of (str, int, int), as from `entities`.

    Example:
        >>> strict_entities(["B-PER", "I-LOC", "O", "I-LOC"]), strict_entities(["B-PER", "E-PER", "B-PER"], ends=True)
        ([('PER', 0, 1)], [('PER', 0, 2)])
    """
    found, parts = [], [tag.partition("-") for tag in [*tags, OUTSIDE]]
    for first, (mark, _, kind) in enumerate(parts[:-1]):
        end = first + 1
        while mark == "B" and parts[end][0] in INSIDE and parts[end][2] == kind:
            end += 1
        if ends and mark == "B":
            if parts[end][0] in ENDS - BEGINS and parts[end][2] == kind:
                found.append((kind, first, end + 1))
        elif mark == "B" or ends and mark in BEGINS:
            found.append((kind, first, end))
    return found


def tags_of(found, length):
    """Return IOB2 tags that encode entities.

    Args:
        found: iterable of (str, int, int): the type, first word and end (exclusive) of each entity.
        length: int, the number of words in the sentence.

    Returns:
        List of `length` str.

    Raises:
        DataError: if entities overlap, are empty or lie outside the sentence.

    Example:
        >>> tags_of([("PER", 0, 2)], 3)
        ['B-PER', 'I-PER', 'O']
    """
    tags = [OUTSIDE] * length
    for kind, first, end in found:
        if not 0 <= first < end <= length or tags[first:end] != [OUTSIDE] * (end - first):
            raise DataError(f"an entity spans words {first} to {end} of {length}: entities must have at least one "
                            "word, lie within the sentence and not overlap")
        suffix = f"-{kind}" if kind else ""
        tags[first:end] = [f"B{suffix}", *[f"I{suffix}"] * (end - first - 1)]
    return tags


def to_iob2(tags):
    """Convert a sentence's tags to IOB2 tags for the same entities.

    Args:
        tags: sequence of str, the tags of one sentence.

    Returns:
        List of str.

    Raises:
        DataError: if a tag is not an entity tag.

    Example:
        >>> to_iob2(["I-ORG", "I-ORG", "I-LOC"])
        ['B-ORG', 'I-ORG', 'B-LOC']
    """
    return tags_of(entities(tags), len(tags))


def is_io(found):
    """Return whether entity tags are IO, which marks words only as inside or outside, not as beginnings or ends.

    Args:
        found: iterable of str, the entity tags that occur in a data set, or its labels.
    """
    marks = {tag.partition("-")[0] for tag in found}
    return bool(marks & INSIDE) and not marks & (BEGINS | ENDS)


def has_ends(found):
    """Return whether entity tags mark the ends of entities, as BIOES, BILOU and BMES do (see `is_io`)."""
    return any(tag.partition("-")[0] in ENDS for tag in found)


def transitions(labels):
    """Return which labels may follow each other in the scheme that the labels use.

    In IO, and for plain classes, any label may follow any other. In IOB2, I-TYPE only follows B-TYPE and I-TYPE. In
    schemes that mark ends, such as BIOES, an entity also continues until its end. The rules for a type only apply if
    the labels can satisfy them: without B-TYPE, I-TYPE may begin an entity.

    Args:
        labels: list of C str.

    Returns:
        (bool [C], bool [C, C], bool [C]): whether each label may begin a sentence; whether label j may follow label i,
        at [i, j]; and whether each label may end a sentence.

    Example:
        >>> start, between, end = transitions(["O", "B-PER", "I-PER"])
        >>> start.tolist(), between[0].tolist(), end.all()
        ([True, True, False], [True, True, False], np.True_)
    """
    everything = np.ones(len(labels), bool)
    if not are_entities(labels) or is_io(labels):
        return everything, np.ones((len(labels),) * 2, bool), everything
    marks, kinds = zip(*((mark, kind) for mark, _, kind in (label.partition("-") for label in labels)))
    marks, kinds = np.array(marks), np.array(kinds)
    goes_on = np.isin(marks, [*(INSIDE | ENDS - BEGINS)])
    opens = np.isin(marks, ["B", *INSIDE])  # an entity may go on after these
    same = (kinds[:, None] == kinds) & opens[:, None] & goes_on
    free = ~goes_on | ~np.array([any((marks == "B") & (kinds == kind)) for kind in kinds])
    if not has_ends(labels):
        return free, free | same, everything
    closes = np.isin(marks, [*(ENDS - BEGINS)])
    closed = ~opens | ~np.array([any(closes & (kinds == kind)) for kind in kinds])
    return free, closed[:, None] & free | same, closed


def to_scheme(tags, labels):
    """Convert a sentence's tags to the scheme that the labels use: IO, IOB2, or one that marks ends, such as BIOES.

    Args:
        tags: sequence of str, the tags of one sentence.
        labels: iterable of str, the labels for the data set.

    Returns:
        List of str.

    Raises:
        DataError: if a tag is not an entity tag.

    Example:
        >>> to_scheme(["B-ORG", "B-ORG"], ["O", "I-ORG"])
        ['I-ORG', 'I-ORG']
    """
    if is_io(labels):
        return [f"I{tag[1:]}" if tag[0] == "B" else tag for tag in to_iob2(tags)]
    found, tags = entities(tags), to_iob2(tags)
    if not has_ends(labels):
        return tags
    marks = {label.partition("-")[0] for label in labels}
    inside, last, only = (next((mark for mark in choice if mark in marks), choice[0]) for choice in ("IM", "EL", "SU"))
    for _, first, end in found:
        tags[first + 1:end] = [inside + tag[1:] for tag in tags[first + 1:end]]
        tags[end - 1] = (only if end == first + 1 else last) + tags[end - 1][1:]
    return tags


def types_of(found):
    """Return the sorted entity types that occur in tags: list of str."""
    return sorted({tag.partition("-")[2] for tag in found if tag != OUTSIDE})


def labels_of(found):
    """Return the labels for training.

    Args:
        found: iterable of str, the tags that occur in a data set.

    Returns:
        List of str: for entity tags, O followed by B-TYPE and I-TYPE (or only I-TYPE for IO) for each type, sorted by
        type; for plain classes, the sorted classes.

    Raises:
        DataError: if `are_entities` raises it.

    Example:
        >>> labels_of(["B-PER", "O", "I-LOC"])
        ['O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER']
        >>> labels_of(["I-PER", "O", "I-LOC"])
        ['O', 'I-LOC', 'I-PER']
    """
    found = set(found)
    if not are_entities(found):
        return sorted(found)
    marks = "I" if is_io(found) else "BI"
    return [OUTSIDE, *(f"{mark}-{kind}" if kind else mark for kind in types_of(found) for mark in marks)]
