"""SentencePiece (Kudo, Richardson 2018, arXiv:1808.06226) by a model file, inside a TensorFlow graph through tf-text.

T5's models, which end each text with </s>, and ALBERT's, which has BERT's tokens around texts and lower-cases them. A
text that spells a special token is text.
"""
import json
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from tfzoo.errors import DataError
from tfzoo.text.tokenizer import Tokenizer, as_strings, as_texts

SENTINELS = 100  # T5's <extra_id_0> ... stand after the pieces, the last first
STYLES = {"T5Tokenizer": {"end": "</s>", "pad": "<pad>", "unk": "<unk>"},
          "AlbertTokenizer": {"start": "[CLS]", "end": "[SEP]", "pad": "<pad>", "unk": "<unk>", "mask": "[MASK]"}}


class SentencePieceTokenizer(Tokenizer):
    """Encode texts by a SentencePiece model.

    Args:
        model: bytes of the model file.
        lowercase: bool, ALBERT's alone; accents go too.

    Raises:
        DataError: for bytes that are no model, or one without the tokens of T5 or ALBERT.
    """

    kind = "sentencepiece"
    start_id = mask_id = None

    def __init__(self, model, lowercase=True):
        from sentencepiece import SentencePieceProcessor
        try:
            self._package = SentencePieceProcessor(model_proto=model)
            count = self._package.vocab_size()
            self.pieces = [self._package.id_to_piece(number) for number in range(count)]
        except (RuntimeError, TypeError, ValueError) as error:  # the last for a piece that is no UTF-8
            raise DataError(f"this is no SentencePiece model ({str(error)[:80]}): get it again") from None
        self.model = model
        ids = {piece: number for number, piece in enumerate(self.pieces)}
        self.style = next((style for style in ("AlbertTokenizer", "T5Tokenizer")
                           if ids.keys() >= set(STYLES[style].values())), None)
        if self.style is None:
            raise DataError("the SentencePiece model has neither T5's special tokens (" + ", ".join(
                STYLES["T5Tokenizer"].values()) + ") nor ALBERT's: allowed are these two")
        for name, token in STYLES[self.style].items():
            setattr(self, f"{name}_id", ids[token])
        self.lowercase = lowercase and self.style == "AlbertTokenizer"
        sentinels = SENTINELS if self.style == "T5Tokenizer" else 0
        self.vocab_size = count + sentinels
        self.special_ids = tuple(sorted({*(ids[token] for token in STYLES[self.style].values()),
                                         *range(count, self.vocab_size)}))
        self.starts_word = np.zeros(self.vocab_size, bool)
        self.starts_word[:count] = [piece.startswith("\u2581") for piece in self.pieces]
        self._op = tf_text.SentencepieceTokenizer(model, out_type=tf.int32)

    def _cleaned(self, texts):
        """Return valid UTF-8, as ALBERT's code cleans it before: blanks joined, quotes, accents and capitals."""
        texts = tf.strings.unicode_transcode(as_strings(texts), "UTF-8", "UTF-8", errors="replace")
        if self.style == "T5Tokenizer":
            return texts
        texts = tf.strings.regex_replace(tf.strings.regex_replace(texts, "``|''", '"'), r"[\pZ\s]+", " ")
        if not self.lowercase:
            return texts
        # NUL ends a text for TensorFlow's `lower`; like NUL, this one is in no vocabulary.
        texts = tf_text.normalize_utf8(tf.strings.regex_replace(texts, r"\x00", "\ue000"), "NFKD")
        return tf.strings.lower(tf.strings.regex_replace(texts, r"\p{Mn}|\p{Me}|\p{Mc}", ""), "utf-8")

    def encode(self, texts):
        return self._op.tokenize(self._cleaned(texts))

    def decode(self, ids):
        """Return the texts of rows of ids without special tokens: list of str."""
        return [self._package.decode([int(token) for token in row if int(token) not in self.special_ids])
                for row in ids]

    def offsets(self, texts):
        found = []
        for text in as_texts(texts):
            if self.style != "T5Tokenizer":
                text = self._cleaned([text]).numpy()[0].decode()
            encoded = self._package.encode(text, return_type="proto")
            found.append([(piece.begin, piece.end) for piece in encoded.pieces])
        return found

    def identity(self):
        return [self.kind, self.style, self.lowercase, self.model.hex()]

    def save(self, folder):
        """Write spiece.model and tokenizer_config.json, which Hugging Face reads too, into a folder that exists."""
        folder = pathlib.Path(folder)
        (folder / "spiece.model").write_bytes(self.model)
        config = {"tokenizer_class": self.style}
        if self.style == "AlbertTokenizer":
            config["do_lower_case"] = self.lowercase
        else:
            config["extra_ids"] = SENTINELS
        (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
