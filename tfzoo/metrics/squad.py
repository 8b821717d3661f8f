"""Exact match and F1 of extracted answers, as in the official scripts of SQuAD (Rajpurkar et al. 2016,
arXiv:1606.05250; 2018, arXiv:1806.03822) and CMRC 2018 (Cui et al. 2019, arXiv:1810.07366).

Questions without a prediction count as wrong; SQuAD 2.0's script omits them. CMRC's script splits words in
other languages with NLTK; here, the rules that matter there are written out, and sentences are not split first.
"""
import collections
import difflib
import re
import string

from tfzoo.errors import DataError

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# The marks that CMRC's script treats as single tokens, and ignores in F1 and exact match. It also lists "……", which
# never equals a single character, so that an ellipsis counts.
_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_HAN = re.compile("[\u4e00-\u9fa5]")
CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
# Where a word ends, by the Treebank rules as NLTK has them, for texts in lowercase without the marks above.
_APART = re.compile(r"([;@#$%&?!\"\[\](){}<>«»‘„]|\.{2,}|,(?!\d)|(?<!\.)\.(?=[\"')\]}> ]*$))")
_SUFFIX = re.compile(r"(?<=[^' ])('s|'m|'d|'ll|'re|'ve|n't|')(?= |$)")
_JOINED = re.compile(r"\b(can(?=not\b)|(?:gim|lem)(?=me\b)|(?:gon|wan)(?=na\b)|got(?=ta\b))")


def normalize(text):
    """Return a text in lowercase without ASCII punctuation, articles and repeated whitespace, as in SQuAD's scripts.

    Example:
        >>> normalize(" The U.S.  Army's “Band” ")
        'us armys “band”'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def squad_scores(gold, prediction):
    """Return exact match and F1 of an answer (str) for one correct answer (str): two numbers from 0 to 1."""
    gold, prediction = normalize(gold).split(), normalize(prediction).split()
    same = sum((collections.Counter(gold) & collections.Counter(prediction)).values())
    if not gold or not prediction:
        return float(gold == prediction), float(gold == prediction)
    return float(gold == prediction), 2 * same / (len(gold) + len(prediction))


def _words(text):
    return _JOINED.sub(r"\1 ", _SUFFIX.sub(r" \1", _APART.sub(r" \1 ", text))).split()


def segments(text):
    """Return the tokens of CMRC's F1, without its marks: each Chinese character, and the words between them.

    Example:
        >>> segments("在1990年，Brown's Deep Blue")
        ['在', '1990', '年', 'brown', "'s", 'deep', 'blue']
    """
    found, held = [], ""
    for character in text.lower().strip():
        if character in _MARKS:
            continue
        if _HAN.match(character):
            found += [*_words(held), character]
            held = ""
        else:
            held += character
    return found + _words(held)


def cmrc_scores(gold, prediction):
    """Return exact match and F1 of an answer (str) for one correct answer (str), by the rules of CMRC 2018.

    F1 counts the longest run of tokens that both answers contain; exact match ignores CMRC's marks, but not spaces.

    Example:
        >>> cmrc_scores("《红楼梦》", "红楼梦"), cmrc_scores("北京大学", "北京的大学")
        ((1.0, 1.0), (0.0, 0.4444444444444444))
    """
    bare = ["".join(character for character in text.lower().strip() if character not in _MARKS)
            for text in (gold, prediction)]
    one, other = segments(gold), segments(prediction)
    run = difflib.SequenceMatcher(None, one, other, autojunk=False).find_longest_match().size
    return float(bare[0] == bare[1]), 2 * run / max(len(one) + len(other), 1)


SCORES = {"squad": squad_scores, "cmrc2018": cmrc_scores}


def cjk_share(texts):
    """Return the share of Chinese, Japanese and Korean characters among the letters of texts (iterable): float."""
    cjk = letters = 0
    for text in texts:
        cjk, letters = cjk + len(CJK.findall(text)), letters + sum(map(str.isalpha, text))
    return cjk / max(letters, 1)


def _best(golds, prediction, scoring):
    # Exact match and F1 of a prediction (None is wrong), each the maximum over the correct answers.
    if prediction is None:
        return 0.0, 0.0
    if scoring == "squad":
        golds = [gold for gold in golds if normalize(gold)]
    return tuple(map(max, zip(*(SCORES[scoring](gold, prediction) for gold in golds)))) if golds else \
        (float(not normalize(prediction)),) * 2


def best_threshold(scores, odds, answerable, empty):
    """Find the threshold for answering "" that gives the best mean score, as in SQuAD 2.0's script.

    Args:
        scores: list of N float, the score of the best answer to each question, from 0 to 1.
        odds: list of N float, the score of no answer minus that of the best answer.
        answerable: list of N bool, whether the question has an answer.
        empty: list of N bool, whether the best answer is "" anyway.

    Returns:
        (float, float): the best score, 0 to 100, and the threshold: questions with greater odds have no answer. If it
        is best to answer none, the threshold is below all odds (the official script, made for probabilities, says 0).
    """
    order = sorted(range(len(odds)), key=odds.__getitem__)
    total = best = sum(not has for has in answerable)
    threshold = odds[order[0]] - 1 if order else 0.0
    for number in order:
        total += scores[number] if answerable[number] else empty[number] - 1
        if total > best:
            best, threshold = total, odds[number]
    return 100 * best / max(len(scores), 1), threshold


def answer_metrics(golds, predictions, odds=None, scoring="squad", threshold=None):
    """Score answers.

    Args:
        golds: list of N lists of str, the correct answers to each question; [] if it has none.
        predictions: list of N str, the best answers; None for a missing one, which counts as wrong.
        odds: list of N float, the score of no answer minus that of the best answer; above a threshold, the question is
            answered with "". None: each question is answered.
        scoring: str, "squad" or "cmrc2018".
        threshold: float, a threshold to score in addition to 0; None for none.

    Returns:
        dict of float, 0 to 100: `exact_match` and `f1`, at threshold 0; for data in which some questions have no
        answer, the same with the prefixes HasAns_ and NoAns_ over the questions with and without answers; with `odds`,
        `best_exact_match` and `best_f1`, each with its `..._threshold`; with `threshold`, `exact_match_at_threshold`
        and `f1_at_threshold`. `missing` counts the missing predictions, if any. All are 0 if there are no questions.

    Raises:
        DataError: if the numbers of questions differ.
    """
    if len(golds) != len(predictions) or odds is not None and len(odds) != len(golds):
        raise DataError(f"got {len(golds)} questions but {len(predictions)} predictions: the numbers must be equal")
    raw = [_best(gold, prediction, scoring) for gold, prediction in zip(golds, predictions)]
    answerable, count = [bool(gold) for gold in golds], len(golds)

    def at(limit):
        if odds is None:
            return raw
        return [(float(not has),) * 2 if odd > limit and prediction is not None else pair
                for pair, odd, has, prediction in zip(raw, odds, answerable, predictions)]

    def mean(pairs, suffix="", prefix=""):
        return {f"{prefix}{name}{suffix}": 100 * sum(pair[place] for pair in pairs) / max(len(pairs), 1)
                for place, name in enumerate(("exact_match", "f1"))}

    found = at(0.0)
    result = mean(found)
    if not all(answerable):
        for prefix, wanted in (("HasAns_", True), ("NoAns_", False)):
            part = [pair for pair, has in zip(found, answerable) if has == wanted]
            result |= mean(part, prefix=prefix) if part else {}
    if odds is not None and any(prediction is not None for prediction in predictions):
        there = [number for number, prediction in enumerate(predictions) if prediction is not None]
        for place, name in enumerate(("best_exact_match", "best_f1")):
            best, result[f"{name}_threshold"] = best_threshold(*zip(*(
                (raw[number][place], odds[number], answerable[number], not predictions[number]) for number in there)))
            result[name] = best * len(there) / count
        result |= mean(at(threshold), "_at_threshold") if threshold is not None else {}
    missing = sum(prediction is None for prediction in predictions)
    return {**result, **({"missing": float(missing)} if missing else {})}
