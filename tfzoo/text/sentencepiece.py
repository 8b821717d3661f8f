"""SentencePiece models (Kudo and Richardson 2018, arXiv:1808.06226) inside TensorFlow graphs, using tf-text.

Three kinds of models are supported: T5's models end each text with </s>; ALBERT's models lowercase texts and add BERT's
special tokens; the models of Llama 2 and Mistral begin each text with <s> and fall back to bytes for unknown
characters. Special tokens that are spelled out in a text are encoded as ordinary text.
"""
import pathlib
import re

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from tfzoo.errors import DataError, UnknownKind, shown
from tfzoo.text.added import LARGEST, class_of, content_of, named_tokens, token_of, write_settings
from tfzoo.text.tokenizer import Tokenizer, as_strings, as_texts

SENTINELS = 100  # T5's <extra_id_0> ..., unless extra_ids is set; their ids follow the pieces in descending order
STYLES = {"AlbertTokenizer": {"start": "[CLS]", "end": "[SEP]", "pad": "<pad>", "unk": "<unk>", "mask": "[MASK]"},
          "T5Tokenizer": {"end": "</s>", "pad": "<pad>", "unk": "<unk>"},
          "LlamaTokenizer": {"start": "<s>", "end": "</s>", "unk": "<unk>", "byte": "<0x0A>"}}
FILES = {"AlbertTokenizer": "spiece.model", "T5Tokenizer": "spiece.model", "LlamaTokenizer": "tokenizer.model"}
BLANK = "\u2581"
# The units of ALBERT's cleaning: two-character quotes, runs of whitespace (RE2's \s and \pZ), or single characters.
UNITS = re.compile("``|''|[\\t\\n\\f\\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+|.", re.DOTALL)
ROLES = {"AlbertTokenizer": {"cls": "start", "sep": "end", "pad": "pad", "unk": "unk", "mask": "mask"},
         "T5Tokenizer": {"eos": "end", "pad": "pad", "unk": "unk"},
         "LlamaTokenizer": {"bos": "start", "eos": "end", "pad": "pad", "unk": "unk"}}


class SentencePieceTokenizer(Tokenizer):
    """Encode texts with a SentencePiece model.

    Args:
        model: bytes, the content of the model file.
        config: dict, the content of tokenizer_config.json. These keys are used: `tokenizer_class` (by default inferred
            from the pieces); for ALBERT, `do_lower_case`, `keep_accents` and `clean_text` (specific to tfzoo; false
            leaves normalization to the model, as in keras-nlp); for Llama, `bos_token`, `eos_token`, `unk_token`,
            `pad_token` (by default the end token), `add_bos_token` and `add_eos_token`; for T5, `extra_ids`.

    Raises:
        DataError: if `model` is not a SentencePiece model, or does not have the special tokens of T5, ALBERT or Llama;
            or if `add_prefix_space` is false for Llama or `extra_ids` is invalid.
    """

    kind = "sentencepiece"
    start_id = mask_id = None

    def __init__(self, model, config=()):
        from sentencepiece import SentencePieceProcessor
        try:
            self._package = SentencePieceProcessor(model_proto=model)
            count = self._package.vocab_size()
            self.pieces = [self._package.id_to_piece(number) for number in range(count)]
        except (RuntimeError, TypeError, ValueError) as error:  # ValueError: a piece is not UTF-8
            raise DataError(f"not a SentencePiece model ({str(error)[:80]}): download it again") from None
        self.model, config = model, dict(config)
        ids = {piece: number for number, piece in enumerate(self.pieces)}
        self.style, special = _style(ids, config)
        for name, token in special.items():
            setattr(self, f"{name}_id", ids[token])
        self.adds = True, True
        if self.style == "LlamaTokenizer":
            if config.get("add_prefix_space") is False:
                raise DataError("tokenizer_config.json: add_prefix_space must not be false without a tokenizer.json: "
                                "provide tokenizer.json too")
            self.pad_id = ids.get(token_of(config, "pad"), self.end_id)
            self.adds = bool(config.get("add_bos_token", True)), bool(config.get("add_eos_token", False))
        self.tokens = {role: self.pieces[getattr(self, f"{name}_id")] for role, name in ROLES[self.style].items()}
        self.clean = self.style == "AlbertTokenizer" and config.get("clean_text", True) is not False
        self.lowercase = self.clean and bool(config.get("do_lower_case", True))
        self.keep_accents = not self.clean or bool(config.get("keep_accents", False))
        self.sentinels = config.get("extra_ids", SENTINELS) if self.style == "T5Tokenizer" else 0
        if type(self.sentinels) is not int or not 0 <= self.sentinels <= LARGEST:
            raise DataError("tokenizer_config.json: extra_ids must be a non-negative integer, got "
                            f"{shown(self.sentinels)}")
        self.vocab_size = count + self.sentinels
        self.special_ids = tuple(sorted({*(ids[token] for token in special.values()), self.pad_id,
                                         *range(count, self.vocab_size)}))
        self.starts_word = np.zeros(self.vocab_size, bool)
        self.starts_word[:count] = [piece.startswith(BLANK) for piece in self.pieces]
        self._op = tf_text.SentencepieceTokenizer(model, out_type=tf.int32)

    @property
    def resources(self):
        return (self._op,)

    @property
    def around(self):
        if self.style != "LlamaTokenizer":
            return super().around
        before, after = ([token] if adds else [] for token, adds in zip((self.start_id, self.end_id), self.adds))
        return before, after + before, after

    @property
    def opening(self):
        return self.around[0] if self.style == "LlamaTokenizer" else super().opening

    def _cleaned(self, texts):
        # Return valid UTF-8; for ALBERT, normalize whitespace, quotes, accents and case as the original code does.
        texts = tf.strings.unicode_transcode(as_strings(texts), "UTF-8", "UTF-8", errors="replace")
        if not self.clean:
            return texts
        texts = tf.strings.regex_replace(tf.strings.regex_replace(texts, "``|''", '"'), r"[\pZ\s]+", " ")
        # TensorFlow's `lower` stops at NUL, so replace NUL with U+E000, which is not in any vocabulary either.
        texts = tf.strings.regex_replace(texts, r"\x00", "\ue000")
        if not self.keep_accents:
            texts = tf.strings.regex_replace(tf_text.normalize_utf8(texts, "NFKD"), r"\p{Mn}|\p{Me}|\p{Mc}", "")
        return tf.strings.lower(texts, "utf-8") if self.lowercase else texts

    def encode(self, texts):
        return self._op.tokenize(self._cleaned(texts))

    def _text_of(self, ids):
        return self._package.decode(ids)

    def offsets(self, texts):
        texts = as_texts(texts)
        cleaned = self._cleaned(texts)
        found = self._op.tokenize_with_offsets(cleaned)  # in bytes of the cleaned texts
        return [self._places(text, *parts) for text, *parts in zip(
            texts, cleaned.numpy().tolist(), *(part.to_list() for part in found))]

    def _places(self, text, cleaned, ids, starts, limits):
        # Clean each unit of the text separately to count its cleaned bytes, then map cleaned bytes back to units.
        parts = UNITS.findall(text) if self.clean else list(text)
        unique = list(dict.fromkeys(parts))
        sizes = dict(zip(unique, map(len, self._cleaned(unique).numpy())))
        sizes, ends = [sizes[part] for part in parts], np.cumsum([len(part) for part in parts], dtype=int)
        begins = [*np.repeat(ends - [len(part) for part in parts], sizes).tolist(), len(text)]
        ends, places = np.repeat(ends, sizes).tolist(), []
        after = None, None
        for token, start, limit in reversed(list(zip(ids, starts, limits))):
            # SentencePiece assigns a character that tokens share (bytes, parts of a ligature) to the last of them.
            without_letter = start == limit or self.pieces[token][0] == BLANK and not cleaned[start:limit].strip()
            if without_letter and limit == after[0] and self.pieces[token] != BLANK:
                limit = after[1]
            after = start, limit
            places.append((begins[start], ends[limit - 1] if limit > start else begins[start]))
        return places[::-1]

    def portable(self):
        return {**super().portable(), "model": FILES[self.style], "clean": self.clean, "lowercase": self.lowercase,
                "keep_accents": self.keep_accents}

    def identity(self):
        plain = self.style != "AlbertTokenizer" or (self.lowercase and not self.keep_accents)
        return [self.kind, self.style, self.lowercase, self.model.hex(),
                *([] if plain else [self.keep_accents, self.clean]),
                *([self.sentinels] if self.sentinels not in (0, SENTINELS) else [])]

    def save(self, folder):
        """Write the model and tokenizer_config.json, which transformers can also read, to an existing folder."""
        folder, config = pathlib.Path(folder), {"tokenizer_class": self.style}
        (folder / FILES[self.style]).write_bytes(self.model)
        if self.style == "AlbertTokenizer":
            config.update(do_lower_case=self.lowercase, keep_accents=self.keep_accents, clean_text=self.clean)
        elif self.style == "LlamaTokenizer":
            config.update({f"{role}_token": token for role, token in self.tokens.items()})
            config.update(add_bos_token=self.adds[0], add_eos_token=self.adds[1])
        else:
            config["extra_ids"] = self.sentinels
        write_settings(folder, config, self.chat_template)


def _style(ids, config):
    # The style is the class named in the settings, or else the first one whose special tokens the vocabulary contains.
    roles = {name: role for role, name in ROLES["LlamaTokenizer"].items()}  # the settings may rename Llama's tokens
    allowed = {style: {name: style == "LlamaTokenizer" and token_of(config, roles.get(name)) or token
                       for name, token in special.items()} for style, special in STYLES.items()}
    named = class_of(config)
    allowed = {named: allowed[named]} if named in allowed else allowed
    for style, special in allowed.items():
        if ids.keys() >= set(special.values()):
            return style, {name: token for name, token in special.items() if name != "byte"}
    raise DataError("the SentencePiece model lacks special tokens: expected " + ", or ".join(
        f"{style}'s {' '.join(special.values())}" for style, special in allowed.items()) + "; download it again")


def check_added(tokenizer, added, settings):
    """Check that a folder adds no tokens other than the special tokens that its SentencePieceTokenizer already has.

    Args:
        tokenizer: SentencePieceTokenizer.
        added: list of (int, dict), the id and the description of each added token.
        settings: dict, from `tfzoo.text.added.settings_of`.

    Raises:
        UnknownKind: if the folder adds another token, or changes the id or role of a special token.
    """
    count = len(tokenizer.pieces)
    ids = {tokenizer.pieces[number]: number for number in tokenizer.special_ids if number < count}
    ids |= {f"<extra_id_{number}>": tokenizer.vocab_size - 1 - number for number in range(tokenizer.sentinels)}
    other = [token for number, token in added if ids.get(token["content"]) != number]
    other += [token for token in map(content_of, named_tokens(settings)) if token not in ids]
    other += [token for role, name in ROLES[tokenizer.style].items() if (token := token_of(settings, role))
              and ids.get(token) != getattr(tokenizer, f"{name}_id")]
    if other:
        raise UnknownKind(f"the token {shown(content_of(other[0]))} is added to the SentencePiece model: provide "
                          "tokenizer.json too")
