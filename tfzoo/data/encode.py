"""Texts to token ids, once and up front: one flat array, so that training never waits for a tokenizer."""
import re

import numpy as np
from tqdm import tqdm

from tfzoo.errors import ConfigError

CHUNK = 2048
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n")


class EncodedTexts:
    """Hold the token ids of many texts in one flat array.

    Args:
        tokens: int32 [sum of lengths], all ids in order.
        starts, ends: int64 [number of texts], where each text begins and ends.
    """

    def __init__(self, tokens, starts, ends):
        self.tokens, self.starts, self.ends = tokens, starts, ends

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, index):
        return self.tokens[self.starts[index]:self.ends[index]]

    @property
    def lengths(self):
        """Return the count of tokens of each text, int64 [number of texts]."""
        return self.ends - self.starts


def encode_texts(tokenizer, texts, label="", progress=None):
    """Encode texts without special tokens.

    Args:
        tokenizer: a tfzoo tokenizer.
        texts: sequence of str.
        label: str, the name on the progress bar.
        progress: bool, draw a bar; None draws it on a terminal only.

    Returns:
        EncodedTexts with as many entries as `texts`.
    """
    tokens, lengths = [], []
    disable = None if progress is None else not progress
    for first in tqdm(range(0, len(texts), CHUNK), desc=f"encode {label}", unit_scale=CHUNK, unit="texts",
                      disable=disable, leave=False):
        ragged = tokenizer.encode(texts[first:first + CHUNK])
        tokens.append(ragged.flat_values.numpy().astype(np.int32))
        lengths.append(ragged.row_lengths().numpy())
    edges = np.zeros(len(texts) + 1, np.int64)
    if lengths:
        np.cumsum(np.concatenate(lengths), out=edges[1:])
    return EncodedTexts(np.concatenate(tokens) if tokens else np.zeros(0, np.int32), edges[:-1], edges[1:])


def split_long(encoded, room):
    """Cut texts of more than `room` tokens into pieces of about the same length; empty texts go.

    Args:
        encoded: EncodedTexts.
        room: int.

    Returns:
        EncodedTexts that share its tokens.
    """
    starts, ends = [], []
    for start, end in zip(encoded.starts.tolist(), encoded.ends.tolist()):
        pieces = -(-(end - start) // room)
        edges = [start + (end - start) * number // pieces for number in range(pieces)] + [end] if pieces else []
        starts += edges[:-1]
        ends += edges[1:]
    return EncodedTexts(encoded.tokens, np.array(starts, np.int64), np.array(ends, np.int64))


def sentence_pairs(texts, tokenizer, max_length, seed, name):
    """Make pairs of neighbouring halves of documents, or halves of two documents (Devlin et al. 2018, section 3.1).

    Sentences are gathered up to max_length and divided at a random sentence; in half of the pairs the second part is
    then the beginning of another random document.

    Args:
        texts: list of str, the documents; a sentence ends at . ! ? before a blank, or at the end of a line.
        tokenizer: Tokenizer.
        max_length: int, of a pair with its special tokens.
        seed: int.
        name: str, of the data, for errors.

    Returns:
        (EncodedTexts of the first parts, EncodedTexts of the second, int32 [N]: 1 where it is from elsewhere).

    Raises:
        ConfigError: where no document has two sentences.
    """
    sentences = [[part for part in SENTENCE_END.split(text) if part.strip()] for text in texts]
    sentences = [parts for parts in sentences if parts]
    if not any(len(parts) > 1 for parts in sentences):
        raise ConfigError(f"{name}: no document has two sentences, which --next_sentence needs; leave it away, or "
                          "choose another --document")
    encoded = encode_texts(tokenizer, [part for parts in sentences for part in parts], name)
    firsts = np.cumsum([0, *map(len, sentences)])
    rng, room = np.random.default_rng(seed), max_length - 3
    spans, elsewhere = [], []
    for document, (begin, end) in enumerate(zip(firsts[:-1], firsts[1:])):
        while end - begin > 1:
            last = int(np.searchsorted(encoded.ends[begin:end], encoded.starts[begin] + room, side="right")) + begin
            last = min(max(last, begin + 2), end)
            middle = int(rng.integers(begin + 1, last))
            other = len(sentences) > 1 and rng.random() < 0.5
            if other:
                far = int(rng.integers(len(sentences) - 1))
                far += far >= document
                start = encoded.starts[firsts[far]]
                length = encoded.ends[last - 1] - encoded.starts[middle]
                second = (start, min(start + length, encoded.ends[firsts[far + 1] - 1]))
            else:
                second = (encoded.starts[middle], encoded.ends[last - 1])
            spans.append((encoded.starts[begin], encoded.ends[middle - 1], *second))
            elsewhere.append(int(other))
            begin = middle if other else last
    spans = np.array(spans, np.int64)
    return (EncodedTexts(encoded.tokens, spans[:, 0], spans[:, 1]),
            EncodedTexts(encoded.tokens, spans[:, 2], spans[:, 3]), np.array(elsewhere, np.int32))
