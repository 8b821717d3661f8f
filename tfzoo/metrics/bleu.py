"""BLEU (Papineni et al. 2002) and chrF (Popović 2015) of a whole data set, computed by sacreBLEU (Post 2018)."""
import re

TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char"}  # sacreBLEU's own for ja and ko need MeCab; all others: 13a
_HAN, _KANA, _HANGUL = (re.compile(f"[{span}]") for span in (
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f", "\u3040-\u30ff", "\u1100-\u11ff\uac00-\ud7af"))
_LETTER = re.compile(r"[^\W\d_]")
KANA_SHARE = 0.05  # of the letters; Japanese has more, Chinese has none


def language_of(texts):
    """Guess whether texts are Chinese, Japanese or Korean from the share of their letters.

    Args:
        texts: list of str.

    Returns:
        str: "zh", "ja" or "ko" if at least half of the letters belong to their scripts, otherwise "".
    """
    han, kana, hangul, letters = (sum(len(kind.findall(text)) for text in texts)
                                  for kind in (_HAN, _KANA, _HANGUL, _LETTER))
    if not letters or han + kana + hangul < letters / 2:
        return ""
    return "ko" if hangul > han + kana else "ja" if kana > KANA_SHARE * letters else "zh"


def bleu_of(language):
    """Return sacreBLEU's metric BLEU for a language, such as "zh" (see TOKENIZERS)."""
    from sacrebleu.metrics import BLEU
    return BLEU(tokenize=TOKENIZERS.get(language, "13a"))


def bleu_metrics(answers, references, language=""):
    """Compute corpus BLEU (up to 4-grams, smoothing exp) and chrF2 (character 6-grams).

    Args:
        answers: list of N str, detokenized.
        references: list of N str, one per answer.
        language: str, the language of the references, such as "zh"; it determines BLEU's tokenizer (see TOKENIZERS).

    Returns:
        dict of float from 0 to 100: `bleu`, `chrf`; 0 if no n-gram matches.
    """
    from sacrebleu.metrics import CHRF
    return {"bleu": bleu_of(language).corpus_score(answers, [references]).score,
            "chrf": CHRF().corpus_score(answers, [references]).score}


def bleu_signature(language=""):
    """Return sacreBLEU's signature of `bleu`, which states how it is computed: str."""
    bleu = bleu_of(language)
    bleu.corpus_score(["a"], [["a"]])  # the signature has the number of references
    return str(bleu.get_signature())
