"""Entities and the tags of words that spell them (Tjong Kim Sang and De Meulder 2003, arXiv:cs/0306050).

IO, IOB1, IOB2, BIOES, BILOU and BMES are all read by one rule, conlleval's, which accepts any sequence of tags: an
entity goes on until a tag ends it, begins another, or names another type. Training and prediction use IOB2, but IO
where a data set is in IO: its entities of one type never touch, and half of the labels learn with fewer examples. A
type is what follows the first "-", so that B-creative-work is of the type creative-work.
"""
import re

from tfzoo.errors import DataError, shown

OUTSIDE = "O"
BEGINS, INSIDE, ENDS = frozenset("BSU"), frozenset("IM"), frozenset("ELSU")
MARKS = BEGINS | INSIDE | ENDS
_TYPED = re.compile(rf"[{''.join(sorted(MARKS))}]-.", re.DOTALL)
_MISSPELLED = re.compile(r".+[-_][BIMELSU]|[BIMELSU]_.+|[bimelsu][-_].+", re.DOTALL)  # PER-B, B_PER, b-per


def are_entities(found):
    """Tell tags of entities from plain classes such as NOUN, which are not to be read as entities.

    Args:
        found: iterable of str, the tags that occur in a data set, or its labels.

    Returns:
        bool: True where each is O or a mark with a type (B-PER), or each is O or a bare mark and there are entities of
        several words (B, I, O); O alone counts as well.

    Raises:
        DataError: O and tags with a type occur beside a tag that is neither, or all tags but O spell a mark with a type
            in another way (PER-B, B_PER, b-per).

    Example:
        >>> are_entities(["O", "I-PER"]), are_entities(["ADJ", "NOUN"])
        (True, False)
    """
    found = set(found)
    typed = {tag for tag in found if _TYPED.match(tag)}
    others = found - typed - {OUTSIDE}
    if typed and others and OUTSIDE in found:
        raise DataError(f"the tag {shown(min(others))} is among tags of entities such as {shown(min(typed))}: allowed "
                        f"are O and one of {' '.join(sorted(MARKS))} with - and a type")
    if others and found & {OUTSIDE, "o"} and all(map(_MISSPELLED.fullmatch, others - {"o"})) and not typed:
        raise DataError(f"the tag {shown(max(others))} looks like an entity's in another spelling: allowed are O and "
                        f"one of {' '.join(sorted(MARKS))} with - and a type, such as B-PER")
    bare = "B" in others and others & (INSIDE | {"E", "L"}) and others <= MARKS
    return bool(typed and not others) or found == {OUTSIDE} or bool(bare and not typed)


def entities(tags):
    """Return the entities of a sentence, as conlleval reads its tags.

    Args:
        tags: sequence of str, of one sentence.

    Returns:
        List of (str, int, int): type, first word, and the one after the last; in order.

    Raises:
        DataError: for a tag that is not one of entities.

    Example:
        >>> entities(["B-PER", "I-PER", "O", "I-LOC"])
        [('PER', 0, 2), ('LOC', 3, 4)]
    """
    found, first, current, ended = [], 0, None, False  # current: the type of the entity that is open
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, kind = tag.partition("-")
        if mark != OUTSIDE and mark not in MARKS:
            raise DataError(f"{shown(tag)} is no tag of an entity: allowed are O and one of "
                            f"{' '.join(sorted(MARKS))} with - and a type")
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
        found: iterable of (type, first word, the one after the last), see `entities`.
        length: int, words of the sentence.

    Returns:
        List of `length` str.

    Raises:
        DataError: for entities that overlap, are empty or lie outside of the sentence.

    Example:
        >>> tags_of([("PER", 0, 2)], 3)
        ['B-PER', 'I-PER', 'O']
    """
    tags = [OUTSIDE] * length
    for kind, first, end in found:
        if not 0 <= first < end <= length or tags[first:end] != [OUTSIDE] * (end - first):
            raise DataError(f"an entity has the words {first} to {end} of {length}: allowed are entities of one word "
                            "or more that lie in the sentence and do not overlap")
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
    """Tell tags that only say inside or outside of an entity (IO) from those that mark its beginning or end.

    Args:
        found: iterable of str, the tags of entities that occur, or labels.
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
    """Return the types of entities that tags name, sorted: list of str."""
    return sorted({tag.partition("-")[2] for tag in found if tag != OUTSIDE})


def labels_of(found):
    """Return the labels to train with.

    Args:
        found: iterable of str, the tags that occur.

    Returns:
        List of str: O, then B and I of each type, sorted by type, of IO I alone; plain classes sorted.

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
