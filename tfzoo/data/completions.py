"""Prompts with completions and conversations: their rows, their tokens, and batches of them.

A prompt and its completion are encoded separately, because a model that completes a prompt sees the prompt's own
tokens: encoded together, a token could span the boundary. A conversation is encoded as `tfzoo.text.chat` describes.
"""
import typing

import numpy as np

from tfzoo.data.batches import Batches
from tfzoo.data.encode import EncodedTexts, encode_texts
from tfzoo.data.packing import PackPlan
from tfzoo.data.plan import BatchPlan
from tfzoo.data.readers import Schema
from tfzoo.data.source import Source
from tfzoo.errors import ConfigError, DataError
from tfzoo.text.chat import Chat, check_messages, shorten

CHUNK = 512  # the number of conversations encoded at once


class Completions(Source):
    """In-memory prompts, with or without completions, or conversations (`messages`); see Source."""

    def passages(self):
        for key in ("prompt", "completion"):
            yield from self.columns.get(key, ())
        for messages in self.columns.get("messages", ()):
            yield from (message["content"] for message in messages)

    def answers(self):
        """Return the completion, or the assistant's last message, of each example: list of str, or None if unknown."""
        if "prompt" in self.columns:
            return self.columns.get("completion")
        last = [messages[-1] for messages in self.columns["messages"]]
        return [message["content"] for message in last] if last[0]["role"] == "assistant" else None


def _problem_of(row, labelled):
    if "messages" in row:
        others = [key for key in ("prompt", "completion") if key in row]
        return f"both messages and {others[0]}" if others else check_messages(row["messages"], labelled)
    missing = [key for key in ("prompt", "completion")[:1 + labelled] if key not in row]
    if missing:
        return f"no value for {' and '.join(missing)}"
    return "an empty completion" if labelled and not row["completion"].strip() else ""


COMPLETIONS = Schema(inputs=(), optional=("prompt", "messages"), optional_targets=("completion",), check=_problem_of,
                     endings=(".jsonl", ".tsv", ".csv"), source=Completions,
                     needs=("prompt, or messages that end with the user's",
                            "prompt and completion, or messages that end with the assistant's"))


class Answers(typing.NamedTuple):
    """Encoded examples.

    Attributes:
        rows: EncodedTexts, each example's prompt and answer; None in prediction.
        targets: bool [total number of tokens], which tokens of `rows` the model writes.
        prompts: EncodedTexts, what the model sees before the (last) answer; None in training.
        histories, completions: int, the number of examples whose history was cut from its front, or whose answer at its
            end, to fit.
    """

    rows: EncodedTexts
    targets: np.ndarray
    prompts: EncodedTexts
    histories: int
    completions: int


def cut_front(ids, room, opening):
    """Return at most `room` ids, cut from their front, except for the opening tokens (lists of int)."""
    if len(ids) <= room:
        return ids
    kept = len(opening) if ids[:len(opening)] == opening and len(opening) < room else 0
    return [*ids[:kept], *ids[len(ids) - room + kept:]]


def prompt_of(chat, messages, room):
    """Encode a conversation up to the next answer: its oldest questions and answers are dropped until it fits.

    Args:
        chat: Chat.
        messages: list of dict, which ends with a message of the user.
        room: int, the number of tokens.

    Returns:
        (list of int, bool): the ids, cut from their front if not even the last message fits; and whether anything was
        cut or dropped.
    """
    ids, rest = chat.prompts([messages])[0], messages
    while len(ids) > room and (rest := shorten(rest)):
        ids = chat.prompts([rest])[0]
    short = cut_front(ids, room, chat.tokenizer.opening)
    return short, rest is not messages or len(short) < len(ids)


def encode_answers(source, tokenizer, max_length, answer_length, training):
    """Encode prompts and answers, or conversations, and cut those that are too long.

    If an example is too long, its history (the prompt, or the oldest questions and answers) is cut from its front, down
    to max_length - answer_length tokens; then the answer is cut at its end, and has no end token.

    Args:
        source: Completions.
        tokenizer: Tokenizer.
        max_length: int, the number of tokens per row.
        answer_length: int, less than max_length.
        training: bool, whether only rows are needed, not prompts.

    Returns:
        Answers.

    Raises:
        DataError: if the tokenizer's chat template refuses a conversation; the message states the example.
    """
    opening, answered = tokenizer.opening, source.answers() is not None
    encode = _encode_pairs if "prompt" in source.columns else _encode_chats
    rows, written, prompts, histories, completions = [], [], [], 0, 0
    for ids, targets, prompt, cut in encode(source, tokenizer, max_length, max_length - answer_length, answered):
        if not training:
            prompts.append(np.array(cut_front(prompt, max_length - answer_length, opening), np.int32))
        if not answered:
            histories += cut or len(prompts[-1]) < len(prompt)
            continue
        first = int(np.argmax(targets))
        after = len(ids) - first
        before = cut_front(ids[:first], max(max_length - after, min(first, max_length - answer_length)), opening)
        after = min(after, max_length - len(before))
        histories, completions = histories + (cut or len(before) < first), completions + (first + after < len(ids))
        rows.append(np.array([*before, *ids[first:first + after]], np.int32))
        written.append(np.array([*[False] * len(before), *targets[first:first + after]], bool))
    return Answers(_joined(rows) if answered else None, np.concatenate(written) if answered else None,
                   None if training else _joined(prompts), histories, completions)


def _joined(rows):
    edges = np.cumsum([0, *map(len, rows)])
    return EncodedTexts(np.concatenate(rows), edges[:-1], edges[1:])


def _encode_pairs(source, tokenizer, max_length, room, answered):
    # Yield (ids, targets, prompt, whether the history was cut) of each example.
    quiet = None if answered else False
    prompts, completions = (texts and encode_texts(tokenizer, texts, label=source.name, progress=quiet)
                            for texts in (source.columns["prompt"], answered and source.columns["completion"]))
    for number in range(len(source)):
        prompt = tokenizer.beginning(prompts[number].tolist())
        answer = [*completions[number].tolist(), tokenizer.end_id] if answered else []
        yield [*prompt, *answer], [False] * len(prompt) + [True] * len(answer), prompt, False


def _encode_chats(source, tokenizer, max_length, room, answered):
    chat, everything = Chat(tokenizer), source.columns["messages"]
    for begin in range(0, len(everything), CHUNK):
        part = everything[begin:begin + CHUNK]
        whole = _shortened(chat.encode, part, max_length, source.name, begin) if answered else [None] * len(part)
        asked = [messages[:-1] if answered else messages for messages in part]
        asked = _shortened(lambda them: [(ids, ()) for ids in chat.prompts(them)], asked, room, source.name, begin)
        for one, (prompt, _, cut) in zip(whole, asked):
            yield (*one[:2], prompt, one[2]) if answered else (prompt, (), prompt, cut)


def _shortened(encode, conversations, room, name, begin):
    # [(ids, targets, whether questions and answers were dropped)] of conversations that are shortened until they fit.
    found, left, cut = [None] * len(conversations), dict(enumerate(conversations)), False
    while left:
        try:
            encoded = encode(list(left.values()))
        except DataError:  # find the one
            for number, messages in left.items():
                try:
                    encode([messages])
                except DataError as error:
                    raise DataError(f"{name}: example {begin + number + 1}: {error}") from None
            raise
        longer = {}
        for (number, messages), (ids, targets) in zip(left.items(), encoded):
            found[number] = list(ids), targets, cut
            if len(ids) > room and (rest := shorten(messages)):
                longer[number] = rest
        left, cut = longer, True
    return found


class AnswerBatches(Batches):
    """Batch prompts with their answers for a causal language model, each token predicted from those before it.

    Args:
        answers: Answers.
        source: Completions.
        tokenizer: Tokenizer.
        batch_size, max_length: int; rows have at most max_length tokens.
        answer_length: int, the number of tokens to generate after a prompt.
        end_ids: tuple of int, the tokens that end an answer.
        seed, shuffle, multiple: see `TextBatches`.
        pack: bool, put several examples into each row, with no attention between them; not in evaluation.

    Attributes:
        tokenizer: Tokenizer.
        references: list of str, the answers, or None.
    """

    def __init__(self, answers, source, tokenizer, *, batch_size, max_length, answer_length, end_ids, seed, shuffle,
                 multiple, pack):
        self.encoded, self.tokenizer, self.batch_size = answers, tokenizer, batch_size
        self.max_length, self.answer_length, self.end_ids = max_length, answer_length, end_ids
        self.references, self.cut = source.answers(), answers.histories
        # The last token of a row is only a label. A prompt is longer than its row if only the latter was shortened.
        lengths = np.max([part.lengths - (part is answers.rows) for part in (answers.rows, answers.prompts)
                          if part is not None], axis=0)
        self.pack = pack
        self.plan = PackPlan(lengths, max_length, seed if shuffle else None) if pack else BatchPlan(
            lengths, batch_size=batch_size, max_length=max_length, seed=seed if shuffle else None, multiple=multiple)
        self.batches_per_epoch = -(-self.plan.rows // batch_size) if pack else self.plan.batches_per_epoch

    def _plan(self, step):
        # (T, the examples in each row: list of B int arrays).
        if not self.pack:
            length, rows = self.plan.batch(step)
            return length, [rows[number:number + 1][rows[number:number + 1] >= 0] for number in range(len(rows))]
        rows = self.plan.batch(step, self.batch_size)
        return self.max_length, rows + [np.zeros(0, int)] * (self.batch_size - len(rows))

    def rows(self, step):
        """Return each row's example, or, if packed, its index within the epoch: int64 [B]; -1 for padding rows."""
        return self.plan.numbers(step, self.batch_size) if self.pack else self.plan.batch(step)[1]

    def examples(self, step):
        return np.sort(np.concatenate(self._plan(step)[1]))

    def notes(self, source, max_length):
        what = "prompts" if "prompt" in source.columns else "histories"
        counts = ((self.cut, f"{what} were cut from the front"),
                  (self.encoded.completions, "answers were cut at their end, and have no end token,"))
        packed = [f"{source.name}: packed into {self.plan.rows:,} rows of {max_length} tokens, "
                  f"{self.plan.padding:.2%} padding"] if self.pack else []
        return packed + [f"{source.name}: {count:,} of {len(source):,} {what} to fit {max_length} tokens"
                         for count, what in counts if count]

    def batch(self, step):
        """Return the batch for a step.

        Returns:
            dict: `token_ids`, `padding_mask` and `labels`, int32 [B, T]; `weights`, float32 [B, T], 1 where the label
            is part of an answer; if packed, `position_ids` and `document_ids`, int32 [B, T] (see `PackedBatches`). If
            there are prompts, left-padded `prompt_ids` and `prompt_mask`, int32 [B, P]; `end_ids`, int32 [B, E], the
            same in each row; and `answer_ids`, int32 [B, answer_length]. Without answers, token_ids and padding_mask
            are those of the prompts.
        """
        length, rows = self._plan(step)
        batch = self._prompts(rows, min(length, self.max_length - self.answer_length)) if self.encoded.prompts else {}
        if self.encoded.rows is None:
            return {"token_ids": batch["prompt_ids"], "padding_mask": batch["prompt_mask"], **batch}
        names = ("token_ids", "labels", "padding_mask", "position_ids", "document_ids")
        values = {name: np.zeros((len(rows), length), np.int32) for name in names}
        values["token_ids"][:] = self.tokenizer.pad_id
        values["weights"] = np.zeros((len(rows), length), np.float32)
        texts = self.encoded.rows
        for number, examples in enumerate(rows):
            column = 0
            for document, example in enumerate(examples, 1):
                tokens, (start, end) = texts[example], (texts.starts[example], texts.ends[example])
                place = number, slice(column, column + len(tokens) - 1)
                for name, value in (("token_ids", tokens[:-1]), ("labels", tokens[1:]), ("padding_mask", 1),
                                    ("position_ids", np.arange(len(tokens) - 1)), ("document_ids", document),
                                    ("weights", self.encoded.targets[start + 1:end])):
                    values[name][place] = value
                column += len(tokens) - 1
        if not self.pack:
            del values["position_ids"], values["document_ids"]
        return {**values, **batch}

    def _prompts(self, rows, width):
        ids, mask = np.full((len(rows), width), self.tokenizer.pad_id, np.int32), np.zeros((len(rows), width), np.int32)
        for number, examples in enumerate(rows):
            for example in examples:
                prompt = self.encoded.prompts[example]
                ids[number, width - len(prompt):], mask[number, width - len(prompt):] = prompt, 1
        end = np.array(self.end_ids, np.int32)
        return {"prompt_ids": ids, "prompt_mask": mask, "end_ids": np.tile(end, (len(rows), 1)),
                "answer_ids": np.full((len(rows), self.answer_length), end[0], np.int32)}


def check_room(tokenizer, max_length, answer_length):
    """Raise ConfigError unless a token of the prompt and one of the answer fit into a row."""
    least = len(tokenizer.opening) + 2
    if max_length < least or not 0 < answer_length <= max_length - least + 1:
        raise ConfigError(f"rows of {max_length} tokens with up to {answer_length} for the answer have no room for a "
                          f"prompt: --max_length must be at least {least} and exceed --max_target_length by "
                          f"{least - 1}")
