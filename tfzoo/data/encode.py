"""Encoding of texts as token ids, done once before training so that training never waits for a tokenizer."""
import array
import re

import numpy as np
from tqdm import tqdm

from tfzoo.data.readers import whole_documents
from tfzoo.errors import ConfigError

BATCH_TEXTS, BATCH_CHARACTERS = 2048, 2 ** 18  # limits per tokenizer call
PIECES = 2 ** 15  # the number of texts split at once
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n")
# Matches the whitespace before which a text can be cut without changing its ids. With GPT-2's pattern, no token extends
# from a non-whitespace character into whitespace, and lookaheads only cover whitespace. BERT's cleaning acts on single
# code points, and whitespace ends a word.
BLANK = re.compile(r"(?<=[^\s\u180e])[ \t\n\r]")
CUT_ANYWHERE, CUT_AT_BLANKS = ("bytes",), ("wordpiece", "bpe")


class EncodedTexts:
    """The token ids of many texts in one flat array.

    Args:
        tokens: integer array or memory map [total number of tokens], the ids of all texts in order.
        starts, ends: int64 [N], the start and end (exclusive) of each text in `tokens`.
        origin: int [N], if the texts are pieces, the index of the text that each piece was cut from; otherwise None.
    """

    def __init__(self, tokens, starts, ends, origin=None):
        self.tokens, self.starts, self.ends, self.origin = tokens, starts, ends, origin

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, index):
        return self.tokens[self.starts[index]:self.ends[index]]

    @property
    def lengths(self):
        """Return the number of tokens in each text, int64 [N]."""
        return self.ends - self.starts


def _last_blank(text):
    for first in (max(0, len(text) - 1000), 0):
        found = [match.start() for match in BLANK.finditer(text, first)]
        if found:
            return found[-1]
    return -1


def cut_at_blanks(pieces):
    """Move the cuts in long texts to whitespace, where WordPiece and BPE split texts anyway.

    Args:
        pieces: iterable of (str, bool), as yielded by `readers.read_documents`.

    Yields:
        (str, bool): the same texts in pieces that end before whitespace. Text without whitespace is never cut.
    """
    held, before = [], ""  # the part of the current text that has not been yielded yet, and its last character
    for text, ends in pieces:
        cut = len(text) if ends else _last_blank(before + text) - len(before)
        if cut < 0:
            held.append(text)
            before = text[-1:] or before
            continue
        yield "".join([*held, text[:cut]]), ends
        held, before = ([], "") if ends else ([text[cut:]], text[-1:])


def _batches(pieces):
    batch, size = [], 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece[0])
        if len(batch) == BATCH_TEXTS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def encode_pieces(tokenizer, pieces, bar):
    """Encode texts without special tokens, in constant memory, with the same ids as if each text were encoded whole.

    Args:
        tokenizer: Tokenizer.
        pieces: iterable of (str, bool), as yielded by `readers.read_documents`. Unless the tokenizer is for bytes,
            WordPiece or BPE, the pieces are joined into whole texts first.
        bar: tqdm, advanced by the number of encoded characters.

    Yields:
        (int32 [n], int64 [m]): the next n ids, and the end of each text that they complete, as a position (exclusive)
        in the sequence of all ids.
    """
    if tokenizer.kind in CUT_AT_BLANKS:
        pieces = cut_at_blanks(pieces)
    elif tokenizer.kind not in CUT_ANYWHERE:
        pieces = ((text, True) for text in whole_documents(pieces))
    count = 0
    for batch in _batches(pieces):
        ragged = tokenizer.encode([text for text, _ in batch])
        ends = count + np.cumsum(ragged.row_lengths().numpy())
        count = int(ends[-1])
        yield ragged.flat_values.numpy().astype(np.int32), ends[np.array([last for _, last in batch])]
        bar.update(sum(len(text) for text, _ in batch))


def progress_bar(what, characters, progress=None):
    """Return a tqdm progress bar that counts characters.

    Args:
        what: str, the label of the bar.
        characters: int, the total number of characters; None if unknown.
        progress: bool, whether to draw the bar; None draws it only on a terminal.
    """
    return tqdm(desc=what, total=characters, unit="char", unit_scale=True, leave=False,
                disable=None if progress is None else not progress)


def encode_texts(tokenizer, texts, label="", progress=None):
    """Encode texts without special tokens, in memory.

    Args:
        tokenizer: Tokenizer.
        texts: sequence of N str.
        label: str, the name shown on the progress bar.
        progress: bool, whether to draw the bar; None draws it only on a terminal.

    Returns:
        EncodedTexts with N texts.
    """
    tokens, ends = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
    with progress_bar(f"encode {label}", sum(map(len, texts)), progress) as bar:
        for more, these in encode_pieces(tokenizer, ((text, True) for text in texts), bar):
            tokens.append(more)
            ends.append(these)
    edges = np.concatenate(ends)
    return EncodedTexts(np.concatenate(tokens), edges[:-1], edges[1:])


def split_long(encoded, room):
    """Split texts of more than `room` tokens into pieces of about equal length, and drop empty texts.

    Args:
        encoded: EncodedTexts.
        room: int, the maximum number of tokens per piece, at least 1 (see `Tokenizer.room`).

    Returns:
        EncodedTexts that share the array `encoded.tokens`.
    """
    counts = -(-encoded.lengths // room)
    text = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(text)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts, lengths, counts = encoded.starts[text], encoded.lengths[text], counts[text]
    return EncodedTexts(encoded.tokens, starts + lengths * number // counts,
                        starts + lengths * (number + 1) // counts, text)


def split_whole(encoded, room, max_length):
    """Prepare texts for packing: split them into pieces of `room` tokens and a remainder, and drop empty texts.

    Args:
        encoded: EncodedTexts.
        room: int, the maximum number of tokens per piece, at least 1 (see `Tokenizer.room`).
        max_length: int, the length in tokens of a piece of `room` tokens once special tokens are added.

    Returns:
        (int64 [N], unsigned int [N]): the start of each piece in `encoded.tokens`, and its length including special
        tokens.
    """
    starts, lengths = [], []
    for first in range(0, len(encoded), PIECES):  # in chunks, as there may be millions of texts
        begins, sizes = encoded.starts[first:first + PIECES], encoded.ends[first:first + PIECES]
        sizes = sizes - begins
        counts = -(-sizes // room)
        text = np.repeat(np.arange(len(counts)), counts)
        done = room * (np.arange(len(text)) - np.repeat(np.cumsum(counts) - counts, counts))
        starts.append(begins[text] + done)
        sizes = np.minimum(sizes[text] - done, room) + max_length - room
        lengths.append(sizes.astype(np.min_scalar_type(max_length)))
    return np.concatenate(starts), np.concatenate(lengths)


def split_sentences(texts, counts):
    """Split texts into sentences, which end with `.`, `!` or `?` before whitespace, or at the end of a line.

    Args:
        texts: iterable of str, the documents.
        counts: array.array, to which the number of sentences in each document is appended.

    Yields:
        (str, True) for each sentence.
    """
    for text in texts:
        sentences = [part for part in SENTENCE_END.split(text) if part.strip()]
        counts.append(len(sentences))
        yield from ((sentence, True) for sentence in sentences)


def sentence_pairs(sentences, documents, room, seed, name):
    """Create pairs for next-sentence prediction (Devlin et al. 2018, arXiv:1810.04805, section 3.1).

    Each pair is made from consecutive sentences with up to `room` tokens in total (but at least two sentences), which
    are split at a random sentence boundary. In half of the pairs, the second part is replaced by the beginning of
    another random document.

    Args:
        sentences: EncodedTexts, the sentences of all documents in order, from `split_sentences`.
        documents: int64 [N, 2], the start and end (exclusive) of each document in `sentences`.
        room: int, the number of tokens per pair, excluding special tokens.
        seed: int.
        name: str, the name of the data for error messages.

    Returns:
        (EncodedTexts, EncodedTexts, int32 [P]): the first and the second parts of P pairs, and a label for each pair: 1
        if its second part comes from another document, otherwise 0.

    Raises:
        ConfigError: if no document has two sentences.
    """
    numbers = np.flatnonzero(documents[:, 0] < documents[:, 1])
    documents = documents[numbers]
    if not (documents[:, 1] - documents[:, 0] > 1).any():
        raise ConfigError(f"{name}: no document has two sentences, as required by --next_sentence: omit the flag or "
                          "choose a different --document")
    rng = np.random.default_rng(seed)
    spans, elsewhere, origins = array.array("q"), array.array("i"), array.array("q")
    for document, (begin, end) in enumerate(documents):
        while end - begin > 1:
            last = int(np.searchsorted(sentences.ends[begin:end], sentences.starts[begin] + room, side="right")) + begin
            last = min(max(last, begin + 2), end)
            middle = int(rng.integers(begin + 1, last))
            other = len(documents) > 1 and rng.random() < 0.5
            far = document
            if other:
                far = int(rng.integers(len(documents) - 1))
                far += far >= document
                start, stop = sentences.starts[documents[far, 0]], sentences.ends[documents[far, 1] - 1]
                second = (start, min(start + sentences.ends[last - 1] - sentences.starts[middle], stop))
            else:
                second = (sentences.starts[middle], sentences.ends[last - 1])
            spans.extend(map(int, (sentences.starts[begin], sentences.ends[middle - 1], *second)))
            elsewhere.append(int(other))
            origins.extend((document, far))
            begin = middle if other else last
    spans, origins = np.array(spans, np.int64).reshape(-1, 4), numbers[np.array(origins, np.int64)].reshape(-1, 2)
    return (EncodedTexts(sentences.tokens, spans[:, 0], spans[:, 1], origins[:, 0]),
            EncodedTexts(sentences.tokens, spans[:, 2], spans[:, 3], origins[:, 1]), np.array(elsewhere, np.int32))
