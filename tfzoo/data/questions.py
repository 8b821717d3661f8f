"""Questions about a context, whose answers are parts of it: indexed sources, and batches of overlapping windows."""
import unicodedata

import numpy as np

from tfzoo.data.batches import Derived, TextBatches, check_overlap
from tfzoo.data.encode import EncodedTexts, encode_texts
from tfzoo.data.readers import Schema
from tfzoo.data.source import Source
from tfzoo.errors import ConfigError, DataError, shown
from tfzoo.records.windows import cut_windows

QUESTION_TOKENS = 64  # longer questions are cut, as in BERT's and transformers' scripts
UNKNOWN = -2  # the token of an answer that is not where its answer_start says, or has no token
AT_ONCE = 256  # contexts per call of the tokenizer's `offsets`


class Questions(Source):
    """In-memory questions that support `len` and indexing.

    Args:
        name: str, the origin of the data.
        columns: dict with the keys `question` and `context` (lists of N str) and, optionally, `answers` (a list of N
            lists of dict with `text` and `answer_start`, in code points of the context; empty for a question without an
            answer) and `id` (a list of N str).
        replaced, skipped: see Source.

    Raises:
        DataError: if there are no questions.
    """

    @classmethod
    def of_rows(cls, name, rows, **counts):
        """Make a source from rows (see `Source.of_rows`); raise DataError also if labelled questions share an id."""
        source, seen = super().of_rows(name, rows, **counts), {}
        for number, key in enumerate(source.columns.get("id", ()) if "answers" in source.columns else (), 1):
            if seen.setdefault(key, number) != number:
                raise DataError(f"{name}: questions {seen[key]} and {number} have the same id, {shown(key)}: ids must "
                                "be unique")
        return source

    @property
    def texts(self):
        """Return the questions and the contexts: tuple of two lists of N str."""
        return self.columns["question"], self.columns["context"]

    def passages(self):
        return (text for texts in (self.columns["question"], dict.fromkeys(self.columns["context"])) for text in texts)

    @property
    def unanswerable(self):
        """Return the number of questions that are known to have no answer: int."""
        return sum(not answers for answers in self.columns.get("answers", ()))


def is_placed(context, answer):
    """Return whether the text of an answer stands in the context where its answer_start says: bool."""
    start = answer["answer_start"]
    return start >= 0 and context[start:start + len(answer["text"])] == answer["text"]


def _check(row, labelled):
    if not labelled:
        return ""
    empty = next((name for name in ("question", "context") if not row[name].strip()), None)
    if empty:
        return f"an empty {empty}"
    for answer in row["answers"]:
        text, start = answer.get("text"), answer.get("answer_start")
        if not isinstance(text, str) or not text.strip():
            return f"the text of an answer is {shown(text)}, not a string with a text (a question without an answer " \
                "has answers [])"
        if type(start) is not int:
            return f"answer_start is {shown(start)}, not a whole number"
    row["answers"] = [{"text": answer["text"], "answer_start": answer["answer_start"]} for answer in row["answers"]]
    return ""


QUESTIONS = Schema(inputs=("question", "context"), targets=("answers",), optional=("id",), check=_check,
                   endings=(".json", ".jsonl"), source=Questions)


def question_room(room):
    """Return the maximum number of tokens of a question: int; at most half of a row.

    Args:
        room: int, the number of tokens of a row besides special tokens.
    """
    return min(QUESTION_TOKENS, room // 2)


class _Contexts:
    # The tokens of N contexts, each encoded once however often it occurs, with their places in the text.

    def __init__(self, tokenizer, texts, label, progress):
        known = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        self.numbers = np.array([known[text] for text in texts])
        self.encoded = encode_texts(tokenizer, list(known), label=label, progress=progress)
        unique, self.places = list(known), []
        for first in range(0, len(unique), AT_ONCE):
            self.places += [np.array(each, np.int32).reshape(-1, 2)
                            for each in tokenizer.offsets(unique[first:first + AT_ONCE])]
        if [len(each) for each in self.places] != self.encoded.lengths.tolist():
            raise ConfigError(f"this {tokenizer.kind} tokenizer has other offsets than tokens: use another one")

    def __getitem__(self, example):
        return self.places[self.numbers[example]]


class QuestionBatches(Derived):
    """Batches of questions with their contexts, cut into overlapping windows, each of which is a row.

    Args:
        source: Questions.
        tokenizer: Tokenizer.
        batch_size, max_length, seed, multiple: see `TextBatches`.
        training: bool. If True, the windows are shuffled, and questions whose answer cannot be learned are left out.
        overlap: int, the number of tokens that neighboring windows of a context share; None: a quarter of the context
            tokens of a window.

    In addition to the entries of TextBatches, a batch has `context_mask`, int32 [B, T], 1 for tokens of the context;
    `null_position`, int32 [B], the column that stands for no answer: the first special token, or else the first token;
    `window`, int32 [B], the index of the window; and, with answers, `labels`, int32 [B, 2] (the columns in which the
    first answer starts and ends; the null position, if the answer is not wholly inside the window) and `weights`,
    float32 [B].

    Attributes:
        source: Questions.
        owners: int [W], the example of each window, ascending.
        cut: int, the number of questions that were cut.
        misplaced: int, the number of questions whose first answer is not where its answer_start says, or has no token.

    Raises:
        ConfigError: if the overlap leaves no room for new tokens in a window.
    """

    def __init__(self, source, tokenizer, batch_size, max_length, seed, training, multiple, overlap=None):
        self.source, known = source, "answers" in source.columns
        room, self._around = tokenizer.room(max_length, 2), tokenizer.around
        limit, bar = question_room(room), None if known else False
        check_overlap(overlap, room - limit, max_length)
        questions = encode_texts(tokenizer, [text.lstrip() for text in source.columns["question"]], "questions", bar)
        self._contexts = contexts = _Contexts(tokenizer, source.columns["context"], source.name, bar)
        cut = int((questions.lengths > limit).sum())
        self._spans = np.array([self._span(example) for example in range(len(source))]) if known else None
        self._unknown = np.flatnonzero(self._spans[:, 0] == UNKNOWN) if known else ()
        kept = np.setdiff1d(np.arange(len(source)), self._unknown if training else ())
        if not len(kept):
            answer = source.columns["answers"][0][0]
            raise DataError(f"{source.name}: no answer is where its answer_start says (question 1: "
                            f"{shown(answer['text'])} at {answer['answer_start']}): fix the data")
        lengths, cuts = np.minimum(questions.lengths, limit), []
        for example in kept:
            space = room - int(lengths[example])
            cuts.append(cut_windows(len(contexts[example]), space, overlap))
        owners, self._windows = np.repeat(kept, [len(part) for part in cuts]), np.concatenate(cuts)
        self._lengths, context = lengths[owners], contexts.numbers[owners]
        starts, begins = questions.starts[owners], contexts.encoded.starts[context]
        base = TextBatches(
            (EncodedTexts(questions.tokens, starts, starts + self._lengths, owners),
             EncodedTexts(contexts.encoded.tokens, begins + self._windows[:, 0], begins + self._windows[:, 1])),
            tokenizer, batch_size=batch_size, max_length=max_length, seed=seed, shuffle=training, multiple=multiple)
        golds = [[answer["text"] for answer in answers] for answers in source.columns.get("answers", ())]
        super().__init__(base, self._add, golds if known else None, owners)
        self.windows = np.bincount(owners, minlength=len(source))
        self.cut, self.misplaced = cut, len(self._unknown)

    def _span(self, example):
        # The first and the last token of the first answer; -1 without an answer; UNKNOWN if it cannot be learned.
        answers = self.source.columns["answers"][example]
        if not answers:
            return -1, -1
        if not is_placed(self.source.columns["context"][example], answers[0]):
            return UNKNOWN, UNKNOWN
        start, places = answers[0]["answer_start"], self._contexts[example]
        inside = np.flatnonzero((places[:, 0] < start + len(answers[0]["text"])) & (places[:, 1] > start))
        return (inside[0], inside[-1]) if len(inside) else (UNKNOWN, UNKNOWN)

    def token(self, window, column):
        """Return the index in its context of the token in a column of a window: int."""
        return int(column + self._windows[window, 0] - self._first_column(window))

    def place(self, example, first, last):
        """Return where an answer stands in its context, with all accents of its last letter, without outer whitespace.

        Args:
            example: int.
            first, last: int, the indices of its first and its last token.

        Returns:
            (int, int): its start and end (exclusive), in code points.
        """
        places, context = self._contexts[example], self.source.columns["context"][example]
        start, end = int(places[first, 0]), int(places[last, 1])
        while end < len(context) and unicodedata.category(context[end]) == "Mn":  # accents that the tokenizer dropped
            end += 1
        text = context[start:end]
        lead = len(text) - len(text.lstrip())
        return (start + lead, start + len(text.rstrip())) if lead < len(text) else (start, end)

    def _first_column(self, window):
        # The column of the first token of the context.
        return len(self._around[0]) + self._lengths[window] + len(self._around[1])

    def _contains(self, windows):
        # Whether each window contains the whole first answer to its question.
        (starts, ends), (first, last) = self._windows[windows].T, self._spans[self.owners[windows]].T
        return (starts <= first) & (last < ends) & (first >= 0)

    def _add(self, batch, step, windows):
        real, columns = (windows >= 0)[:, None], np.arange(batch["token_ids"].shape[1])
        first, (starts, ends) = self._first_column(windows)[:, None], self._windows[windows].T[:, :, None]
        null = real * null_position(self._around, self._lengths[windows][:, None], ends - starts)
        added = {"context_mask": real & (columns >= first) & (columns < first + ends - starts),
                 "null_position": null[:, 0], "window": np.maximum(windows, 0)}
        if self._spans is not None:
            spans = self._spans[self.owners[windows]]
            learned = real & (spans > UNKNOWN)
            labels = np.where(self._contains(windows)[:, None], spans - starts + first, null)
            added |= {"labels": labels * learned, "weights": learned[:, 0]}
        return {key: value.astype(np.float32 if key == "weights" else np.int32) for key, value in added.items()}

    def notes(self, source, max_length):
        """Return notes for the user (see Batches)."""
        notes = [f"{source.name}: {(self.windows > 0).sum():,} questions in {len(self.owners):,} windows of up to "
                 f"{max_length} tokens"]
        if self.cut:
            notes.append(f"{source.name}: {self.cut:,} questions were cut to "
                         f"{question_room(self.base.room)} tokens")
        if self.misplaced:
            number = self._unknown[0]
            notes.append(f"{source.name}: {self.misplaced:,} questions whose first answer is not in the context at its "
                         f"answer_start, or has no token (first: question {number + 1}"
                         f"{', ' + source.columns['id'][number] if 'id' in source.columns else ''}), are not trained "
                         "on; their texts are scored")
        beyond = 0
        if self._spans is not None:
            whole = self.owners[self._contains(np.arange(len(self.owners)))]
            beyond = len(np.setdiff1d(np.flatnonzero(self._spans[:, 0] >= 0), whole))
        return notes + ([f"{source.name}: {beyond:,} answers are not wholly inside any window: raise --max_length or "
                         "--overlap"] if beyond else [])


def null_position(around, question, context):
    """Return the column that stands for no answer: the first special token of a row, or 0 if it has none.

    Args:
        around: the special tokens (see `Tokenizer.around`).
        question, context: int, the number of tokens of the question and of the context in the row.
    """
    before, between, after = around
    return 0 if before else question if between else question + context if after else 0
