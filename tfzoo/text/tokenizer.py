"""What all tokenizers share: special tokens around texts, truncation, padding, and pre-split sentences."""
import hashlib
import json
import typing

import numpy as np
import tensorflow as tf

from tfzoo import folders
from tfzoo.errors import ConfigError, shown

LEARNED = "learned.json"  # lists the files that `save_whole` wrote to its folder


def learned_in(folder):
    """Return the names of the files that `Tokenizer.save_whole` wrote to a folder; None if it wrote none."""
    try:
        names = json.loads((folder / LEARNED).read_text(encoding="utf-8"))["files"]
        return names if isinstance(names, list) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def list_of(texts, name="texts", items="strings"):
    """Return the items of a list, tuple, iterator, series, or array or eager tensor of one axis, as a list.

    Args:
        texts: as above.
        name: str, what the error calls `texts`.
        items: str, what the error calls its items.

    Raises:
        ConfigError: a single text, an unordered container (dict, set), another number of axes, or not iterable.
    """
    axes = texts.shape.rank if tf.is_tensor(texts) else getattr(texts, "ndim", 1)
    if isinstance(texts, (str, bytes, bytearray, dict, set, frozenset)) or axes != 1 or not hasattr(texts, "__iter__"):
        one = "one string" if isinstance(texts, (str, bytes)) else f"{type(texts).__name__} of {axes} axes" \
            if axes != 1 else shown(texts)
        raise ConfigError(f"{name} is {one}: allowed is a list of {items}")
    return texts.numpy().tolist() if tf.is_tensor(texts) else list(texts)


def _checked(texts, name):
    texts = list_of(texts, name)
    for number, text in enumerate(texts):
        if not isinstance(text, (str, bytes)):
            raise ConfigError(f"{name}[{number}] is {shown(text)}, not a string: allowed is a list of strings")
    return texts


def as_strings(texts, name="texts"):
    """Convert a list of str or bytes, or a string tensor, to tf.string [B]; a lone surrogate becomes "?"."""
    if tf.is_tensor(texts) and texts.dtype == tf.string and texts.shape.rank in (1, None):
        return texts
    texts = [text.encode("utf-8", "replace") if isinstance(text, str) else text for text in _checked(texts, name)]
    return tf.constant(texts, tf.string, shape=(len(texts),))


def as_texts(texts, name="texts"):
    """Convert the texts that `encode` accepts to a list of str; invalid UTF-8 becomes U+FFFD, a lone surrogate "?"."""
    return [text.decode("utf-8", "replace") if isinstance(text, bytes) else text.encode("utf-8", "replace").decode()
            for text in _checked(texts, name)]


def encode_outside(texts, encode):
    """Encode with a tokenizer that works outside graphs only.

    Args:
        texts: see `Tokenizer.encode`.
        encode: callable of list of str -> list of encodings of the `tokenizers` package.

    Returns:
        RaggedTensor int32 [B, None].

    Raises:
        ConfigError: called inside a graph.
    """
    if tf.is_tensor(texts) and not tf.executing_eagerly():
        raise ConfigError("this tokenizer cannot encode inside a graph: encode outside it, or use WordPiece, "
                          "SentencePiece or bytes")
    rows = [np.asarray(encoding.ids, np.int32) for encoding in encode(as_texts(texts))]
    return tf.RaggedTensor.from_row_lengths(np.concatenate([np.zeros(0, np.int32), *rows]),
                                            np.array([len(row) for row in rows], np.int64))


def keep_of_pair(one, two, room, where=np.where, minimum=np.minimum):
    """Return how many tokens of each text of a pair to keep: truncation to `room` tokens, longest first.

    Args:
        one, two: integers (NumPy or tensors), the lengths in tokens.
        room: int, tokens.
        where, minimum: the functions for these types, NumPy's or TensorFlow's.

    Returns:
        Two integers of the arguments' type.
    """
    short = minimum(minimum(one, two), room // 2)
    return (where(one <= two, minimum(one, short), minimum(one, room - short)),
            where(one <= two, minimum(two, room - short), minimum(two, short)))


def _first_of(part, lengths, keep):
    # Several times as fast as tf.ragged.boolean_mask.
    place = tf.range(tf.reduce_sum(lengths)) - tf.repeat(tf.cumsum(lengths, exclusive=True), lengths)
    values = tf.boolean_mask(part.values, place < tf.repeat(keep, lengths))
    lengths = tf.cast(tf.minimum(lengths, keep), part.row_splits.dtype)
    return tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)


def _dense(rows, fill):
    # At least one column, even if no row has a token or there is no row.
    dense = rows.to_tensor(fill)
    return tf.pad(dense, [[0, 0], [0, tf.maximum(1 - tf.shape(dense)[1], 0)]], constant_values=fill)


class EncodedWords(typing.NamedTuple):
    """Hold the tokens of B sentences split into words, concatenated: T tokens and W words in total.

    Attributes:
        token_ids: int32 [T], without special tokens.
        word_ids: int32 [T], the index of each token's word in its sentence.
        starts, ends: int64 [B], where the tokens of each sentence start and end.
        first: int32 [W], the index in its sentence of each word's first token; -1 for a word without tokens.
    """

    token_ids: np.ndarray
    word_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    first: np.ndarray


class Tokenizer:
    """Turn texts into ids of a vocabulary.

    Attributes:
        kind: str.
        vocab_size: int, V.
        pad_id, unk_id, start_id, end_id, mask_id: int, or None if there is no such token.
        special_ids: tuple of int.
        starts_word: bool [V], whether each token begins a word; None if the vocabulary does not mark it.
        lossless: bool, the tokens of a text spell all of its bytes.
        in_graph: bool, `encode` works inside a graph.
        ends_between: int, the number of end tokens between the texts of a pair.
        word_prefix: str, put before each word of a pre-split sentence: a space if the vocabulary has separate tokens
            for words after a space.
    """

    lossless, in_graph, ends_between, word_prefix = False, True, 1, ""

    @property
    def around(self):
        """Return three lists of ids: before the first text, between the two of a pair, and after the last."""
        before, after = ([] if token is None else [token] for token in (self.start_id, self.end_id))
        return before, after * self.ends_between, after

    @property
    def opening(self):
        """Return the ids before a prompt that is continued, by default the end of the previous text in training."""
        return [self.end_id]

    @property
    def separator(self):
        """Return the ids between two documents for a causal language model: an end token and the next's opening."""
        return self.opening if self.opening[:1] == [self.end_id] else [self.end_id, *self.opening]

    def beginning(self, ids=()):
        """Return a prompt of `ids` to continue, list of int, opened the way a document in mid-stream is."""
        return [*self.opening, *ids] or [self.end_id]

    def encode(self, texts):
        """Encode texts without special tokens.

        Args:
            texts: list of B str or bytes, or tf.string [B].

        Returns:
            RaggedTensor int32 [B, None].
        """
        raise ConfigError(f"{type(self).__name__} cannot encode: use a tokenizer of tfzoo.text.load_tokenizer")

    def decode(self, ids):
        """Decode rows of ids to texts.

        Special tokens and ids outside the vocabulary are skipped. Spaces are kept as the tokens spell them, also before
        punctuation (clean_up_tokenization_spaces=False in transformers). SentencePiece's leading space is dropped, and
        a leading ##s stays ##s; use `continuation` for text that follows other text. Invalid UTF-8 becomes U+FFFD.

        Args:
            ids: B rows of ids: lists, arrays, or a dense or ragged tensor.

        Returns:
            List of B str.

        Raises:
            ConfigError: a single row, or a value that is not an id.
        """
        if isinstance(ids, (str, bytes, dict)) or not (tf.is_tensor(ids) or hasattr(ids, "__iter__")):
            raise ConfigError(f"ids is {shown(ids)}: allowed are rows of ids")
        rows, special = [np.asarray(row) for row in ids], set(self.special_ids)
        for number, row in enumerate(rows):
            if row.ndim != 1 or row.size and (row.dtype.kind not in "iu" or row.min() < 0):
                raise ConfigError(f"ids[{number}] is {shown(row.tolist())}: allowed is a row of ids from 0")
        return [self._text_of([token for token in row.tolist() if token not in special and token < self.vocab_size])
                for row in rows]

    def continuation(self, before, ids):
        """Return the text that `ids` add after the ids `before` them: str, including a space between the two, if any.

        The last character may be U+FFFD while some of its bytes are missing.
        """
        start, whole = self.decode([before, [*before, *ids]])
        return whole[len(start):]

    @tf.autograph.experimental.do_not_convert  # autograph would rewrite errors
    def word_pieces(self, words):
        """Encode words as in a pre-split sentence; runs in a graph if `encode` does.

        Args:
            words: list of str or bytes, or tf.string [W].

        Returns:
            RaggedTensor int32 [W, None]. A word may have no token: control characters, a space, an empty word.
        """
        if self.word_prefix:
            words = as_strings(words)
            lead = tf.strings.substr(words, 0, 1)
            words = tf.where((lead == "") | (lead == self.word_prefix), words, self.word_prefix + words)
        return self.encode(words)

    def encode_words(self, sentences):
        """Encode sentences split into words, as transformers' fast tokenizers do with is_split_into_words.

        Each word is encoded on its own. GPT-2's and RoBERTa's tokenizers, for which transformers demands
        add_prefix_space, put a space before each word, including the first, and so does the byte tokenizer. Tokenizers
        with other byte-level splitting (Llama 3's, Qwen2's) put none, as in transformers. A special token spelled as a
        word is encoded as text.

        Args:
            sentences: sequence of B sequences of str or bytes.

        Returns:
            EncodedWords, without special tokens.

        Raises:
            ConfigError: a sentence that is a single string.
        """
        sentences = list_of(sentences, "sentences", "words for each")
        sentences = [list_of(words, "a sentence", "words") for words in sentences]
        words = as_texts([word for words in sentences for word in words], "words")
        known = {word: number for number, word in enumerate(dict.fromkeys(words))}
        pieces = self.word_pieces(list(known))
        numbers, splits = np.array([known[word] for word in words], np.int64), pieces.row_splits.numpy()
        sizes = np.diff(splits)[numbers]  # tokens of each word
        edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        counts = np.array([len(words) for words in sentences], np.int64)
        last = np.cumsum(counts)
        starts, ends = edges[last - counts], edges[last]
        place = np.arange(len(words)) - np.repeat(last - counts, counts)
        token_ids = pieces.flat_values.numpy()[np.repeat(splits[numbers] - edges[:-1], sizes) + np.arange(edges[-1])]
        return EncodedWords(token_ids.astype(np.int32), word_ids=np.repeat(place, sizes).astype(np.int32),
                            starts=starts, ends=ends,
                            first=np.where(sizes > 0, edges[:-1] - np.repeat(starts, counts), -1).astype(np.int32))

    def offsets(self, texts):
        """Return the span of each token of `encode` in its text.

        Args:
            texts: list of B str or bytes.

        Returns:
            List of B lists of (int, int): the first character of each token and the one after its last, in the original
            text with invalid UTF-8 replaced. Tokens that share a character (bytes, parts of a ligature) each span all
            of it; the space before a word may belong to its token.
        """
        raise ConfigError(f"{type(self).__name__} has no offsets: use a tokenizer of tfzoo.text.load_tokenizer")

    def __call__(self, texts, pairs=None, max_length=None):
        """Make model inputs: [start] text [end] (pair [end]), truncated longest first, padded to the longest row.

        Args:
            texts: list (tuple, iterator, array, series) of str or bytes, or tf.string [B].
            pairs: likewise, or None.
            max_length: int, tokens, including special ones; None does not truncate.

        Returns:
            dict of int32 [B, T]: token_ids, padding_mask, segment_ids.

        Raises:
            ConfigError: a single string, an item that is not a string, a number of pairs other than that of texts, or a
                max_length without room beside the special tokens.
        """
        parts = [self.encode(part) for part in ((texts,) if pairs is None else (texts, pairs))]
        if tf.executing_eagerly() and int(parts[0].nrows()) != int(parts[-1].nrows()):
            raise ConfigError(f"{parts[0].nrows()} texts and {parts[-1].nrows()} pairs: allowed is one pair per text")
        return self.join(parts, max_length)

    def join(self, parts, max_length=None):
        """Make model inputs from one or two results of `encode`; returns and raises as `__call__`."""
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
        return {"token_ids": _dense(tokens, self.pad_id), "padding_mask": _dense(tf.ones_like(tokens), 0),
                "segment_ids": _dense(segments, 0)}

    def join_row(self, parts, max_length):
        """Return (token ids, segment ids), lists of int, for the ids of one or two texts: an unpadded row of `join`."""
        room = self.room(max_length, len(parts))
        keep = [room] if len(parts) == 1 else keep_of_pair(len(parts[0]), len(parts[1]), room=room)
        before, between, after = self.around
        tokens, segments = list(before), [0] * len(before)
        for number, (part, size) in enumerate(zip(parts, keep)):
            ends = between if number + 1 < len(parts) else after
            piece = [*part[:int(size)], *ends]
            tokens += piece
            segments += [number] * len(piece)
        return tokens, segments

    def room(self, max_length, parts):
        """Return how many tokens of `parts` texts fit in max_length beside the special ones; ConfigError if none do."""
        before, between, after = self.around
        beside = len(before) + (parts - 1) * len(between) + len(after)
        if max_length <= beside:
            raise ConfigError(f"max_length is {max_length}: allowed is {beside + 1} or more, including special tokens")
        return max_length - beside

    def _cut(self, parts, room):
        if len(parts) == 1:
            return [parts[0][:, :room]]
        one, two = (tf.cast(part.row_lengths(), tf.int32) for part in parts)
        keep_one, keep_two = keep_of_pair(one, two, room=room, where=tf.where, minimum=tf.minimum)
        return [_first_of(part, length, keep) for part, length, keep in zip(parts, (one, two), (keep_one, keep_two))]

    def save_whole(self, folder):
        """Write the tokenizer's files to a folder atomically; see `save`.

        Args:
            folder: path; a folder that `save_whole` wrote before is replaced.

        Raises:
            ConfigError: the folder holds something else.
            OSError: it cannot be written.
        """
        folder, ours = folders.target_folder(folder, learned_in)
        with folders.new_folder(folder, ours) as temporary:
            self.save(temporary)
            names = sorted([*folders.names_in(temporary), LEARNED])
            (temporary / LEARNED).write_text(json.dumps({"files": names}) + "\n", encoding="utf-8")

    @property
    def fingerprint(self):
        """Return the SHA-256 of all that determines the ids, as hex."""
        return hashlib.sha256(json.dumps(self.identity()).encode()).hexdigest()

    def identity(self):
        """Return all that determines the ids, as values that JSON can hold."""
        return [self.kind]
