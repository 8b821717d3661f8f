"""Text files for language modelling, streamed from disk so that they may be larger than memory."""
import collections
import copy
import hashlib
import json

import numpy as np

from tfzoo.data.cache import remember
from tfzoo.data.encode import cut_at_blanks, progress_bar
from tfzoo.data.plan import split_rows
from tfzoo.data.readers import (TEXTS, Blocks, Lines, ending_of, hash_content, read_documents, read_rows,
                                whole_documents)
from tfzoo.errors import DataError

FORMAT = 2  # version of the cached scan of the files: increment it if files are read differently


class TextFiles:
    """The texts in data files, which can be counted and read repeatedly.

    Like a Source, it has a length, a name, columns and a fingerprint, and can be split. Unlike a Source, it holds no
    text in memory; a split takes about 4 bytes per text.

    Args:
        paths: list of str or path, one or more files whose extensions are in `readers.ENDINGS`.
        document: str, what counts as one text in a .txt file (see `read_documents`).
        max_bad_rows: int, the total number of bad rows to skip before an error is raised.

    Attributes:
        name: str, the origin of the data.
        content: str, a SHA-256 that covers the files' content and how it is divided into texts.
        characters: int, the total number of characters in the files' texts, regardless of `rows`.
        rows: int [N], the indices of the texts in this part; None for all texts.
        raw_bytes: int, the number of UTF-8 bytes in the files; None if the texts do not contain all of the bytes.
        replaced: int, the number of U+FFFD characters that replace invalid UTF-8.
        skipped: int, the number of bad rows skipped.

    Raises:
        DataError: if there are no texts, or `read_rows` raises it.
        ConfigError, OSError: if `read_rows` or `read_documents` raises it.
    """

    columns = ("text",)

    def __init__(self, paths, document="paragraph", max_bad_rows=0):
        self.paths, self.document, self.max_bad_rows, self.rows = list(paths), document, max_bad_rows, None
        self.name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        self.content = self._hash_files()
        self._about = remember("texts", self.content, self._scan)
        if self._about["skipped"] > max_bad_rows:
            self._scan()  # raises an error that mentions the row
        self.replaced, self.skipped, self.characters = (self._about[key] for key in
                                                        ("replaced", "skipped", "characters"))
        whole = document == "file" and all(ending_of(path) == ".txt" for path in paths)
        self.raw_bytes = self._about["raw_bytes"] if whole else None
        if not len(self):
            raise DataError(f"{self.name}: no examples; at least one is required")

    def __len__(self):
        return self._about["texts"] if self.rows is None else len(self.rows)

    def _hash_files(self):
        state = [[ending_of(path), hash_content(path)] for path in self.paths]
        return hashlib.sha256(json.dumps([FORMAT, state, self.document]).encode()).hexdigest()

    def verify(self):
        """Check that the files have not changed since they were opened.

        Raises:
            DataError: if a file has changed.
        """
        if self._hash_files() != self.content:
            raise DataError(f"{self.name} changed while it was being read: run again once it is complete")

    def _read(self, counts):
        # Yield the pieces of all texts (see `read_documents`). Sum up raw_bytes, replaced and skipped in `counts`.
        bad = []
        for path in self.paths:
            if ending_of(path) == ".txt":
                lines = Blocks(path)
                yield from read_documents(lines, self.document)
            else:
                lines = Lines(path)
                rows = read_rows(lines, TEXTS, max_bad_rows=self.max_bad_rows - len(bad), on_bad=bad.append)
                yield from ((row["text"], True) for row in rows)
            counts.update(raw_bytes=lines.raw_bytes, replaced=lines.replaced)
        counts["skipped"] = len(bad)

    def _scan(self):
        # `long` lists the index and the size in UTF-8 bytes of each text that is read in several pieces.
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
        """Return an iterator over the pieces (see `read_documents`) of all texts in the files, regardless of `rows`."""
        return self._read(collections.Counter())

    def pieces(self):
        """Yield the pieces (see `read_documents`) of the texts in `rows`."""
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
        """Return an iterator over the texts from which to learn a vocabulary; long texts are cut into pieces."""
        return (text for text, _ in cut_at_blanks(self.pieces()))

    @property
    def texts(self):
        """Read all texts into memory and return them in the same form as `Source.texts`: tuple of one list of N str."""
        return (list(whole_documents(self.pieces())),)

    @property
    def numbers(self):
        """Return the index of each text within the files, or None for all texts (see `Source`)."""
        return self.rows

    @property
    def fingerprint(self):
        """Return the hexadecimal SHA-256 of all examples in order, the same as for a Source with these texts."""
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
        """Split the texts at random with `split_rows` and return two TextFiles, (training, evaluation).

        Raises:
            ConfigError: if one of the parts would be empty.
        """
        parts = []
        names = (self.name, f"{self.name} (evaluation share)")
        for rows, name in zip(split_rows(len(self), fraction, seed), names):
            part = copy.copy(self)
            part.rows, part.name, part.raw_bytes = rows if self.rows is None else self.rows[rows], name, None
            parts.append(part)
        return tuple(parts)
