"""Batches of sentences that are split into words; long sentences are cut into overlapping windows."""
import numpy as np

from tfzoo.data.batches import Derived, TextBatches, check_overlap
from tfzoo.data.encode import EncodedTexts
from tfzoo.records.windows import word_windows


class WordBatches(Derived):
    """Batches of sentences that are split into words. A row is a window; each word is scored in one window only.

    A word belongs to the window that `records.windows.window_of` chooses for its tokens or, if no window contains them
    all, for its first token. Windows at the edges of a sentence are extended by tokens of the neighboring sentences of
    the same document. With predicates, each row is a pair: the predicate and the window; where the predicate is in the
    window, its tokens have the segment of the first text.

    Args:
        source: Sentences; its columns `document` and `predicate` are optional.
        tokenizer: Tokenizer.
        batch_size, max_length, seed, shuffle, multiple: see `TextBatches`.
        overlap: int, the number of tokens that consecutive windows share; None for a quarter of a window.
        context: int, the maximum number of tokens of neighboring sentences on each side.
        predicates: bool, whether to mark the predicate of each sentence.
        targets: list of int [words], the label ids of the words of each sentence; None without tags.
        outside: str, the tag of words without tokens, for the notes.

    Attributes:
        source: Sentences.
        counts: int [N], the number of words of each sentence.
        window, place: int [W], the row that each word belongs to, counted over all sentences, and the column of its
            first token in this row; the row is -1 for a word without a token.
        words, tokenless: int, the number of words, and of words without a token.

    Raises:
        ConfigError: if `overlap` is not less than the number of tokens that fit into a window.
    """

    def __init__(self, source, tokenizer, batch_size, max_length, seed, shuffle, multiple, overlap=None, context=0,
                 predicates=False, targets=None, outside="O"):
        self.source, self.context, self.outside = source, context, outside
        encoded = tokenizer.encode_words(source.columns["tokens"])
        self.counts = np.array([len(words) for words in source.columns["tokens"]], np.int64)
        sentence, first_word = np.repeat(np.arange(len(self.counts)), self.counts), np.cumsum(self.counts) - self.counts
        lengths = encoded.ends - encoded.starts
        words = encoded.word_ids + np.repeat(first_word, lengths)  # the word of each token
        sizes = np.bincount(words, minlength=len(sentence))
        parts, rooms = 1 + predicates, np.full(len(lengths), tokenizer.room(max_length, 1 + predicates))
        if predicates:
            self._chosen = first_word + np.array(source.columns["predicate"], np.int64)
            kept = np.minimum(sizes[self._chosen], np.minimum(np.maximum(rooms // 4, 1), rooms - 1))
            rooms = rooms - kept
        check_overlap(overlap, rooms.min(), max_length)
        self._sentence, begins, ends, self.window = word_windows(
            lengths, rooms, overlap, sentence=sentence, first=encoded.first, end=encoded.first + sizes)
        begins, ends = begins + encoded.starts[self._sentence], ends + encoded.starts[self._sentence]
        begins, ends = self._extended(begins, ends, rooms=rooms, encoded=encoded)
        rows, before = [EncodedTexts(encoded.token_ids, begins, ends, self._sentence)], len(tokenizer.around[0])
        starts = encoded.starts[sentence] + encoded.first  # the first token of each word in `token_ids`
        shift = before - begins  # from a place in `token_ids` to the column, for each row
        if predicates:
            at = starts[self._chosen][self._sentence]
            rows.insert(0, EncodedTexts(encoded.token_ids, at, at + kept[self._sentence], self._sentence))
            shift = shift + len(tokenizer.around[1]) + kept[self._sentence]
            low, high = np.maximum(at, begins), np.minimum(at + sizes[self._chosen][self._sentence], ends)
            self._marks = np.stack([low + shift, np.maximum(high, low) + shift], axis=1)
        self.place = starts + shift[self.window]
        base = TextBatches(tuple(rows[:parts]), tokenizer, batch_size=batch_size, max_length=max_length, seed=seed,
                           shuffle=shuffle, multiple=multiple)
        self.words, self.tokenless = len(sentence), int((self.window < 0).sum())
        self._order = np.argsort(self.window, kind="stable")
        self._edges = np.searchsorted(self.window[self._order], np.arange(len(begins) + 1))
        self._targets = None if targets is None else np.concatenate([np.zeros(0, np.int32), *targets])
        self._predicates = predicates
        super().__init__(base, self._added, source.columns.get("tags"), self._sentence)
        self.windows = np.bincount(self._sentence, minlength=len(lengths))

    def _extended(self, begins, ends, rooms, encoded):
        # The rows with the tokens of neighboring sentences of the same document, as far as they fit.
        if not self.context:
            return begins, ends
        documents = np.array(self.source.columns.get("document", np.zeros(len(rooms))))
        numbers = np.arange(len(rooms)) if self.source.numbers is None else np.asarray(self.source.numbers)
        follows = (documents[1:] == documents[:-1]) & (documents[1:] != 0) & (np.diff(numbers.astype(np.int64)) == 1)
        breaks = np.flatnonzero(np.concatenate([[True], ~follows, [True]]))
        group = np.repeat(np.arange(len(breaks) - 1), np.diff(breaks))[self._sentence]
        low, high = encoded.starts[breaks[:-1]][group], encoded.ends[breaks[1:] - 1][group]
        free = rooms[self._sentence] - (ends - begins)
        left, right = (np.where(edge, np.minimum(self.context, size), 0) for edge, size in (
            (begins == encoded.starts[self._sentence], begins - low), (ends == encoded.ends[self._sentence],
                                                                       high - ends)))
        left = np.minimum(left, np.maximum(free - right, free // 2))
        return begins - left, ends + np.minimum(right, free - left)

    def _added(self, batch, step, rows):
        added = {}
        if self._targets is not None:
            labels, weights = np.zeros_like(batch["token_ids"]), np.zeros(batch["token_ids"].shape, np.float32)
            for number, row in enumerate(rows):
                if row >= 0:
                    words = self._order[self._edges[row]:self._edges[row + 1]]
                    labels[number, self.place[words]] = self._targets[words]
                    weights[number, self.place[words]] = 1
            added = {"labels": labels, "weights": weights}
        if self._predicates:
            added["segment_ids"] = batch["segment_ids"].copy()
            for number, row in enumerate(rows):
                if row >= 0:
                    added["segment_ids"][number, slice(*self._marks[row])] = 0
        return added

    def words_of(self, values):
        """Return the values of all words in order, given those of all tokens.

        Args:
            values: array [R, T, ...], the rows of all steps, stably sorted by example (see `predictor.in_order`).

        Returns:
            (bool [W], array [W, ...]): whether each word has a token, and its values, arbitrary for words without.
        """
        rows = np.concatenate([self.base.rows(step) for step in range(self.batches_per_epoch)])
        rows = rows[rows >= 0]
        place = np.empty(len(rows), np.int64)
        place[rows[np.argsort(self._sentence[rows], kind="stable")]] = np.arange(len(rows))
        seen = self.window >= 0
        return seen, values[place[np.maximum(self.window, 0)], np.where(seen, self.place, 0)]

    def notes(self, source, max_length):
        """Return notes for the user (see Batches)."""
        tokenless = f", {self.tokenless:,} of which have no token and are predicted {self.outside}"
        notes = [f"{source.name}: {self.words:,} words{tokenless if self.tokenless else ''}"]
        long = self.windows[self.windows > 1]
        if len(long):
            notes.append(f"{source.name}: {len(long):,} of {len(source):,} sentences are longer than {max_length} "
                         f"tokens and were split into {long.sum():,} windows")
        if self.context and "document" not in source.columns:
            notes.append(f"{source.name}: no documents are marked, so sentences have no context")
        if not self._predicates and "predicate" in source.columns:
            notes.append(f"{source.name}: predicates are ignored, since the model was trained without them")
        if "widened" in source.columns:
            notes.append(f"{source.name}: {sum(source.columns['widened']):,} entities did not end at the edges of "
                         "words and were widened to whole words")
        return notes
