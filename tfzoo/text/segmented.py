"""Chinese words in token ids, for whole-word masking (Cui et al. 2019, arXiv:1906.08101).

A WordPiece vocabulary has one token per Chinese character and no mark of where a word begins, so word boundaries come
from outside: from spaces in the text, or from the package jieba.
"""
import functools
import hashlib
import importlib.util
import re

import numpy as np
import tensorflow as tf

from tfzoo.errors import ConfigError

SEGMENTATIONS = ("spaces", "jieba")
_BLANKS = re.compile(r"[ \t\n\r\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")  # whitespace in BERT's tokenizer
# The characters that BERT's tokenizer treats as words of their own.
_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf"
                        "\U0002f800-\U0002fa1f]")


@functools.cache
def _jieba():
    if importlib.util.find_spec("jieba") is None:
        raise ConfigError("--segmentation=jieba requires the package jieba: pip install jieba, or use "
                          "--segmentation=spaces on text whose words are separated by spaces")
    import logging

    import jieba
    jieba.setLogLevel(logging.WARNING)
    return jieba.lcut


def _cut_by_jieba(text):
    # jieba also cuts within numbers and Latin words, which would change the ids: keep only cuts between ideographs.
    parts, before = [], ""
    for word in _jieba()(text):
        parts.append(" " if _IDEOGRAPH.match(word) and _IDEOGRAPH.fullmatch(before[-1:]) else "")
        parts.append(word)
        before = word
    return _BLANKS.split("".join(parts))


class SegmentedTokenizer:
    """Encode texts with a WordPiece tokenizer and mark Chinese characters that continue a word.

    A marked id is the character's id plus the size of the vocabulary; `unmark` separates the two.

    Args:
        tokenizer: WordPieceTokenizer.
        segmentation: str, "spaces" (words end at whitespace) or "jieba".

    Raises:
        ConfigError: if the tokenizer is not WordPiece, the segmentation is unknown, or jieba is not installed.

    Example:
        >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"我来到北京"]
        >>> from tfzoo.text.wordpiece import WordPieceTokenizer
        >>> segmented = SegmentedTokenizer(WordPieceTokenizer(vocabulary, lowercase=False), "spaces")
        >>> segmented.encode(["我 来到 北京"]).numpy().tolist()
        [[5, 6, 17, 8, 19]]
    """

    kind = "segmented"

    def __init__(self, tokenizer, segmentation):
        if tokenizer.kind != "wordpiece":
            raise ConfigError(f"--segmentation={segmentation} requires a WordPiece vocabulary, got {tokenizer.kind}")
        if segmentation not in SEGMENTATIONS:
            raise ConfigError(f"--segmentation={segmentation}: choose from {', '.join(SEGMENTATIONS)}")
        self.tokenizer, self.segmentation = tokenizer, segmentation
        self.vocab_size = 2 * tokenizer.vocab_size
        self._cut = _BLANKS.split
        if segmentation == "jieba":
            _jieba()  # fail early if it is not installed
            self._cut = _cut_by_jieba
        self._ideographs = np.array([bool(_IDEOGRAPH.fullmatch(token)) for token in tokenizer.vocabulary])

    @property
    def fingerprint(self):
        """Return the hexadecimal SHA-256 of everything that determines the ids."""
        return hashlib.sha256(f"{self.segmentation} {self.tokenizer.fingerprint}".encode()).hexdigest()

    def encode(self, texts):
        """Encode texts without special tokens: list of B str -> RaggedTensor int32 [B, None]."""
        encoded = self.tokenizer.encode_words([self._cut(text) for text in texts])
        token_ids, ideographs = encoded.token_ids, self._ideographs[encoded.token_ids]
        inside = np.zeros(len(token_ids), bool)
        # Words of different texts may have the same number, but the first token of a text never continues a word.
        inside[1:] = ideographs[1:] & ideographs[:-1] & (encoded.word_ids[1:] == encoded.word_ids[:-1])
        inside[encoded.starts[encoded.starts < encoded.ends]] = False
        return tf.RaggedTensor.from_row_lengths(token_ids + inside.astype(np.int32) * self.tokenizer.vocab_size,
                                                encoded.ends - encoded.starts)

    def unmark(self, token_ids):
        """Return ids of the vocabulary, and whether each begins a word: int32 and bool arrays of the same shape."""
        inside = token_ids >= self.tokenizer.vocab_size
        token_ids = np.where(inside, token_ids - self.tokenizer.vocab_size, token_ids).astype(np.int32)
        return token_ids, self.tokenizer.starts_word[token_ids] & ~inside
