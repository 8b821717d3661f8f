"""The base class of all tokenizers, which handles special tokens, truncation, padding and pre-split sentences."""
import hashlib
import json
import typing

import numpy as np
import tensorflow as tf

from tfzoo import folders
from tfzoo.errors import ConfigError, shown
from tfzoo.records.rows import as_text, join_row, keep_of_pair

LEARNED = "learned.json"  # lists the files that `save_whole` wrote to its folder


def learned_in(folder):
    """Return the names of the files that `Tokenizer.save_whole` wrote to a folder, or None if it wrote none."""
    try:
        names = json.loads((folder / LEARNED).read_text(encoding="utf-8"))["files"]
        return names if isinstance(names, list) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def list_of(texts, name="texts", items="strings"):
    """Convert an ordered container of texts to a list.

    Args:
        texts: list, tuple, iterator, series, or one-dimensional array or eager tensor.
        name: str, what to call `texts` in the error message.
        items: str, what to call the items of `texts` in the error message.

    Raises:
        ConfigError: if `texts` is a single text, an unordered container (dict, set), not one-dimensional or not
            iterable.
    """
    axes = texts.shape.rank if tf.is_tensor(texts) else getattr(texts, "ndim", 1)
    if isinstance(texts, (str, bytes, bytearray, dict, set, frozenset)) or axes != 1 or not hasattr(texts, "__iter__"):
        one = "a single string" if isinstance(texts, (str, bytes)) else f"{type(texts).__name__} with {axes} axes" \
            if axes != 1 else shown(texts)
        raise ConfigError(f"{name} must be a list of {items}, got {one}")
    return texts.numpy().tolist() if tf.is_tensor(texts) else list(texts)


def _checked(texts, name):
    texts = list_of(texts, name)
    for number, text in enumerate(texts):
        if not isinstance(text, (str, bytes)):
            raise ConfigError(f"{name}[{number}] must be a string, got {shown(text)}")
    return texts


def as_strings(texts, name="texts"):
    """Convert a list of str or bytes, or a string tensor, to tf.string [B], replacing lone surrogates with "?"."""
    if tf.is_tensor(texts) and texts.dtype == tf.string and texts.shape.rank in (1, None):
        return texts
    texts = [text.encode("utf-8", "replace") if isinstance(text, str) else text for text in _checked(texts, name)]
    return tf.constant(texts, tf.string, shape=(len(texts),))


def as_texts(texts, name="texts"):
    """Convert texts to a list of str, replacing invalid UTF-8 with U+FFFD and lone surrogates with "?"."""
    return [as_text(text) for text in _checked(texts, name)]


def _first_of(part, lengths, keep):
    # Several times as fast as tf.ragged.boolean_mask.
    place = tf.range(tf.reduce_sum(lengths)) - tf.repeat(tf.cumsum(lengths, exclusive=True), lengths)
    values = tf.boolean_mask(part.values, place < tf.repeat(keep, lengths))
    lengths = tf.cast(tf.minimum(lengths, keep), part.row_splits.dtype)
    return tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)


def _dense(rows, fill):
    dense = rows.to_tensor(fill)  # keep at least one column even if all rows are empty or there are no rows
    return tf.pad(dense, [[0, 0], [0, tf.maximum(1 - tf.shape(dense)[1], 0)]], constant_values=fill)


class EncodedWords(typing.NamedTuple):
    """The concatenated tokens of B pre-split sentences, which have T tokens and W words in total.

    Attributes:
        token_ids: int32 [T], without special tokens.
        word_ids: int32 [T], the index of each token's word within its sentence.
        starts, ends: int64 [B], the start and end of each sentence in `token_ids`.
        first: int32 [W], the index of each word's first token within its sentence; -1 for a word without tokens.
    """

    token_ids: np.ndarray
    word_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    first: np.ndarray


class Tokenizer:
    """Convert texts to token ids and back.

    Attributes:
        kind: str, the kind of tokenizer, such as "wordpiece".
        vocab_size: int, V.
        pad_id, unk_id, start_id, end_id, mask_id: int, or None if the tokenizer has no such token.
        special_ids: tuple of int, the ids of all special tokens.
        starts_word: bool [V], whether each token begins a word; None if the vocabulary does not mark word starts.
        lossless: bool, whether all bytes of a text can be restored from its tokens.
        tokens: dict of role ("bos", "eos", ...) to the special token with this role, str or None.
        chat_template: the folder's chat template (see tfzoo.text.chat), or None.
        in_graph: bool, whether `encode` works inside a graph.
        why_outside: str, why it does not, or None if it does.
        resources: tuple of trackable objects that `encode` uses inside a graph and a SavedModel must contain.
        ends_between: int, the number of end tokens between the two texts of a pair.
        word_prefix: str, the prefix added to each word in a pre-split sentence: a space if the vocabulary has separate
            tokens for words that follow a space, otherwise "".
    """

    lossless, why_outside, resources, ends_between = False, None, (), 1
    word_prefix, tokens, chat_template = "", {}, None

    @property
    def in_graph(self):
        return self.why_outside is None

    @property
    def around(self):
        """Return the special tokens before the first text, between two texts and after the last: three lists of ids."""
        before, after = ([] if token is None else [token] for token in (self.start_id, self.end_id))
        return before, after * self.ends_between, after

    @property
    def opening(self):
        """Return the ids that precede a prompt: by default the end token, which precedes each document in training."""
        return [self.end_id]

    @property
    def separator(self):
        """Return the ids between two training documents: the end token (unless `opening` begins with it), `opening`."""
        return self.opening if self.opening[:1] == [self.end_id] else [self.end_id, *self.opening]

    def beginning(self, ids=()):
        """Return the prompt `[*opening, *ids]`, or only the end token if that is empty: list of int."""
        return [*self.opening, *ids] or [self.end_id]

    def encode(self, texts):
        """Encode texts without special tokens.

        Args:
            texts: list of B str or bytes, or tf.string [B].

        Returns:
            RaggedTensor int32 [B, None].
        """
        raise ConfigError(f"{type(self).__name__} cannot encode: use a tokenizer from tfzoo.text.load_tokenizer")

    def decode(self, ids):
        """Decode rows of ids to texts.

        Special tokens and ids outside the vocabulary are skipped. Spaces stay, even before punctuation (as with
        clean_up_tokenization_spaces=False in transformers). SentencePiece's leading space is dropped, and WordPiece's
        ## is kept at the start; `continuation` decodes ids that continue a text. Invalid UTF-8 becomes U+FFFD.

        Args:
            ids: B rows of ids: lists, arrays, or a dense or ragged tensor.

        Returns:
            List of B str.

        Raises:
            ConfigError: if `ids` is a single row or contains a value that is not an id.
        """
        if isinstance(ids, (str, bytes, dict)) or not (tf.is_tensor(ids) or hasattr(ids, "__iter__")):
            raise ConfigError(f"ids must be rows of ids, got {shown(ids)}")
        rows, special = [np.asarray(row) for row in ids], set(self.special_ids)
        for number, row in enumerate(rows):
            if row.ndim != 1 or row.size and (row.dtype.kind not in "iu" or row.min() < 0):
                raise ConfigError(f"ids[{number}] must be a row of non-negative integers, got {shown(row.tolist())}")
        return [self._text_of([token for token in row.tolist() if token not in special and token < self.vocab_size])
                for row in rows]

    def continuation(self, before, ids):
        """Return the text that `ids` add to the text decoded from the preceding ids.

        Args:
            before: list of int, the preceding ids.
            ids: list of int.

        Returns:
            str, which starts with a space if one separates the two texts. If the last character is incomplete because
            some of its bytes are missing, it is U+FFFD.
        """
        start, whole = self.decode([before, [*before, *ids]])
        return whole[len(start):]

    @tf.autograph.experimental.do_not_convert  # autograph would rewrite errors
    def word_pieces(self, words):
        """Encode the words in a pre-split sentence. This works inside a graph if `encode` does.

        Args:
            words: list of str or bytes, or tf.string [W].

        Returns:
            RaggedTensor int32 [W, None]. Empty words, spaces and control characters may have no tokens.
        """
        if self.word_prefix:
            words = as_strings(words)
            lead = tf.strings.substr(words, 0, 1)
            words = tf.where((lead == "") | (lead == self.word_prefix), words, self.word_prefix + words)
        return self.encode(words)

    def encode_words(self, sentences):
        """Encode pre-split sentences as transformers' fast tokenizers do with `is_split_into_words`.

        Each word is encoded separately. The GPT-2 and RoBERTa tokenizers (in transformers, with `add_prefix_space`) and
        the byte tokenizer add a space before every word, including the first. Other byte-level tokenizers, such as
        Llama 3's and Qwen2's, add none, as in transformers. A word that spells out a special token is text.

        Args:
            sentences: sequence of B sequences of str or bytes.

        Returns:
            EncodedWords, without special tokens.

        Raises:
            ConfigError: if a sentence is a single string.
        """
        sentences = list_of(sentences, "sentences", "lists of words")
        sentences = [list_of(words, "a sentence", "words") for words in sentences]
        words = as_texts([word for words in sentences for word in words], "words")
        known = {word: number for number, word in enumerate(dict.fromkeys(words))}
        pieces = self.word_pieces(list(known))
        numbers, splits = np.array([known[word] for word in words], np.int64), pieces.row_splits.numpy()
        sizes = np.diff(splits)[numbers]  # the number of tokens in each word
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
        """Return the character span of each token that `encode` produces.

        Args:
            texts: list of B str or bytes.

        Returns:
            List of B lists of (int, int): the start and end (exclusive) of each token in the original text, after
            invalid UTF-8 is replaced as in `as_texts`. Tokens that share a character (bytes, parts of a ligature) each
            span the whole character. The space before a word may belong to the word's first token.
        """
        raise ConfigError(f"{type(self).__name__} has no offsets: use a tokenizer from tfzoo.text.load_tokenizer")

    def __call__(self, texts, pairs=None, max_length=None):
        """Create model inputs: [start] text [end] (pair [end]), padded to the longest row.

        Args:
            texts: list (tuple, iterator, array, series) of str or bytes, or tf.string [B].
            pairs: the second text of each pair, of any type allowed for `texts`, or None.
            max_length: int, the maximum number of tokens per row, including special tokens; for pairs, the longer text
                is truncated first. None disables truncation.

        Returns:
            dict of int32 [B, T]: `token_ids`, `padding_mask`, `segment_ids`.

        Raises:
            ConfigError: if `texts` is a single string or has anything but strings, the numbers of texts and pairs
                differ, or max_length leaves no room for text in addition to the special tokens.
        """
        parts = [self.encode(part) for part in ((texts,) if pairs is None else (texts, pairs))]
        if tf.executing_eagerly() and int(parts[0].nrows()) != int(parts[-1].nrows()):
            raise ConfigError(f"pairs must have one item per text, got {parts[0].nrows()} texts and "
                              f"{parts[-1].nrows()} pairs")
        return self.join(parts, max_length)

    def join(self, parts, max_length=None):
        """Create model inputs like `__call__`, but from `parts`, a list of one or two results of `encode`.

        Raises:
            ConfigError: if max_length leaves no room for text in addition to the special tokens.
        """
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
        """Create a single, unpadded row of model inputs.

        Args:
            parts: list of one or two sequences of int, the ids of each text.
            max_length: see `__call__`.

        Returns:
            (list of int, list of int): token ids and segment ids.

        Raises:
            ConfigError: if max_length leaves no room for text in addition to the special tokens.
        """
        return join_row(parts, self.around, self.room(max_length, len(parts)))

    def room(self, max_length, parts):
        """Return the number of text tokens that fit into a row in addition to the special tokens.

        Args:
            max_length: int, the number of tokens per row.
            parts: int, the number of texts per row, 1 or 2.

        Raises:
            ConfigError: if not even one text token fits.
        """
        before, between, after = self.around
        beside = len(before) + (parts - 1) * len(between) + len(after)
        if max_length <= beside:
            raise ConfigError(f"max_length must be at least {beside + 1}, including special tokens, got {max_length}")
        return max_length - beside

    def _cut(self, parts, room):
        if len(parts) == 1:
            return [parts[0][:, :room]]
        one, two = (tf.cast(part.row_lengths(), tf.int32) for part in parts)
        keep_one, keep_two = keep_of_pair(one, two, room=room, where=tf.where, minimum=tf.minimum)
        return [_first_of(part, length, keep) for part, length, keep in zip(parts, (one, two), (keep_one, keep_two))]

    def portable(self):
        """Return what `tfzoo.litert` needs to encode to the same ids and to decode, without TensorFlow: dict."""
        return {"kind": self.kind, "around": [list(part) for part in self.around], "opening": list(self.opening),
                "word_prefix": self.word_prefix, "pad_id": self.pad_id, "end_id": self.end_id,
                "special_ids": list(self.special_ids), "vocab_size": self.vocab_size, "fingerprint": self.fingerprint}

    def save_whole(self, folder):
        """Write the tokenizer's files (see `save`) to a folder atomically.

        Args:
            folder: str or path. A folder written by an earlier `save_whole` is replaced.

        Raises:
            ConfigError: if the folder contains anything else.
            OSError: if the folder cannot be written.
        """
        folder, ours = folders.target_folder(folder, learned_in)
        with folders.new_folder(folder, ours) as temporary:
            self.save(temporary)
            names = sorted([*folders.names_in(temporary), LEARNED])
            (temporary / LEARNED).write_text(json.dumps({"files": names}) + "\n", encoding="utf-8")

    @property
    def fingerprint(self):
        """Return the hexadecimal SHA-256 of everything that determines the ids."""
        chat = [self.chat_template] if self.chat_template else []
        return hashlib.sha256(json.dumps([*self.identity(), *chat]).encode()).hexdigest()

    def identity(self):
        """Return everything that determines the ids, as JSON-serializable values."""
        return [self.kind]
