"""Encode and decode texts without TensorFlow, with the ids of the tokenizer that was exported."""
import hashlib
import json
import pathlib
import re
import unicodedata

from tfzoo.errors import ConfigError, DataError
from tfzoo.records.rows import as_text

FILE = "portable_tokenizer.json"
BYTE_OFFSET = 4  # the id of byte 0 (see tfzoo.text.byte)
_QUOTES, _MARKS, _SPACES = re.compile("``|''"), ("Mn", "Me", "Mc"), ("Zs", "Zl", "Zp")


class PortableTokenizer:
    """Convert texts to token ids and back.

    Args:
        folder: pathlib.Path, written by `tfzoo.export.litert.export_litert`.
        sha256: str, the hexadecimal SHA-256 of the file, from config.json.

    Attributes:
        around: three lists of int, the special tokens before the first text, between two texts and after the last.
        opening: list of int, the ids that precede a prompt.
        pad_id, end_id, vocab_size: int.
        special_ids: list of int.

    Raises:
        ConfigError: if a package is not installed.
        DataError: if a file is damaged.
    """

    def __init__(self, folder, sha256):
        path = pathlib.Path(folder) / FILE
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DataError(f"{path} is damaged or belongs to another export: export the model again")
        package = "tokenizers"
        try:
            given = json.loads(content)
            self.around, self.opening, self.special_ids = given["around"], given["opening"], given["special_ids"]
            self.pad_id, self.end_id, self.vocab_size = given["pad_id"], given["end_id"], given["vocab_size"]
            self.kind, self._given, self._special = given["kind"], given, set(given["special_ids"])
            self._backend = self._processor = self._word_backend = None
            if self.kind == "sentencepiece":
                package = "sentencepiece"
                from sentencepiece import SentencePieceProcessor
                model = (path.parent / given["model"]).read_bytes()
                self._processor = SentencePieceProcessor(model_proto=model)
            elif self.kind != "bytes":
                from tokenizers import Tokenizer
                self._backend = Tokenizer.from_str(given["backend"])
                self._backend.encode_special_tokens = True
                if "word_backend" in given:
                    self._word_backend = Tokenizer.from_str(given["word_backend"])
                    self._word_backend.encode_special_tokens = True
        except ImportError:
            raise ConfigError(f"this tokenizer requires pip install {package}") from None
        except FileNotFoundError:
            raise
        except Exception as error:  # `tokenizers` raises a type of its own
            raise DataError(f"{path} is damaged ({str(error)[:80]}): export the model again") from None

    def encode(self, texts):
        """Encode texts without special tokens: list of B str or bytes -> list of B lists of int."""
        texts = [as_text(text) for text in texts]
        if self.kind == "bytes":
            return [[byte + BYTE_OFFSET for byte in text.encode()] for text in texts]
        if self._processor is not None:
            return [self._processor.encode(self._cleaned(text)) for text in texts]
        return [each.ids for each in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_words(self, words):
        """Encode each word of a sentence by itself: list of W str -> list of W lists of int (maybe empty)."""
        if self._word_backend is not None:
            return [each.ids for each in self._word_backend.encode_batch_fast(words, add_special_tokens=False)]
        prefix = self._given["word_prefix"]
        return self.encode([word if not word or word.startswith(prefix) else prefix + word for word in words])

    def decode(self, ids):
        """Decode a list of int, without special tokens, to a str."""
        ids = [token for token in ids if token not in self._special and 0 <= token < self.vocab_size]
        if self.kind == "bytes":
            return bytes(token - BYTE_OFFSET for token in ids if token >= BYTE_OFFSET).decode("utf-8", "replace")
        if self._processor is not None:
            return self._processor.decode(ids)
        if self.kind == "wordpiece":
            return " ".join(map(self._backend.id_to_token, ids)).replace(" ##", "")
        return self._backend.decode(ids, skip_special_tokens=self.kind == "package")

    def room(self, max_length, parts):
        """Return the number of text tokens that fit beside the special tokens of a row with `parts` texts: int."""
        before, between, after = self.around
        return max_length - len(before) - (parts - 1) * len(between) - len(after)

    def _cleaned(self, text):
        # As SentencePieceTokenizer cleans texts for ALBERT, but with Python's version of Unicode: capitals that older
        # versions lack are lowercased.
        if not self._given["clean"]:
            return text
        text = _QUOTES.sub('"', text)
        spaced = (" " if one in "\t\n\f\r " or unicodedata.category(one) in _SPACES else one for one in text)
        text = re.sub(" +", " ", "".join(spaced)).replace("\x00", "\ue000")
        if not self._given["keep_accents"]:
            text = unicodedata.normalize("NFKD", text)
            text = "".join(one for one in text if unicodedata.category(one) not in _MARKS)
        return text.lower() if self._given["lowercase"] else text
