"""Decode with an exported file: the interpreter runs the model, and NumPy chooses the tokens."""
import typing

import numpy as np

from tfzoo.errors import ConfigError, DataError
from tfzoo.litert.beam import search
from tfzoo.litert.processors import draw, log_softmax, masked, moved, process, row_keys
from tfzoo.litert.runner import signature_name


class Generated(typing.NamedTuple):
    """The answers to B prompts, num_return_sequences for each; see tfzoo.generation.Generated."""

    token_ids: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray | None = None
    log_probabilities: np.ndarray | None = None


class Generator:
    """Generate continuations for rows of token ids, or targets for sources.

    Prompt and answer must fit the exported cache together, so a prompt may have up to `room` tokens.

    Args:
        runner: Runner of a file that generates.
        options: Options.

    Raises:
        ConfigError: if an option is not available, or max_new_tokens leaves no room for a prompt.

    Attributes:
        room: int, the largest number of tokens of a prompt or source.
    """

    def __init__(self, runner, options):
        described, wanted = runner.config["litert"], options.max_new_tokens
        self.runner, self.options, self.source = runner, options, described["source"]
        options.check_ids(runner.vocab_size)
        if options.prompt_lookup_num_tokens:
            raise ConfigError("--prompt_lookup_num_tokens is not available for LiteRT files: omit it")
        name = "num_beams" if options.num_beams > 1 else "num_return_sequences"
        self.columns, self._copies = described["cache_length"], getattr(options, name)
        if self._copies > runner.batches[-1]:
            raise ConfigError(f"--{name}={self._copies} exceeds the largest exported batch, {runner.batches[-1]}: "
                              "export the model with larger --batches")
        self._lengths = runner.lengths if self.source else [
            length for length in runner.lengths if length + wanted <= self.columns]
        if not self._lengths or wanted >= self.columns:
            raise ConfigError(f"--max_new_tokens={wanted} leaves no room for a prompt: the file was exported with "
                              f"--cache_length={self.columns}" + (
                                  "" if self.source else f" and prompts of at least {runner.lengths[0]} tokens"))
        self.room = self._lengths[-1]

    def generate(self, prompts, source=None, first=0):
        """Generate tokens.

        Args:
            prompts: list of B non-empty lists of int, of which only the last `room` tokens are used; for an
                encoder-decoder, the start of each target, a single token.
            source: dict with `encoder_token_ids` and `encoder_padding_mask`, int32 [B, S], for an encoder-decoder.
            first: int, the index of the first row: row r draws with options.seed + r.

        Returns:
            Generated, with N <= max_new_tokens columns.

        Raises:
            ConfigError: if there is no prompt, or an id is outside the vocabulary.
            DataError: if the model's outputs are NaN.
        """
        if not len(prompts):
            raise ConfigError("there is no prompt; pass at least one")
        most, parts = self.runner.batches[-1] // self._copies, []
        for begin in range(0, len(prompts), most):
            rows = slice(begin, begin + most)
            given = source and {name: each[rows] for name, each in source.items()}
            if self.options.num_beams > 1:
                parts.append(self._searched(prompts[rows], given, first + begin))
            else:
                parts.append([np.stack(each, 1) for each in zip(*self._steps(prompts[rows], given, first + begin))])
        if self.options.num_beams > 1:
            ids, lengths, scores = (np.concatenate(each) for each in zip(*parts))
            return Generated(ids[:, :max(1, lengths.max())].astype(np.int32), lengths, scores)
        return self._joined(parts)

    def stream(self, prompts, source=None):
        """Yield each column of tokens, int32 [B], as soon as it is chosen; see `generate`."""
        if len(prompts) > self.runner.batches[-1] or self._copies > 1:
            raise ConfigError(f"up to {self.runner.batches[-1]} prompts with one answer each can be streamed")
        for tokens, _, _ in self._steps(prompts, source, 0):
            yield tokens

    def _joined(self, parts):
        width = max(part[0].shape[1] for part in parts)
        fill = self.options.eos_token_id[0] if self.options.eos_token_id else 0
        ids, real, log_p = (np.concatenate([np.pad(part[place], ((0, 0), (0, width - part[place].shape[1])),
                                                   constant_values=value) for part in parts])
                            for place, value in ((0, fill), (1, False), (2, 0.0)))
        return Generated(ids, real.sum(1).astype(np.int32),
                         log_probabilities=log_p if self.options.log_probabilities else None)

    def _steps(self, prompts, source, first):
        # Yield (tokens int32 [R], bool [R], whether they are part of the answers, and log-probabilities float32 [R]).
        options, rows = self.options, len(prompts) * self._copies
        logits, state, ids, real, given = self._start(prompts, source)
        begin, ended, states = ids.shape[1], np.zeros(rows, bool), np.zeros(rows, np.int32)
        keys = row_keys(self._seeds(prompts, first), self._copies)
        ends, fill = list(options.eos_token_id), (*options.eos_token_id, 0)[0]
        room = ((0, 0), (0, options.max_new_tokens))
        ids, real = np.pad(ids, room), np.pad(real, room)
        for made in range(options.max_new_tokens):
            column = begin + made
            scores = process(logits, ids, real, column, begin, options, given)
            if options.constraint is not None:
                scores = masked(scores, options.constraint, states, ends)
            tokens = draw(scores, options, keys, made)
            log_p = np.take_along_axis(log_softmax(scores), tokens[:, None], 1)[:, 0] if options.log_probabilities \
                else np.zeros(rows, np.float32)
            tokens = np.where(ended, fill, tokens).astype(np.int32)
            yield tokens, ~ended, np.where(ended, 0, log_p)
            ids[:, column], real[:, column] = tokens, ~ended
            now = np.isin(tokens, ends)
            if options.constraint is not None:
                states, final = moved(options.constraint, states, tokens)
                now |= final
            ended = ended | now
            if ended.all() or made + 1 == options.max_new_tokens:
                return
            logits = self._step(tokens, state, column)

    def _searched(self, prompts, source, first):
        logits, state, ids, real, given = self._start(prompts, source)

        def step(tokens, order, column):
            nonlocal state
            state = self._reordered(state, order)
            return self._step(tokens, state, column)

        return search(logits, ids, real, self.options, row_keys(self._seeds(prompts, first), 1), step, given)

    def _seeds(self, prompts, first):
        return np.uint64(self.options.seed) + np.arange(first, first + len(prompts), dtype=np.uint64)

    def _start(self, prompts, source):
        # (logits [R, V], state of an exported batch size, ids int32 [R, P], bool [R, P], sources or None) of R rows:
        # each prompt as often as it is continued.
        rows = [np.asarray(prompt, np.int64) for prompt in prompts]
        if any(row.ndim != 1 or not row.size for row in rows):
            raise ConfigError("the prompt is empty; pass at least one token")
        for row in rows:
            self.runner.check_ids(row)
        batch = self._batch(len(rows) * self._copies)
        if self.source:
            ids, columns = np.stack([row[-1:] for row in rows]).astype(np.int32), 1
            length = next((each for each in self._lengths if each >= source["encoder_token_ids"].shape[1]), self.room)
            names = ("encoder_token_ids", "encoder_padding_mask")
            inputs = {name: np.zeros((batch, length), np.int32) for name in names}
            for name, value in inputs.items():
                given = np.asarray(source[name])[:, :length]
                value[:len(rows), :given.shape[1]] = given
            self.runner.check_ids(inputs["encoder_token_ids"])
            inputs["encoder_padding_mask"][len(rows):, 0] = 1
            inputs["decoder_token_ids"] = np.repeat(ids[:1], batch, 0)
            inputs["decoder_token_ids"][:len(rows)] = ids
            real = np.ones((len(rows), 1), bool)
        else:
            rows = [row[-self.room:] for row in rows]
            length = columns = next(each for each in self._lengths if each >= max(map(len, rows)))
            inputs = {name: np.zeros((batch, length), np.int32) for name in ("token_ids", "padding_mask")}
            for number, row in enumerate(rows):
                inputs["token_ids"][number, columns - len(row):] = row
                inputs["padding_mask"][number, columns - len(row):] = 1
            inputs["padding_mask"][len(rows):, -1] = 1
            ids, real = inputs["token_ids"][:len(rows)], inputs["padding_mask"][:len(rows)] > 0
        found = self.runner.run(signature_name("prefill", batch, length), inputs)
        logits, order = _finite(found.pop("logits"))[:len(rows)], np.repeat(np.arange(len(rows)), self._copies)
        given = source and tuple(np.asarray(source[f"encoder_{name}"])[order] for name in ("token_ids", "padding_mask"))
        found = found if self._copies == 1 else self._reordered(found, order)
        return logits[order], found, ids[order], real[order], given and (given[0], given[1] > 0)

    def _step(self, tokens, state, column):
        # Return the logits after one more token in each row, and change the state.
        batch = next(value.shape[0] for value in state.values() if value.ndim)
        ids = np.zeros((batch, 1), np.int32)
        ids[:len(tokens), 0] = tokens
        found = self.runner.run(signature_name("decode", batch), {"token_ids": ids, **state})
        logits = _finite(found.pop("logits")[:len(tokens)])
        for name, value in found.items():
            if value.ndim == 4:
                state[name][:, :, column] = value[:, :, 0]
            else:
                state[name] = value
        return logits

    def _reordered(self, state, order):
        # The state of these rows; the last ones fill the exported batch.
        order = np.concatenate([order, np.zeros(self._batch(len(order)) - len(order), np.int64)])
        return {name: value[order] if value.ndim else value for name, value in state.items()}

    def _batch(self, rows):
        return next(batch for batch in self.runner.batches if batch >= rows)


def _finite(logits):
    if not np.isfinite(logits.max(-1)).all():
        raise DataError("the model's outputs are NaN: its training diverged or its weights are damaged; use a "
                        "different model")
    return logits
