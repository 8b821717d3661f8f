"""What all tokenizers share: special tokens around texts, truncation, padding, sentences that come in words."""
import hashlib
import json
import shutil
import typing

import numpy as np
import tensorflow as tf

from tfzoo import files
from tfzoo.errors import ConfigError, shown

LEARNED = "learned.json"  # in a folder of `save_whole`, with the names of its files


def learned_in(folder):
    """Return the names of what `Tokenizer.save_whole` wrote into a folder, None where it wrote nothing there."""
    try:
        names = json.loads((folder / LEARNED).read_text(encoding="utf-8"))["files"]
        return names if isinstance(names, list) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def list_of(texts, name="texts", items="strings"):
    """Return the items of what holds several: a list, tuple, iterator, array, series or eager tensor of one axis.

    Args:
        texts: as above. name, items: str, for the message.

    Raises:
        ConfigError: for one text, what has no order (a dict, a set), another number of axes, or no items.
    """
    axes = texts.shape.rank if tf.is_tensor(texts) else getattr(texts, "ndim", 1)
    if isinstance(texts, (str, bytes, bytearray, dict, set, frozenset)) or axes != 1 or not hasattr(texts, "__iter__"):
        one = "one string" if isinstance(texts, (str, bytes)) else f"{type(texts).__name__} of {axes} axes" \
            if axes != 1 else shown(texts)
        raise ConfigError(f"{name} is {one}: allowed is a list of {items}")
    return texts.numpy().tolist() if tf.is_tensor(texts) else list(texts)


def _checked(texts, name):
    """Return the list of texts, each of which is str or bytes."""
    texts = list_of(texts, name)
    for number, text in enumerate(texts):
        if not isinstance(text, (str, bytes)):
            raise ConfigError(f"{name}[{number}] is {shown(text)}, no string: allowed is a list of strings")
    return texts


def as_strings(texts, name="texts"):
    """Turn a list of str or bytes, or a string tensor, into tf.string [B]; lone surrogates become U+FFFD."""
    if tf.is_tensor(texts) and texts.dtype == tf.string and texts.shape.rank in (1, None):
        return texts
    texts = [text.encode("utf-8", "replace") if isinstance(text, str) else text for text in _checked(texts, name)]
    return tf.constant(texts, tf.string, shape=(len(texts),))


def as_texts(texts, name="texts"):
    """Turn what `encode` takes into a list of str; what is not valid UTF-8 becomes U+FFFD."""
    return [text.decode("utf-8", "replace") if isinstance(text, bytes) else text.encode("utf-8", "replace").decode()
            for text in _checked(texts, name)]


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


def _first_of(part, lengths, keep):
    # tf.ragged.boolean_mask does the same, but takes several times as long.
    place = tf.range(tf.reduce_sum(lengths)) - tf.repeat(tf.cumsum(lengths, exclusive=True), lengths)
    values = tf.boolean_mask(part.values, place < tf.repeat(keep, lengths))
    lengths = tf.cast(tf.minimum(lengths, keep), part.row_splits.dtype)
    return tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)


def _dense(rows, fill):
    """Return ragged rows as a tensor, with a column even where none has a token or there is no row."""
    dense = rows.to_tensor(fill)
    return tf.pad(dense, [[0, 0], [0, tf.maximum(1 - tf.shape(dense)[1], 0)]], constant_values=fill)


class EncodedWords(typing.NamedTuple):
    """Hold the tokens of sentences that come in words: T tokens and W words of B sentences, all in a row.

    Attributes:
        token_ids: int32 [T], without special tokens.
        word_ids: int32 [T], the word of each token, counted in its sentence.
        starts, ends: int64 [B], where the tokens of each sentence begin and end.
        first: int32 [W], the first token of each word, counted in its sentence; -1 for a word that has no token.
    """

    token_ids: np.ndarray
    word_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    first: np.ndarray


class Tokenizer:
    """Turn texts into ids of a vocabulary.

    Attributes:
        kind: str. vocab_size: int. pad_id, unk_id, start_id, end_id, mask_id: int, None where there is none.
        special_ids: tuple of int. starts_word: bool [V], the token begins a word; None where no token says so.
        lossless: bool, the tokens of a text spell all of its bytes. in_graph: bool, it encodes inside a graph.
        ends_between: int, how many end tokens stand between the texts of a pair.
        word_prefix: str, what a word of a sentence that comes in words begins with: a blank where the vocabulary has
            other tokens for a word after a blank.
    """

    lossless, in_graph, ends_between, word_prefix = False, True, 1, ""

    @property
    def around(self):
        """Return the ids that stand before a text, between the two of a pair, and after the last: three lists."""
        before, after = ([] if token is None else [token] for token in (self.start_id, self.end_id))
        return before, after * self.ends_between, after

    @property
    def opening(self):
        """Return the ids that stand before a text that is continued: here what ends the one before in training."""
        return [self.end_id]

    @property
    def separator(self):
        """Return the ids between two documents of a causal language model: the end of one, the opening of the next."""
        return self.opening if self.opening[:1] == [self.end_id] else [self.end_id, *self.opening]

    def beginning(self, ids=()):
        """Return a text of `ids` to be continued, list of int: it begins as a document does after another one."""
        return [*self.opening, *ids] or [self.end_id]

    def encode(self, texts):
        """Return the ids without special tokens: RaggedTensor int32 [B, None]."""
        raise ConfigError(f"{type(self).__name__} cannot encode: use a tokenizer of tfzoo.text.load_tokenizer")

    def decode(self, ids):
        """Return the texts of rows of ids: list of str.

        Special tokens, and ids that the vocabulary does not have, have no text. Blanks stand as the tokens say: none is
        taken away beside punctuation (in transformers clean_up_tokenization_spaces=False). The blank that
        SentencePiece begins a text with is not shown, and a first ##s stays so: see `continuation` for what comes
        after another text. Bytes that are no UTF-8 become U+FFFD.

        Args:
            ids: B rows of ids: lists, arrays, or a dense or ragged tensor.

        Raises:
            ConfigError: for one row, or what is no id.
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
        """Return what `ids` add to the text of the ids `before` them: str, with the blank that parts the two, if any.

        The last character may be U+FFFD as long as not all of its bytes are there.
        """
        start, whole = self.decode([before, [*before, *ids]])
        return whole[len(start):]

    @tf.autograph.experimental.do_not_convert  # so that errors stay what they are
    def word_pieces(self, words):
        """Return the ids of words, each as in a sentence that comes in words; runs in a graph where `encode` does.

        Args:
            words: list of str or bytes, or tf.string [W].

        Returns:
            RaggedTensor int32 [W, None]. A word may have no token: one of control characters, a blank, an empty one.
        """
        if self.word_prefix:
            words = as_strings(words)
            lead = tf.strings.substr(words, 0, 1)
            words = tf.where((lead == "") | (lead == self.word_prefix), words, self.word_prefix + words)
        return self.encode(words)

    def encode_words(self, sentences):
        """Encode sentences that come in words, as transformers' fast tokenizers do with is_split_into_words.

        Each word is encoded by itself. The tokenizers of GPT-2 and RoBERTa, for which transformers demands
        add_prefix_space, have a blank before each word, the first included; so have bytes. Those with other byte-level
        splitting (Llama 3's, Qwen2's) have none, as in transformers. A word that spells a special token is text.

        Args:
            sentences: sequence of B sequences of str or bytes.

        Returns:
            EncodedWords, without special tokens.

        Raises:
            ConfigError: for a sentence that is one string.
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
        """Return where each token of `encode` stands in its text.

        Args:
            texts: list of str or bytes.

        Returns:
            List of B lists of (int, int): the first character of each token and the one after its last, in the text
            as it was given, with invalid UTF-8 replaced. Tokens of one character (bytes, parts of a ligature) have all
            of it; the blank before a word may belong to its token.
        """
        raise ConfigError(f"{type(self).__name__} has no offsets: use a tokenizer of tfzoo.text.load_tokenizer")

    def __call__(self, texts, pairs=None, max_length=None):
        """Make model inputs: [start] text [end] (pair [end]), cut longest first, padded to the longest.

        Args:
            texts: list (tuple, iterator, array, series) of str or bytes, or tf.string [B].
            pairs: likewise, or None.
            max_length: int or None.

        Returns:
            dict of int32 [B, T]: token_ids, padding_mask, segment_ids.

        Raises:
            ConfigError: for one string or what is no string; for more or fewer pairs than texts; where max_length
                leaves no room beside the special tokens.
        """
        parts = [self.encode(part) for part in ((texts,) if pairs is None else (texts, pairs))]
        if tf.executing_eagerly() and int(parts[0].nrows()) != int(parts[-1].nrows()):
            raise ConfigError(f"{parts[0].nrows()} texts and {parts[-1].nrows()} pairs: allowed is one pair a text")
        return self.join(parts, max_length)

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
        return {"token_ids": _dense(tokens, self.pad_id), "padding_mask": _dense(tf.ones_like(tokens), 0),
                "segment_ids": _dense(segments, 0)}

    def join_row(self, parts, max_length):
        """Return (token ids, segment ids), lists of int, of one or two texts' ids: a row of `join`, without padding."""
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
        keep_one, keep_two = keep_of_pair(one, two, room=room, where=tf.where, minimum=tf.minimum)
        return [_first_of(part, length, keep) for part, length, keep in zip(parts, (one, two), (keep_one, keep_two))]

    def save_whole(self, folder):
        """Write the tokenizer's files into a folder, which appears whole or not at all; see `save`.

        Raises:
            ConfigError: for a folder that holds something else. OSError: it cannot be written.
        """
        folder, ours = files.target_folder(folder, learned_in)
        temporary = files.temporary_path(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        self.save(temporary)
        names = sorted([*(path.name for path in temporary.iterdir()), LEARNED])
        (temporary / LEARNED).write_text(json.dumps({"files": names}) + "\n", encoding="utf-8")
        files.replace_folder(temporary, folder, ours)

    @property
    def fingerprint(self):
        """Return the SHA-256 of what decides the ids, as hex."""
        return hashlib.sha256(json.dumps(self.identity()).encode()).hexdigest()

    def identity(self):
        """Return what decides the ids, as plain values."""
        return [self.kind]
