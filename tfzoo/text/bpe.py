"""Byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019).

Outside graphs the `tokenizers` package encodes, which is faster; inside graphs `byte_level` does, with the same ids.
Special tokens that are spelled out in a text are encoded as ordinary text, so no input can end a document.
"""
import functools
import json
import pathlib

import numpy as np
import tensorflow as tf

from tfzoo.errors import DataError, UnknownKind
from tfzoo.text.added import DEFAULTS, END, write_settings
from tfzoo.text.byte_level import ByteLevelEncoder, alphabet, encode_by
from tfzoo.text.tokenizer import Tokenizer, as_texts

WORD_BEGINS = ("\u0120", "\u010a", "\u0109")
# Special tokens by class: RoBERTa's if the vocabulary has all of them, otherwise GPT-2's single token.
SPECIALS = {"RobertaTokenizer": {"start": "<s>", "end": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"},
            "GPT2Tokenizer": {"start": END, "end": END, "pad": END}}


class BytePairTokenizer(Tokenizer):
    """Encode texts with a byte-level BPE vocabulary.

    Args:
        ids: dict of token to id, with a token for every byte and the special tokens of GPT-2 (<|endoftext|>) or RoBERTa
            (<s>, </s>, <pad>, <unk> and <mask>; two </s> separate the texts of a pair).
        merges: list of (str, str), the merges in order.
        bare: bool, whether to omit special tokens around texts, as OpenAI and transformers do for GPT-2. If False,
            <|endoftext|> is added on both sides, as in classifiers trained by tfzoo. Ignored for RoBERTa.

    Raises:
        DataError: if bytes or special tokens are missing, the ids are not 0 to V - 1, or the merges do not match the
            vocabulary.
    """

    kind, lossless, word_prefix = "bpe", True, " "

    def __init__(self, ids, merges, bare=False):
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers
        self.style = next((style for style, tokens in SPECIALS.items() if ids.keys() >= set(tokens.values())), None)
        missing = [token for token in sorted(alphabet()) if token not in ids]
        if missing or self.style is None:
            missing = ([END] if self.style is None else []) + missing
            raise DataError(f"the vocabulary has no {', '.join(missing[:5])}: it must contain every byte, and {END} or "
                            f"{', '.join(SPECIALS['RobertaTokenizer'].values())}")
        if sorted(ids.values()) != list(range(len(ids))):
            raise DataError(f"the vocabulary has gaps or duplicates in its ids: they must be 0 to {len(ids) - 1}, each "
                            "used exactly once; download it again")
        self.ids, self.merges = dict(ids), [tuple(merge) for merge in merges]
        self.vocab_size = len(ids)
        special = {name: ids[token] for name, token in SPECIALS[self.style].items()}
        self.start_id, self.end_id, self.pad_id = special["start"], special["end"], special["pad"]
        self.unk_id, self.mask_id = special.get("unk"), special.get("mask")
        self.special_ids = tuple(sorted(set(special.values())))
        self.tokens = DEFAULTS[self.style]
        self.ends_between = 1 if self.style == "GPT2Tokenizer" else 2
        self.bare = bare and self.style == "GPT2Tokenizer"
        self.starts_word = np.zeros(self.vocab_size, bool)
        self.starts_word[[number for token, number in ids.items() if token.startswith(WORD_BEGINS)]] = True
        try:
            self._backend = Backend(models.BPE(self.ids, self.merges))
        except Exception as error:  # the package raises its own type
            raise DataError(f"the merges do not match the vocabulary: {error}") from None
        self._backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
        self._backend.decoder = decoders.ByteLevel()

    @property
    def around(self):
        return ([], [], []) if self.bare else super().around

    @property
    def opening(self):
        return self.around[0]

    @functools.cached_property
    def _encoder(self):
        return ByteLevelEncoder(json.loads(self._backend.to_str()))

    @property
    def resources(self):
        return (self._encoder.resource,)

    @tf.autograph.experimental.do_not_convert
    def encode(self, texts):
        return encode_by(texts, lambda texts: self._backend.encode_batch_fast(texts, add_special_tokens=False),
                         inside=lambda texts: self._encoder.encode(texts))

    def _text_of(self, ids):
        return self._backend.decode(ids, skip_special_tokens=False)

    def offsets(self, texts):
        return [encoding.offsets for encoding in self._backend.encode_batch(as_texts(texts), add_special_tokens=False)]

    def portable(self):
        return {**super().portable(), "backend": self._backend.to_str()}

    def identity(self):
        return [self.kind, self.ids, self.merges, *(["bare"] if self.bare else [])]

    def save(self, folder):
        """Write vocab.json, merges.txt and tokenizer_config.json to an existing folder.

        transformers can also read these files.
        """
        folder = pathlib.Path(folder)
        (folder / "vocab.json").write_text(json.dumps(self.ids, ensure_ascii=False) + "\n", encoding="utf-8")
        lines = "".join(f"{one} {two}\n" for one, two in self.merges)
        (folder / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")
        config = {"tokenizer_class": self.style, "bare": self.bare}
        if self.style == "RobertaTokenizer":
            config.update({f"{role}_token": token for role, token in self.tokens.items()})
        write_settings(folder, config, self.chat_template)


def read_merges(path):
    """Read the merges from a merges.txt or vocab.bpe file.

    Args:
        path: pathlib.Path.

    Returns:
        List of (str, str), in order.

    Raises:
        DataError: if the file is not UTF-8 or a line is not a merge.
        UnknownKind: if the #version line or the final newline is missing, because programs read such files differently.
    """
    merges = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is damaged ({error}): download it again") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2:
            raise DataError(f"{path} line {number}: not a merge: expected two tokens separated by one space")
        merges.append(tuple(parts))
    if merges and not (text.startswith("#version") and text.endswith("\n")):
        raise UnknownKind(f"{path} does not begin with a #version line and end with a newline: transformers skips its "
                          "first and last lines, but other readers do not; add the missing line or newline")
    return merges


def learn_merges(size, texts):
    """Train a BytePairTokenizer of at most `size` tokens on an iterable of str."""
    from tokenizers import ByteLevelBPETokenizer
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(texts, vocab_size=size, min_frequency=2, show_progress=False, special_tokens=[END])
    model = json.loads(learner.to_str())["model"]
    return BytePairTokenizer(model["vocab"], [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
                                              for merge in model["merges"]])
