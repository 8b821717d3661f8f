"""Text files of any size for language modelling, read from disk each time and never loaded into memory in full."""
import collections
import copy
import hashlib
import json

import numpy as np

from tfzoo.data.cache import remember
from tfzoo.data.encode import cut_at_blanks, progress_bar
from tfzoo.data.plan import split_rows
from tfzoo.data.readers import Blocks, Lines, ending_of, hash_content, read_documents, read_rows, whole_documents
from tfzoo.errors import DataError

FORMAT = 2  # of the cached scan of the files: increment it if the way of reading them changes


class TextFiles:
    """Represent the texts of data files: their number, and repeated reading.

    Like Source it has a length, a name, columns and a fingerprint, and can be split; unlike Source, it keeps no text in
    memory (a split takes 4 bytes per text).

    Args:
        paths: list of paths of one or more files, see `readers.ENDINGS`.
        document: str, what counts as one text in a .txt, see read_documents.
        max_bad_rows: int, skip up to this many bad rows over all files.

    Attributes:
        name: str.
        content: str, the SHA-256 of the files' content and of how it is read.
        characters: int, of all texts in the files.
        rows: int [N], the indices of the texts that this part holds; None for all of them.
        raw_bytes: int, UTF-8 bytes of the files; None if the texts do not hold all of them.
        replaced: int, the number of U+FFFD inserted for invalid UTF-8.
        skipped: int, the number of bad rows skipped.

    Raises:
        DataError: no texts.
        Also as read_rows and read_documents.
    """

    columns = ("text",)

    def __init__(self, paths, document="paragraph", max_bad_rows=0):
        self.paths, self.document, self.max_bad_rows, self.rows = list(paths), document, max_bad_rows, None
        self.name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        self.content = self._hash_files()
        self._about = remember("texts", self.content, self._scan)
        if self._about["skipped"] > max_bad_rows:
            self._scan()  # raises with the row
        self.replaced, self.skipped, self.characters = (self._about[key] for key in
                                                        ("replaced", "skipped", "characters"))
        whole = document == "file" and all(ending_of(path) == ".txt" for path in paths)
        self.raw_bytes = self._about["raw_bytes"] if whole else None
        if not len(self):
            raise DataError(f"{self.name}: no examples; at least one is needed")

    def __len__(self):
        return self._about["texts"] if self.rows is None else len(self.rows)

    def _hash_files(self):
        state = [[ending_of(path), hash_content(path)] for path in self.paths]
        return hashlib.sha256(json.dumps([FORMAT, state, self.document]).encode()).hexdigest()

    def verify(self):
        """Check that the files have not changed since they were opened; DataError if they have."""
        if self._hash_files() != self.content:
            raise DataError(f"{self.name} was changed while it was read: run again once it is complete")

    def _read(self, counts):
        # Yields the pieces of all texts, see read_documents, and adds up raw_bytes, replaced and skipped in `counts`.
        bad = []
        for path in self.paths:
            if ending_of(path) == ".txt":
                lines = Blocks(path)
                yield from read_documents(lines, self.document)
            else:
                lines = Lines(path)
                rows = read_rows(lines, ("text",), max_bad_rows=self.max_bad_rows - len(bad), on_bad=bad.append)
                yield from ((row["text"], True) for row in rows)
            counts.update(raw_bytes=lines.raw_bytes, replaced=lines.replaced)
        counts["skipped"] = len(bad)

    def _scan(self):
        # `long` lists the index and the UTF-8 bytes of each text that comes in pieces.
        counts, long, size = collections.Counter(texts=0, characters=0), [], 0
        with progress_bar(f"read {self.name}", None) as bar:
            for text, ends in self._read(counts):
                counts["characters"] += len(text)
                if size or not ends:
                    size += len(text.encode("utf-8"))
                if ends:
                    long += [[counts["texts"], size]] if size else []
                    size = 0
                    counts["texts"] += 1
                bar.update(len(text))
        self.verify()
        return {**counts, "long": long}

    def all_pieces(self):
        """Yield the (str, bool) pairs of read_documents for all texts in the files, regardless of `rows`."""
        return self._read(collections.Counter())

    def pieces(self):
        """Yield the (str, bool) pairs of read_documents for the texts in `rows`."""
        if self.rows is None:
            yield from self.all_pieces()
            return
        chosen = np.zeros(self._about["texts"], bool)
        chosen[self.rows] = True
        chosen, number = chosen.tobytes(), 0
        for text, ends in self.all_pieces():
            if chosen[number]:
                yield text, ends
            number += ends

    def passages(self):
        """Yield the texts to learn a vocabulary from, long ones in pieces."""
        return (text for text, _ in cut_at_blanks(self.pieces()))

    @property
    def texts(self):
        """Read all texts into memory, as Source holds them: a tuple of one list of N str."""
        return (list(whole_documents(self.pieces())),)

    @property
    def numbers(self):
        """Return the indices of the texts in the files, see Source."""
        return self.rows

    @property
    def fingerprint(self):
        """Return the SHA-256 of all examples in order, as hex; equal to that of a Source with the same texts."""
        rows = None if self.rows is None else hashlib.sha256(self.rows.tobytes()).hexdigest()
        return remember("fingerprint", [self.content, rows], self._hash_texts)

    def _hash_texts(self):
        digest = hashlib.sha256(json.dumps(["text", len(self)]).encode())
        long, number, begun = dict(self._about["long"]), 0, False
        for text, ends in self.pieces():
            data = text.encode("utf-8", "surrogatepass")
            if not begun:
                size = long.get(number if self.rows is None else int(self.rows[number]), len(data))
                digest.update(size.to_bytes(8, "little"))
            digest.update(data)
            number, begun = number + ends, not ends
        self.verify()
        return digest.hexdigest()

    def split(self, fraction, seed):
        """Split into (training, evaluation) at random, see `split_rows`; ConfigError if one would be empty."""
        parts = []
        names = (self.name, f"{self.name} (evaluation share)")
        for rows, name in zip(split_rows(len(self), fraction, seed), names):
            part = copy.copy(self)
            part.rows, part.name, part.raw_bytes = rows if self.rows is None else self.rows[rows], name, None
            parts.append(part)
        return tuple(parts)
