"""Any tokenizer.json of the `tokenizers` package, encoded by that package (Llama's, Mistral's, Qwen's, unigram ones).

It encodes outside of graphs only. A text that spells a special token is text.
"""
import json
import pathlib

import numpy as np
import tensorflow as tf

from tfzoo.errors import DataError
from tfzoo.text.tokenizer import Tokenizer, as_texts, encode_outside, token_of

# Where tokenizer_config.json does not say; then the unknown token.
ENDS = ("</s>", "<|end_of_text|>", "<|endoftext|>", "[SEP]", "<|im_end|>")
LARGEST = 2 ** 24  # ids
WORD_BEGINS = ("\u2581", "\u0120")


class PackageTokenizer(Tokenizer):
    """Encode texts by a tokenizer.json.

    Args:
        content: str, of tokenizer.json.
        config: dict, of tokenizer_config.json, which names special tokens.

    Raises:
        DataError: for content that the package does not read, or that names no end of a text.
    """

    kind, in_graph = "package", False

    def __init__(self, content, config):
        from tokenizers import Tokenizer as Backend
        try:
            self._backend = Backend.from_str(content)
            self._backend.no_truncation()
            self._backend.no_padding()
            self._around = self._template()
        except (KeyboardInterrupt, SystemExit, DataError):
            raise
        except BaseException as error:  # the package raises its own kinds, and where Rust panics no Exception
            raise DataError(f"tokenizer.json cannot be read ({str(error)[:100]}): get it again") from None
        self._backend.encode_special_tokens = True
        self.content, ids = content, self._backend.get_vocab()
        self.vocab_size = max(ids.values()) + 1
        if self.vocab_size > LARGEST:
            raise DataError(f"tokenizer.json has the id {self.vocab_size - 1:,}: allowed are those below {LARGEST:,}")
        self.tokens = {name: token_of(config, name) for name in ("bos", "eos", "pad", "unk", "mask")}
        before, between, after = self._around
        model = json.loads(content)
        self.tokens["unk"] = self.tokens["unk"] or model["model"].get("unk_token")
        end = next((end for end in (self.tokens["eos"], *ENDS, self.tokens["unk"]) if end in ids), None)
        if end is None and not after:
            raise DataError("no token ends a text: needed is eos_token or unk_token in tokenizer_config.json, or one "
                            f"of {', '.join(ENDS)}")
        self.end_id = after[-1] if after else ids[end]
        self.start_id = before[0] if before else None
        self.pad_id = ids.get(self.tokens["pad"], self.end_id)
        self.unk_id, self.mask_id = ids.get(self.tokens["unk"]), ids.get(self.tokens["mask"])
        special = {number for number, token in self._backend.get_added_tokens_decoder().items() if token.special}
        self.special_ids = tuple(sorted(special | {self.end_id, self.pad_id, *before, *between, *after}))
        self.starts_word = self._word_starts(ids, model["model"])
        if (model.get("pre_tokenizer") or {}).get("type") == "ByteLevel":  # GPT-2's and RoBERTa's; later ones have more
            self.word_prefix = " "
        self.lossless = not model.get("normalizer") and "ByteLevel" in json.dumps(model.get("pre_tokenizer"))

    def _word_starts(self, ids, model):
        """Return which tokens begin a word, by the vocabulary's own marks; None where it marks no beginning."""
        mark = model.get("continuing_subword_prefix") or ""
        ordinary = {token: number for token, number in ids.items() if number not in self.special_ids}
        begins = [number for token, number in ordinary.items() if token.startswith(WORD_BEGINS) or (
            mark and not token.startswith(mark)) or model.get("type") == "WordLevel"]
        if not begins or model.get("end_of_word_suffix"):
            return None
        starts_word = np.zeros(self.vocab_size, bool)
        starts_word[begins] = True
        return starts_word

    def _template(self):
        """Return what the package puts around texts: before one, between two, after the last."""
        one, two = self._backend.encode("a"), self._backend.encode("a", "a")
        edges = np.flatnonzero(np.array([0, *one.special_tokens_mask, 0]) == 0)[1:-1] - 1
        if not len(edges):
            raise DataError("tokenizer.json gives the letter a no token: get it again")
        before, after = one.ids[:edges[0]], one.ids[edges[-1] + 1:]
        length = edges[-1] - edges[0] + 1
        between = two.ids[len(before) + length:len(two.ids) - len(after) - length]
        return list(before), list(between), list(after)

    @property
    def around(self):
        return self._around

    @property
    def opening(self):
        return self._around[0]

    @tf.autograph.experimental.do_not_convert  # so that its error stays what it is
    def encode(self, texts):
        return encode_outside(texts, lambda texts: self._backend.encode_batch_fast(texts, add_special_tokens=False))

    def _text_of(self, ids):
        return self._backend.decode(ids)

    def offsets(self, texts):
        return [encoding.offsets for encoding in self._backend.encode_batch(as_texts(texts), add_special_tokens=False)]

    def identity(self):
        return [self.kind, self.content]

    def save(self, folder):
        """Write tokenizer.json as it came and tokenizer_config.json, which Hugging Face reads too, into a folder."""
        folder = pathlib.Path(folder)
        (folder / "tokenizer.json").write_text(self.content, encoding="utf-8")
        config = {"tokenizer_class": "PreTrainedTokenizerFast",
                  **{f"{name}_token": token for name, token in self.tokens.items() if token}}
        (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")


def content_of_gpt(ids, merges):
    """Return the tokenizer.json of GPT's vocabulary of 2018, as transformers' OpenAIGPTConverter makes it: str."""
    unk = "<unk>"
    return json.dumps({
        "version": "1.0",
        "added_tokens": [{"id": ids[unk], "content": unk, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "BPEDecoder", "suffix": "</w>"},
        "model": {"type": "BPE", "unk_token": unk, "end_of_word_suffix": "</w>", "fuse_unk": False, "vocab": ids,
                  "merges": merges}})
