"""A tokenizer whose tokens are bytes. Ids 0 to 3 are the padding, start, end and mask tokens; byte b has id b + 4."""
import numpy as np
import tensorflow as tf

from tfzoo.text.added import write_settings
from tfzoo.text.tokenizer import Tokenizer, as_strings, as_texts

OFFSET = 4


class ByteTokenizer(Tokenizer):
    """Encode texts as their UTF-8 bytes, replacing invalid bytes with U+FFFD; works inside a graph."""

    kind, vocab_size = "bytes", 256 + OFFSET
    pad_id, start_id, end_id, mask_id, unk_id = 0, 1, 2, 3, None
    special_ids = (0, 1, 2, 3)
    lossless, word_prefix = True, " "

    def __init__(self):
        self.starts_word = np.zeros(self.vocab_size, bool)  # a word begins with the whitespace before it
        self.starts_word[[OFFSET + byte for byte in b" \t\n\r"]] = True

    def encode(self, texts):
        clean = tf.strings.unicode_transcode(as_strings(texts), "UTF-8", "UTF-8", errors="replace")
        split = tf.strings.bytes_split(clean)
        values = tf.cast(tf.io.decode_raw(split.flat_values, tf.uint8, fixed_length=1)[:, 0], tf.int32) + OFFSET
        return split.with_flat_values(values)

    def _text_of(self, ids):
        return bytes(token - OFFSET for token in ids if token >= OFFSET).decode("utf-8", "replace")

    def offsets(self, texts):
        return [[(number, number + 1) for number, character in enumerate(text) for _ in character.encode("utf-8")]
                for text in as_texts(texts)]

    def save(self, folder):
        """Write tokenizer_config.json to an existing folder."""
        write_settings(folder, {"tokenizer_class": "tfzoo.ByteTokenizer"}, self.chat_template)
