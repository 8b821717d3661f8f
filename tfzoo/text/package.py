"""Tokenizers loaded from any tokenizer.json (Llama, Mistral, Qwen, unigram models) with the `tokenizers` package.

Byte-level BPE (Llama 3, Qwen2, GPT-2 with added tokens) also encodes inside graphs; other kinds do not. Tokens with a
role (start, end, padding, unknown, mask) that are spelled out in a text are encoded as ordinary text. Other added
tokens are converted to their ids, as in transformers.
"""
import functools
import json
import pathlib

import numpy as np
import tensorflow as tf

from tfzoo.errors import ConfigError, DataError
from tfzoo.text.added import ENDS, LARGEST, ROLES, is_text, token_of, write_settings
from tfzoo.text.byte_level import ByteLevelEncoder, encode_by, plan_of
from tfzoo.text.convert import backend_of, template_of
from tfzoo.text.tokenizer import Tokenizer, as_texts

WORD_BEGINS = ("\u2581", "\u0120")


class PackageTokenizer(Tokenizer):
    """Encode texts with a tokenizer.json.

    Args:
        content: str, the content of tokenizer.json.
        config: dict, the content of tokenizer_config.json, which names special tokens. If its `split_special_tokens` is
            true, all special tokens that occur in a text are encoded as ordinary text.

    Raises:
        DataError: if `tokenizers` cannot read the content, an id is too large, or there is no end token.
    """

    kind = "package"

    def __init__(self, content, config):
        from tokenizers.processors import TemplateProcessing
        plain, state = backend_of(content), json.loads(content)
        self._around = before, between, after = template_of(plain)
        self.content, ids = content, plain.get_vocab()
        self.vocab_size = max(ids.values()) + 1
        if self.vocab_size > LARGEST:
            raise DataError(f"tokenizer.json has the id {self.vocab_size - 1:,}: ids must be below {LARGEST:,}")
        config = {**config, "unk_token": token_of(config, "unk") or state["model"].get("unk_token")}
        self.tokens = {role: token_of(config, role) for role in ROLES}
        end = next((end for end in (self.tokens["eos"], *ENDS, self.tokens["unk"]) if end in ids), None)
        if end is None and not after:
            raise DataError("the tokenizer has no end token: set eos_token or unk_token in tokenizer_config.json, or "
                            f"use a vocabulary with one of {', '.join(ENDS)}")
        self.end_id = after[-1] if after else ids[end]
        self.start_id = before[0] if before else None
        self.pad_id = ids.get(self.tokens["pad"], self.end_id)
        self.unk_id, self.mask_id = ids.get(self.tokens["unk"]), ids.get(self.tokens["mask"])
        around = {self.end_id, self.pad_id, *before, *between, *after}
        added = state.get("added_tokens") or []
        special = {token["id"] for token in added if token["special"]}
        special |= around | {ids[token] for token in self.tokens.values() if token in ids}
        self.special_ids = tuple(sorted(special))
        self._splits, self._state = bool(config.get("split_special_tokens")), state
        flags = [token["special"] for token in added]
        for token in added:  # the backend does not match tokens that it considers special
            token["special"] = token["id"] in around or is_text(token["content"], config) or (
                token["special"] and self._splits)
        self._same = flags == [token["special"] for token in added]
        self._backend = plain if self._same else backend_of(json.dumps(state))
        self._backend.encode_special_tokens = True
        # RoBERTa's post-processor trims the space that begins a token from its offsets; if the pre-tokenizer added the
        # space, the first letter would be lost.
        self._backend.post_processor = TemplateProcessing("$A", "$A $B", [])
        self.starts_word = self._word_starts(ids, state["model"])
        if (state.get("pre_tokenizer") or {}).get("type") == "ByteLevel":  # GPT-2's and RoBERTa's; not Llama 3's
            self.word_prefix = " "
        self.lossless = not state.get("normalizer") and "ByteLevel" in json.dumps(state.get("pre_tokenizer"))

    def _word_starts(self, ids, model):
        # Use the marks in the vocabulary itself; return None if it does not mark where words begin.
        mark = model.get("continuing_subword_prefix") or ""
        ordinary = {token: number for token, number in ids.items() if number not in self.special_ids}
        begins = [number for token, number in ordinary.items() if token.startswith(WORD_BEGINS) or (
            mark and not token.startswith(mark)) or model.get("type") == "WordLevel"]
        if not begins or model.get("end_of_word_suffix"):
            return None
        starts_word = np.zeros(self.vocab_size, bool)
        starts_word[begins] = True
        return starts_word

    @property
    def around(self):
        return self._around

    @property
    def opening(self):
        return self._around[0]

    @functools.cached_property
    def why_outside(self):
        try:
            plan_of(self._state)
        except ConfigError as error:
            return str(error)

    @functools.cached_property
    def _encoder(self):
        if self.why_outside:
            raise ConfigError(f"this tokenizer cannot encode inside a graph ({self.why_outside}): encode outside it")
        return ByteLevelEncoder(self._state)

    @property
    def resources(self):
        return (self._encoder.resource,) if self.in_graph else ()

    @tf.autograph.experimental.do_not_convert  # autograph would rewrite its error
    def encode(self, texts):
        return encode_by(texts, lambda texts: self._backend.encode_batch_fast(texts, add_special_tokens=False),
                         inside=lambda texts: self._encoder.encode(texts))

    @functools.cached_property
    def _word_backend(self):
        # Let the pre-tokenizer add the space before each word: if the space were part of the text, it would become a
        # separate token before an added token.
        splitter = {**self._state["pre_tokenizer"], "add_prefix_space": True}
        backend = backend_of(json.dumps({**self._state, "pre_tokenizer": splitter}))
        backend.encode_special_tokens = True
        return backend

    @tf.autograph.experimental.do_not_convert
    def word_pieces(self, words):
        backend = self._word_backend if self.word_prefix else self._backend
        return encode_by(words, lambda words: backend.encode_batch_fast(words, add_special_tokens=False),
                         inside=lambda words: self._encoder.encode(words, prefix=bool(self.word_prefix)))

    def _text_of(self, ids):
        return self._backend.decode(ids)

    def offsets(self, texts):
        return [encoding.offsets for encoding in self._backend.encode_batch(as_texts(texts), add_special_tokens=False)]

    @functools.cached_property
    def _marked_backend(self):
        from tokenizers import AddedToken
        backend = backend_of(self.content)
        there = {token.content for token in backend.get_added_tokens_decoder().values()}
        named = [token for token in self.tokens.values() if token and token not in there
                 and backend.token_to_id(token) is not None]
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in named])
        backend.encode_special_tokens = self._splits
        return backend

    @property
    def added_ids(self):
        """Return the ids of the tokens that `encode_marked` finds in a text: list of int."""
        return list(self._marked_backend.get_added_tokens_decoder())

    def encode_marked(self, texts):
        """Encode texts in which special tokens stand for themselves, as in transformers.

        Args:
            texts: list of B str.

        Returns:
            list of B (list of int, list of (int, int)): the ids, and the span of each in the text.
        """
        return [(encoding.ids, encoding.offsets)
                for encoding in self._marked_backend.encode_batch(texts, add_special_tokens=False)]

    def portable(self):
        words = {"word_backend": self._word_backend.to_str()} if self.word_prefix else {}
        return {**super().portable(), "backend": self._backend.to_str(), **words}

    def identity(self):
        searched = [] if self._same else [[token["id"] for token in self._state["added_tokens"] if token["special"]]]
        return [self.kind, self.content, *searched]

    def save(self, folder):
        """Write the unchanged tokenizer.json and a tokenizer_config.json to an existing folder.

        transformers can also read both files.
        """
        folder = pathlib.Path(folder)
        (folder / "tokenizer.json").write_text(self.content, encoding="utf-8")
        config = {"tokenizer_class": "PreTrainedTokenizerFast",
                  **{f"{name}_token": token for name, token in self.tokens.items() if token}}
        config["split_special_tokens"] = self._splits
        if (self._state.get("pre_tokenizer") or {}).get("add_prefix_space"):  # transformers only reads it from here
            config["add_prefix_space"] = True
        write_settings(folder, config, self.chat_template)
