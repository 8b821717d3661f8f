"""What all tokenizers share: special tokens around texts, truncation, padding."""
import hashlib
import json
import pathlib

import numpy as np
import tensorflow as tf

from tfzoo import files
from tfzoo.errors import ConfigError


def as_strings(texts):
    """Turn a list of str or bytes, or a string tensor, into tf.string [B]; lone surrogates become U+FFFD."""
    if isinstance(texts, (str, bytes)):
        raise ConfigError("texts is one string: allowed is a list of strings")
    if tf.is_tensor(texts):
        return texts
    return tf.constant([text.encode("utf-8", "replace") if isinstance(text, str) else text for text in texts],
                       tf.string, shape=(len(texts),))


def as_texts(texts):
    """Turn what `encode` takes into a list of str; what is not valid UTF-8 becomes U+FFFD."""
    if isinstance(texts, (str, bytes)):
        raise ConfigError("texts is one string: allowed is a list of strings")
    if tf.is_tensor(texts):
        texts = texts.numpy().tolist()
    return [text.decode("utf-8", "replace") if isinstance(text, bytes) else text.encode("utf-8", "replace").decode()
            for text in texts]


def class_of(config):
    """Return the name of a tokenizer_config.json's class, less the Fast at its end; "" where it names none."""
    return str(config.get("tokenizer_class") or "").removesuffix("Fast")


def token_of(config, name):
    """Return a special token of a tokenizer_config.json, a str or a dict of one there, as str or None."""
    value = config.get(f"{name}_token")
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def encode_outside(texts, encode):
    """Return the ids of a tokenizer that encodes outside of graphs only: RaggedTensor int32 [B, None].

    Args:
        texts: see `Tokenizer.encode`.
        encode: callable of list of str -> list of encodings of the `tokenizers` package.

    Raises:
        ConfigError: inside a graph.
    """
    if tf.is_tensor(texts) and not tf.executing_eagerly():
        raise ConfigError("this tokenizer cannot encode inside a graph: encode before, or use WordPiece, SentencePiece "
                          "or bytes")
    rows = [np.asarray(encoding.ids, np.int32) for encoding in encode(as_texts(texts))]
    return tf.RaggedTensor.from_row_lengths(np.concatenate([np.zeros(0, np.int32), *rows]),
                                            np.array([len(row) for row in rows], np.int64))


def keep_of_pair(one, two, room, where=np.where, minimum=np.minimum):
    """Return how many tokens of each text of a pair stay where `room` is too small for both: the longer gives first.

    Args:
        one, two: integers (NumPy or tensors), the lengths.
        room: int.
        where, minimum: the functions of the arguments' kind.
    """
    short = minimum(minimum(one, two), room // 2)
    return (where(one <= two, minimum(one, short), minimum(one, room - short)),
            where(one <= two, minimum(two, room - short), minimum(two, short)))


class Tokenizer:
    """Turn texts into ids of a vocabulary.

    Attributes:
        kind: str. vocab_size: int. pad_id, unk_id, start_id, end_id, mask_id: int, None where there is none.
        special_ids: tuple of int. starts_word: bool [V], the token begins a word.
        lossless: bool, the tokens of a text spell all of its bytes. in_graph: bool, it encodes inside a graph.
        ends_between: int, how many end tokens stand between the texts of a pair.
    """

    lossless, in_graph, ends_between = False, True, 1

    @property
    def around(self):
        """Return the ids that stand before a text, between the two of a pair, and after the last: three lists."""
        before, after = ([] if token is None else [token] for token in (self.start_id, self.end_id))
        return before, after * self.ends_between, after

    @property
    def opening(self):
        """Return the ids that a text to be written on begins with: here what ended the one before in training."""
        return [self.end_id]

    def encode(self, texts):
        """Return the ids without special tokens: RaggedTensor int32 [B, None]."""
        raise ConfigError(f"{type(self).__name__} cannot encode: use a tokenizer of tfzoo.text.load_tokenizer")

    def offsets(self, texts):
        """Return where each token of `encode` stands in its text.

        Args:
            texts: list of str or bytes.

        Returns:
            List of B lists of (int, int): the first character of each token and the one after its last, in the text
            with invalid UTF-8 replaced.
        """
        raise ConfigError(f"{type(self).__name__} has no offsets: use a tokenizer of tfzoo.text.load_tokenizer")

    def __call__(self, texts, pairs=None, max_length=None):
        """Make model inputs: [start] text [end] (pair [end]), cut longest first, padded to the longest.

        Args:
            texts: list of str or bytes, or tf.string [B].
            pairs: likewise, or None.
            max_length: int or None.

        Returns:
            dict of int32 [B, T]: token_ids, padding_mask, segment_ids.

        Raises:
            ConfigError: where max_length leaves no room beside the special tokens.
        """
        return self.join([self.encode(part) for part in (texts, pairs) if part is not None], max_length)

    def join(self, parts, max_length=None):
        """Make model inputs of one or two results of `encode`; returns and errors as `__call__`."""
        room = None if max_length is None else self.room(max_length, len(parts))
        if room is not None:
            parts = self._cut(parts, room)
        rows = tf.shape(parts[0].row_lengths())[0]
        column = tf.ones((rows, 1), tf.int32)
        before, between, after = self.around
        pieces, segments = [column * token for token in before], [column * 0 for _ in before]
        for number, part in enumerate(parts):
            ends = between if number + 1 < len(parts) else after
            with_end = tf.concat([part, *[column * token for token in ends]], axis=1)
            pieces.append(with_end)
            segments.append(tf.ones_like(with_end) * number)
        tokens, segments = tf.concat(pieces, axis=1), tf.concat(segments, axis=1)
        return {"token_ids": tokens.to_tensor(self.pad_id), "padding_mask": tf.ones_like(tokens).to_tensor(0),
                "segment_ids": segments.to_tensor(0)}

    def room(self, max_length, parts):
        """Return how many tokens of `parts` texts fit beside the special ones, or raise ConfigError where none does."""
        before, between, after = self.around
        beside = len(before) + (parts - 1) * len(between) + len(after)
        if max_length <= beside:
            raise ConfigError(f"max_length is {max_length}: allowed is {beside + 1} or more, with the special tokens")
        return max_length - beside

    def _cut(self, parts, room):
        if len(parts) == 1:
            return [parts[0][:, :room]]
        one, two = (tf.cast(part.row_lengths(), tf.int32) for part in parts)
        keep_one, keep_two = keep_of_pair(one, two, room, tf.where, tf.minimum)
        return [tf.ragged.boolean_mask(part, tf.ragged.range(length) < keep[:, None])
                for part, length, keep in zip(parts, (one, two), (keep_one, keep_two))]

    def save_whole(self, folder):
        """Write the tokenizer's files into a new folder, which appears whole or not at all; see `save`."""
        folder = pathlib.Path(folder)
        temporary = files.temporary_path(folder)
        temporary.mkdir(parents=True)
        self.save(temporary)
        files.replace_folder(temporary, folder)

    @property
    def fingerprint(self):
        """Return the SHA-256 of what decides the ids, as hex."""
        return hashlib.sha256(json.dumps(self.identity()).encode()).hexdigest()

    def identity(self):
        """Return what decides the ids, as plain values."""
        return [self.kind]
