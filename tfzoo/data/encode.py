"""Texts to token ids, once and up front: one flat array, so that training never waits for a tokenizer."""
import numpy as np
from tqdm import tqdm

CHUNK = 2048


class EncodedTexts:
    """Hold the token ids of many texts in one flat array.

    Args:
        tokens: int32 [sum of lengths], all ids in order.
        starts: int64 [number of texts + 1], where each text begins.
    """

    def __init__(self, tokens, starts):
        self.tokens = tokens
        self.starts = starts

    def __len__(self):
        return len(self.starts) - 1

    def __getitem__(self, index):
        return self.tokens[self.starts[index]:self.starts[index + 1]]

    @property
    def lengths(self):
        """Return the count of tokens of each text, int64 [number of texts]."""
        return np.diff(self.starts)


def encode_texts(tokenizer, texts, label="encode", progress=None):
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
    for first in tqdm(range(0, len(texts), CHUNK), desc=label, unit_scale=CHUNK, unit="texts", disable=disable):
        ragged = tokenizer.encode(texts[first:first + CHUNK])
        tokens.append(ragged.flat_values.numpy().astype(np.int32))
        lengths.append(ragged.row_lengths().numpy())
    starts = np.zeros(len(texts) + 1, np.int64)
    if lengths:
        np.cumsum(np.concatenate(lengths), out=starts[1:])
    return EncodedTexts(np.concatenate(tokens) if tokens else np.zeros(0, np.int32), starts)
