"""The text of each token, as bytes: for decoding inside a graph."""
import json

import tensorflow as tf

from tfzoo.errors import ConfigError
from tfzoo.text import byte_level
from tfzoo.text.byte import OFFSET
from tfzoo.text.sentencepiece import BLANK


BEGINNINGS = {"WordPiece": "^ ", "Metaspace": "^ ", "Spaces": "^ +"}  # convention -> what a text does not begin with


def _of_package(tokenizer):
    # The tokens of a tokenizer.json, and which convention they follow: "ByteLevel", "Metaspace" or neither.
    state = json.loads(tokenizer.content)
    tokens = [tokenizer._backend.id_to_token(number) for number in range(tokenizer.vocab_size)]
    said, added = json.dumps(state.get("decoder")), {token["content"] for token in state.get("added_tokens") or []}
    if "ByteLevel" in said:
        return tokens, "ByteLevel", added
    return tokens, "Metaspace" if BLANK in said or "\\u2581" in said or "Metaspace" in said else None, added


def pieces_of(tokenizer):
    """Return the text that each token adds after others.

    Args:
        tokenizer: Tokenizer.

    Returns:
        (list of V bytes, str): b"" for special tokens; and the convention, "WordPiece", "Metaspace" (SentencePiece),
        "Spaces" (the same, with all spaces at the beginning of a text dropped), "ByteLevel" or "" (bytes).

    Raises:
        ConfigError: if the text of a token depends on its neighbors in a way that is not supported.
    """
    kind, convention, added = tokenizer.kind, "", set()
    if kind == "bytes":
        tokens = [bytes([max(number - OFFSET, 0)]) for number in range(tokenizer.vocab_size)]
    elif kind == "wordpiece":
        tokens, convention = tokenizer.vocabulary, "WordPiece"
    elif kind == "sentencepiece":
        tokens = [*tokenizer.pieces, *[""] * tokenizer.sentinels]
        convention = "Metaspace" if tokenizer.style == "LlamaTokenizer" else "Spaces"  # the models' own settings
    elif kind == "bpe":
        tokens, convention = sorted(tokenizer.ids, key=tokenizer.ids.get), "ByteLevel"
    else:
        tokens, convention, added = _of_package(tokenizer) if kind == "package" else ((), None, ())
        if convention is None:
            raise ConfigError(f"a {kind} tokenizer cannot decode inside a graph: use WordPiece, SentencePiece, bytes "
                              "or byte-level BPE")
    alphabet = {letter: byte for byte, letter in enumerate(byte_level.alphabet())}

    def piece(token):
        if isinstance(token, bytes):
            return token
        if token is None:
            return b""
        if convention == "WordPiece":
            return (token[2:] if token.startswith("##") else f" {token}").encode()
        if token in added or convention == "ByteLevel" and not set(token) <= alphabet.keys():
            return token.encode()
        if convention == "ByteLevel":
            return bytes(alphabet[character] for character in token)
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])
        return token.replace(BLANK, " ").encode()

    special = set(tokenizer.special_ids)
    return [b"" if number in special else piece(token) for number, token in enumerate(tokens)], convention


class GraphDecoder:
    """Decode ids to texts inside a graph, as `Tokenizer.decode` and `continuation` do.

    Args:
        tokenizer: Tokenizer.

    Raises:
        ConfigError: see `pieces_of`.
    """

    def __init__(self, tokenizer):
        pieces, self.convention = pieces_of(tokenizer)
        self.table = tf.constant([*pieces, b""])

    def __call__(self, ids, lengths, continues=False):
        """Decode the first tokens of each row.

        Args:
            ids: int32 [R, N].
            lengths: int32 [R], the number of tokens to decode.
            continues: bool, whether the texts continue others, so that a space at their beginning stays.

        Returns:
            tf.string [R]; invalid UTF-8 becomes U+FFFD.
        """
        last = self.table.shape[0] - 1
        known = (tf.range(tf.shape(ids)[1]) < lengths[:, None]) & (ids >= 0) & (ids < last)
        texts = tf.strings.reduce_join(tf.gather(self.table, tf.where(known, ids, last)), axis=1)
        if self.convention == "WordPiece" and not continues:  # a text that begins within a word keeps its mark
            texts = tf.where((texts == "") | (tf.strings.substr(texts, 0, 1) == " "), texts, "##" + texts)
        if self.convention in BEGINNINGS and not continues:
            texts = tf.strings.regex_replace(texts, BEGINNINGS[self.convention], "", replace_global=False)
        return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
