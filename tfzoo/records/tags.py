"""Entities and the word tags that encode them (Tjong Kim Sang and De Meulder 2003, arXiv:cs/0306050).

IO, IOB1, IOB2, BIOES, BILOU and BMES are all read by one rule, conlleval's, which accepts any sequence of tags: an
entity continues until a tag ends it, begins another, or has another type. Training and prediction use IOB2, or IO for a
data set in IO: its entities of one type never touch, and half as many labels are learned from fewer examples. The type
is everything after the first "-": B-creative-work has the type creative-work.
"""
import re

from tfzoo.errors import DataError, shown

OUTSIDE = "O"
BEGINS, INSIDE, ENDS = frozenset("BSU"), frozenset("IM"), frozenset("ELSU")
MARKS = BEGINS | INSIDE | ENDS
_TYPED = re.compile(rf"[{''.join(sorted(MARKS))}]-.", re.DOTALL)
_MISSPELLED = re.compile(r".+[-_][BIMELSU]|[BIMELSU]_.+|[bimelsu][-_].+", re.DOTALL)  # PER-B, B_PER, b-per


def are_entities(found):
    """Return whether tags are entity tags, not plain classes such as NOUN, which must not be read as entities.

    Args:
        found: iterable of str, the tags that occur in a data set, or its labels.

    Returns:
        bool: True if each is O or a mark with a type (B-PER), or if each is O or a bare mark and the marks can encode
        entities of several words (B, I, O). O alone counts too.

    Raises:
        DataError: besides O and tags with a type, some tag is neither, or all tags but O spell a mark with a type in
            another way (PER-B, B_PER, b-per).

    Example:
        >>> are_entities(["O", "I-PER"]), are_entities(["ADJ", "NOUN"])
        (True, False)
    """
    found = set(found)
    typed = {tag for tag in found if _TYPED.match(tag)}
    others = found - typed - {OUTSIDE}
    if typed and others and OUTSIDE in found:
        raise DataError(f"the tag {shown(min(others))} is mixed with entity tags such as {shown(min(typed))}: "
                        f"allowed are O and one of {' '.join(sorted(MARKS))} followed by - and a type")
    if others and found & {OUTSIDE, "o"} and all(map(_MISSPELLED.fullmatch, others - {"o"})) and not typed:
        raise DataError(f"the tag {shown(max(others))} looks like an entity tag in another spelling: allowed are O and "
                        f"one of {' '.join(sorted(MARKS))} followed by - and a type, such as B-PER")
    bare = "B" in others and others & (INSIDE | {"E", "L"}) and others <= MARKS
    return bool(typed and not others) or found == {OUTSIDE} or bool(bare and not typed)


def entities(tags):
    """Return the entities that the tags of a sentence encode, read as by conlleval.

    Args:
        tags: sequence of str, of one sentence.

    Returns:
        List of (str, int, int): type, first word, end (the word after the last), in order.

    Raises:
        DataError: a tag is not an entity tag.

    Example:
        >>> entities(["B-PER", "I-PER", "O", "I-LOC"])
        [('PER', 0, 2), ('LOC', 3, 4)]
    """
    found, first, current, ended = [], 0, None, False  # current: type of the open entity
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, kind = tag.partition("-")
        if mark != OUTSIDE and mark not in MARKS:
            raise DataError(f"{shown(tag)} is not an entity tag: allowed are O and one of "
                            f"{' '.join(sorted(MARKS))} followed by - and a type")
        if current is not None and (ended or mark == OUTSIDE or mark in BEGINS or kind != current):
            found.append((current, first, place))
            current = None
        if mark != OUTSIDE and current is None:
            first, current = place, kind
        ended = mark in ENDS
    return found


def tags_of(found, length):
    """Return the IOB2 tags of entities.

    Args:
        found: iterable of (type, first word, end), see `entities`.
        length: int, number of words in the sentence.

    Returns:
        List of `length` str.

    Raises:
        DataError: entities overlap, are empty or lie outside the sentence.

    Example:
        >>> tags_of([("PER", 0, 2)], 3)
        ['B-PER', 'I-PER', 'O']
    """
    tags = [OUTSIDE] * length
    for kind, first, end in found:
        if not 0 <= first < end <= length or tags[first:end] != [OUTSIDE] * (end - first):
            raise DataError(f"an entity spans words {first} to {end} of {length}: allowed are entities of at least one "
                            "word that lie within the sentence and do not overlap")
        suffix = f"-{kind}" if kind else ""
        tags[first:end] = [f"B{suffix}", *[f"I{suffix}"] * (end - first - 1)]
    return tags


def to_iob2(tags):
    """Return a sentence's tags in IOB2, with the same entities; arguments and errors as `entities`.

    Example:
        >>> to_iob2(["I-ORG", "I-ORG", "I-LOC"])
        ['B-ORG', 'I-ORG', 'B-LOC']
    """
    return tags_of(entities(tags), len(tags))


def is_io(found):
    """Return whether entity tags only mark inside and outside (IO), not where entities begin or end.

    Args:
        found: iterable of str, the entity tags that occur, or labels.
    """
    marks = {tag.partition("-")[0] for tag in found}
    return bool(marks & INSIDE) and not marks & (BEGINS | ENDS)


def to_scheme(tags, labels):
    """Return a sentence's tags in the scheme of labels, IO or IOB2; arguments and errors as `entities`.

    Example:
        >>> to_scheme(["B-ORG", "B-ORG"], ["O", "I-ORG"])
        ['I-ORG', 'I-ORG']
    """
    tags = to_iob2(tags)
    return [f"I{tag[1:]}" if tag[0] == "B" else tag for tag in tags] if is_io(labels) else tags


def types_of(found):
    """Return the entity types of tags, sorted: list of str."""
    return sorted({tag.partition("-")[2] for tag in found if tag != OUTSIDE})


def labels_of(found):
    """Return the labels to train with.

    Args:
        found: iterable of str, the tags that occur.

    Returns:
        List of str: O, then B and I (for IO, only I) of each type, sorted by type; or plain classes, sorted.

    Raises:
        DataError: see `are_entities`.

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
