"""WordPiece with BERT's basic tokenization (Devlin et al. 2018, arXiv:1810.04805), inside a TensorFlow graph.

BERT's cleaning, lowercasing, accent stripping and splitting act on one code point at a time, so they are implemented as
a lookup table over all code points, built with the normalizer of the `tokenizers` package. tf-text performs the greedy
longest-match-first segmentation.
"""
import functools
import pathlib
import unicodedata

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from tfzoo.errors import DataError
from tfzoo.text.added import LONGEST_WORD, write_settings
from tfzoo.text.tokenizer import Tokenizer, as_strings, as_texts

NONE, OWN = -1, -2  # in a row of replacements: padding, and the code point itself
KEEP, DELETE, BLANK, ALONE = [OWN], [], [ord(" ")], [ord(" "), OWN, ord(" ")]
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# All code points except surrogates, unassigned ones in planes 4 to 14, and the private-use planes 15 and 16, which are
# represented by their first code point.
POINTS = [point for point in (*range(0x40000), *range(0xE0000, 0xE1000), 0xF0000) if not 0xD800 <= point < 0xE000]


@functools.lru_cache(maxsize=1)
def punctuation():
    """Return the characters that BERT treats as punctuation: frozenset of str.

    They are determined with the `tokenizers` package, because its Unicode version is older than Python's.
    """
    from tokenizers.pre_tokenizers import BertPreTokenizer
    splitter = BertPreTokenizer()
    candidates = (chr(point) for point in POINTS if 33 <= point < 127 or unicodedata.category(chr(point))[0] in "PSM")
    return frozenset(mark for mark in candidates if len(splitter.pre_tokenize_str(f"a{mark}a")) == 3)


@functools.lru_cache(maxsize=2)
def code_point_table(lowercase):
    """Return the replacement for each code point in BERT's basic tokenization.

    Args:
        lowercase: bool, whether to lowercase and strip accents.

    Returns:
        (int16 [1114112], int32 [rows, width]): for each code point, the index of its row in the second array; and rows
        of replacements, each of which is a code point, OWN or NONE.
    """
    from tokenizers import normalizers
    normalizer, marks = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=lowercase), punctuation()
    points = [point for point in POINTS if point != ord("|")]
    results = normalizer.normalize_str("|".join(map(chr, points))).split("|")
    rows = {tuple(row): number for number, row in enumerate((KEEP, DELETE, BLANK, ALONE))}
    table = np.zeros(0x110000, np.int16)
    for point, result in zip(points, results, strict=True):
        if result == chr(point) and result not in marks:
            continue
        if result.strip(" ") == chr(point):
            row = tuple(ALONE)
        else:
            row = tuple(ord(part) for character in result
                        for part in (f" {character} " if character in marks else character))
        table[point] = rows.setdefault(row, len(rows))
    table[ord("|")] = rows[tuple(ALONE)]
    for plane in (0xF0000, 0x100000):
        table[plane:plane + 0xFFFE] = table[0xF0000]
    width = max(map(len, rows))
    return table, np.array([[*row, *[NONE] * (width - len(row))] for row in rows], np.int32)


class WordPieceTokenizer(Tokenizer):
    """Encode texts with a WordPiece vocabulary.

    Args:
        vocabulary: list of V str, the tokens in the order of their ids, including [PAD], [UNK], [CLS], [SEP] and
            [MASK].
        lowercase: bool, whether to lowercase and strip accents.

    Raises:
        DataError: if a token is duplicated, a special token is missing, or tf-text cannot read the vocabulary.
    """

    kind = "wordpiece"

    def __init__(self, vocabulary, lowercase):
        self.vocabulary, self.lowercase = list(vocabulary), lowercase
        ids = {token: number for number, token in enumerate(self.vocabulary)}
        if len(ids) != len(self.vocabulary):
            twice = next(token for number, token in enumerate(self.vocabulary) if ids[token] != number)
            raise DataError(f"the vocabulary contains {twice!r} twice: tokens must be unique")
        missing = [token for token in SPECIALS if token not in ids]
        if missing:
            raise DataError(f"the vocabulary has no {', '.join(missing)}: it must contain {' '.join(SPECIALS)}")
        self.vocab_size = len(ids)
        self.pad_id, self.unk_id, self.start_id, self.end_id, self.mask_id = (ids[token] for token in SPECIALS)
        self.special_ids = tuple(ids[token] for token in SPECIALS)
        self.tokens = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIALS))
        self.starts_word = np.array([not token.startswith("##") for token in self.vocabulary])
        self.starts_word[list(self.special_ids)] = False
        self._lengths = np.array([len(token.removeprefix("##")) for token in self.vocabulary], np.int64)  # characters
        self._rows, self._replacements = code_point_table(lowercase)
        try:
            self._pieces = tf_text.FastWordpieceTokenizer(
                self.vocabulary, token_out_type=tf.int32, unknown_token="[UNK]", no_pretokenization=True,
                max_bytes_per_word=LONGEST_WORD * 4)
        except RuntimeError as error:
            raise DataError(f"the vocabulary is damaged ({' '.join(str(error).split())[:120]}): download it again"
                            ) from None

    def _clean(self, texts):
        # The cleaned code points, ragged [B, characters], and the index of the original of each in all code points.
        points = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
        rows = tf.gather(tf.constant(self._rows), points.flat_values)
        wide = tf.gather(tf.constant(self._replacements), tf.cast(rows, tf.int32))
        wide = tf.where(wide == OWN, points.flat_values[:, None], wide)
        kept = wide != NONE
        lengths = tf.reduce_sum(points.with_flat_values(tf.reduce_sum(tf.cast(kept, tf.int64), axis=1)), axis=1)
        clean = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(wide, kept), lengths)
        return clean, tf.where(kept)[:, 0] - tf.gather(points.row_splits, clean.value_rowids())

    def _words(self, clean):
        words = tf.strings.split(tf.strings.unicode_encode(clean, "UTF-8"))
        long = tf.strings.length(words.flat_values, unit="UTF8_CHAR") > LONGEST_WORD
        return words.with_flat_values(tf.where(long, "[UNK]", words.flat_values))

    def encode(self, texts):
        return self._pieces.tokenize(self._words(self._clean(as_strings(texts))[0])).merge_dims(1, 2)

    def encode_with_offsets(self, texts):
        """Encode texts, with the character span of each token, also inside a graph.

        Args:
            texts: tf.string [B], valid UTF-8.

        Returns:
            Three RaggedTensors, int32 [B, None]: the tokens of `encode`, and their starts and ends (see `offsets`).
        """
        clean, origins = self._clean(texts)
        pieces = self._pieces.tokenize(self._words(clean))  # [B, words, pieces]
        texts = tf.where(clean.flat_values == ord(" "), tf.constant(-1, tf.int64), clean.value_rowids())
        around = tf.pad(texts, [[1, 1]], constant_values=-1)
        begins, last = (tf.where((texts >= 0) & (texts != other))[:, 0] for other in (around[:-2], around[2:]))
        words = pieces.values  # [words of all texts, pieces]
        number = words.value_rowids()
        lengths = tf.gather(tf.constant(self._lengths), words.flat_values)
        lengths = tf.where(words.flat_values == self.unk_id, tf.gather(last + 1 - begins, number), lengths)
        passed = tf.cumsum(lengths, exclusive=True)
        starts = tf.gather(begins, number) + passed - tf.gather(passed, tf.gather(words.row_starts(), number))
        places = (tf.gather(origins, starts), tf.gather(origins, starts + lengths - 1) + 1)
        return (pieces.merge_dims(1, 2), *(pieces.with_flat_values(tf.cast(each, tf.int32)).merge_dims(1, 2)
                                           for each in places))

    def _text_of(self, ids):
        return " ".join(self.vocabulary[token] for token in ids).replace(" ##", "")

    @functools.cached_property
    def _backend(self):
        # An equivalent tokenizer from the `tokenizers` package, which returns offsets.
        from tokenizers import Tokenizer as Backend
        from tokenizers import models, normalizers, pre_tokenizers
        ids = {token: number for number, token in enumerate(self.vocabulary)}
        backend = Backend(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD))
        backend.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase, strip_accents=self.lowercase)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return backend

    def offsets(self, texts):
        return [encoding.offsets for encoding in self._backend.encode_batch(as_texts(texts), add_special_tokens=False)]

    def portable(self):
        return {**super().portable(), "backend": self._backend.to_str()}

    def identity(self):
        return [self.kind, self.lowercase, self.vocabulary]

    def save(self, folder):
        """Write vocab.txt and tokenizer_config.json, which transformers can also read, to an existing folder."""
        folder = pathlib.Path(folder)
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in self.vocabulary), encoding="utf-8")
        config = {"tokenizer_class": "BertTokenizer", "do_lower_case": self.lowercase}
        write_settings(folder, config, self.chat_template)
