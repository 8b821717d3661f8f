"""ROUGE (Lin 2004), computed by Google's rouge-score, and exact match.

rouge-score keeps only the letters a to z and digits, so that Chinese or Russian texts would score 0. Texts of which
less than half of the letters are Latin are split into words of any script instead, without stemming, and in scripts
that put no spaces between words (Chinese, Japanese, Thai ...) and in Korean into characters. A letter keeps its marks:
without their vowel signs, different words of Hindi or Arabic would be equal.
"""
import functools
import re
import unicodedata

NAMES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_LATIN, _LETTER = re.compile("[A-Za-z\u00c0-\u024f]"), re.compile(r"[^\W\d_]")
# Thai and Lao, Myanmar, Khmer; then Chinese, Japanese and Korean.
_SINGLE = ("\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
           "\u1100-\u11ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f")


@functools.cache
def _words():
    # \w has no marks, nor the joiners inside words of Persian or Hindi.
    marks = "\u200c\u200d" + "".join(
        chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M")
    return re.compile(f"(?=\\w)[{_SINGLE}][{marks}]*|(?:[^\\W{_SINGLE}][{marks}]*)+")


class _AnyScript:
    def tokenize(self, text):
        return _words().findall(text.lower())


def is_latin(texts):
    """Return whether at least half of the letters in texts are Latin: bool."""
    latin, letters = (sum(len(kind.findall(text)) for text in texts) for kind in (_LATIN, _LETTER))
    return latin >= letters / 2


def rouge_scores(answers, references):
    """Compute the F1 of ROUGE of each answer, and exact match.

    Args:
        answers: list of N str.
        references: list of N str, one per answer.

    Returns:
        dict of lists of N float from 0 to 100: `rouge1` and `rouge2` (words and word pairs), `rougeL` (longest common
        subsequence of the texts), `rougeLsum` (of their lines, the "ROUGE-L" of most summarization papers) and
        `exact_match` (ignoring whitespace at both ends). Words are stemmed (Porter), as in those papers.
    """
    from rouge_score.rouge_scorer import RougeScorer
    scorer = RougeScorer(NAMES, use_stemmer=True, tokenizer=None if is_latin(references) else _AnyScript())
    scores = [scorer.score(reference, answer) for reference, answer in zip(references, answers, strict=True)]
    return {**{name: [100 * score[name].fmeasure for score in scores] for name in NAMES},
            "exact_match": [100.0 * (one.strip() == other.strip()) for one, other in zip(answers, references)]}


def rouge_metrics(answers, references):
    """Return the means of `rouge_scores` over all answers: dict of float."""
    return {name: sum(values) / len(values) for name, values in rouge_scores(answers, references).items()}
