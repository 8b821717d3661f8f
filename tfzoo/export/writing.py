"""Signatures of models that generate text: the tokenizer and the decoding loop are in the graph."""
import dataclasses
import inspect

import tensorflow as tf

from tfzoo.checkpoints.writing import Writer
from tfzoo.errors import ConfigError
from tfzoo.generation.decode import decode
from tfzoo.text.pieces import GraphDecoder

CHUNK = 32  # rows that are decoded together: a large request must not exhaust the memory
# Options that a request may set for each row, with their types; those of sampling have no effect on beams.
ROW_OPTIONS = {"max_new_tokens": tf.int32, "min_new_tokens": tf.int32, "repetition_penalty": tf.float32,
               "presence_penalty": tf.float32, "frequency_penalty": tf.float32}
ROW_SAMPLING = {"temperature": tf.float32, "top_k": tf.int32, "top_p": tf.float32, "min_p": tf.float32,
                "seed": tf.int64}


def check_in_graph(tokenizer):
    """Raise ConfigError with the reason if a tokenizer cannot encode inside a graph."""
    if tokenizer.why_outside:
        raise ConfigError(f"this model's tokenizer cannot run in a SavedModel: {tokenizer.why_outside}; use predict or "
                          "generate")


class GraphWriter:
    """Generate texts inside a graph.

    Args:
        loaded: Loaded.
        options: see Writer; they are fixed, except for those in `row_options`, which a request may set.

    Raises:
        ConfigError: if the model cannot generate text, its tokenizer cannot encode or decode inside a graph, no room is
            left for a prompt, or speculative decoding is wanted.
    """

    def __init__(self, loaded, **options):
        given = [name for name in ("draft", "prompt_lookup_num_tokens") if options.get(name)]
        if given:
            raise ConfigError(f"--{given[0]}: speculative decoding is not available in a SavedModel: omit it")
        writer, window = Writer(loaded, **options), loaded.body.config["max_length"]
        if "max_new_tokens" not in options and writer.options.max_new_tokens >= window and writer.chat is not None:
            writer = Writer(loaded, **options, max_new_tokens=window // 2)  # by default, prompts have the other half
        self.loaded, self.options, self.tokenizer, self.task = loaded, writer.options, writer.tokenizer, loaded.task
        self.texts = writer.texts
        self.is_decoder, self.chat_like = writer.chat is not None, writer.chat_like
        check_in_graph(self.tokenizer)
        self.decoder = GraphDecoder(self.tokenizer)
        self.room = min(writer.length, window - self.options.max_new_tokens) if self.is_decoder else writer.length
        if self.room < 1 or self.options.max_new_tokens > window:
            raise ConfigError(f"--max_new_tokens={self.options.max_new_tokens} leaves no room for a prompt in the "
                              f"model's {window} positions: set a smaller number")
        self.row_options = {**ROW_OPTIONS, **({} if self.options.num_beams > 1 else ROW_SAMPLING)}

    def signatures(self):
        """Return the functions to save: dict of signature name to tf.function.

        `serving_default` takes `text`, tf.string [B]. `full` also takes each of `row_options`, [B] or [1]; their
        default values are the exported options. Both return `text` tf.string, `length` int32 (tokens, with the end)
        and with beams `score` float32, [B], or [B, N] for N = num_return_sequences > 1; and `cut` int32 [B], the
        number of tokens of the prompt or source that did not fit.
        """
        text = tf.TensorSpec([None], tf.string, name="text")
        rows = {name: tf.TensorSpec([None], kind, name=name) for name, kind in self.row_options.items()}

        def full(*values):
            return self(values[0], **dict(zip(rows, values[1:])))

        # The defaults of a signature are those of its Python function.
        full.__signature__ = inspect.Signature([
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=inspect.Parameter.empty
                              if name == "text" else tf.constant([self._default(name)], self.row_options[name]))
            for name in ("text", *rows)])
        return {"serving_default": tf.function(lambda text: self(text), input_signature=[text], autograph=False),
                "full": tf.function(full, input_signature=[text, *rows.values()], autograph=False)}

    def _default(self, name):
        value = getattr(self.options, name)
        return value - (value >> 63 << 64) if name == "seed" else value  # its 64 bits as a signed number

    def __call__(self, text, **row_options):
        """Generate texts, in chunks of rows; see `signatures`."""
        batch, answers = tf.shape(text)[0], self.options.num_return_sequences
        row_options = {name: tf.broadcast_to(value, [batch]) for name, value in row_options.items()}
        if "seed" not in row_options and self.options.num_beams == 1:
            row_options["seed"] = tf.fill([batch], tf.constant(self._default("seed"), tf.int64))
        names = ("text", "length", "score", "cut") if self.options.num_beams > 1 else ("text", "length", "cut")
        kinds = {"text": tf.string, "length": tf.int32, "score": tf.float32, "cut": tf.int32}
        arrays = [tf.TensorArray(kinds[name], 0, dynamic_size=True, infer_shape=False,
                                 element_shape=[None] if name == "cut" else [None, answers]) for name in names]

        def more(number, *_):
            return (number * CHUNK < batch) | (number == 0)

        def go_on(number, *arrays):
            rows = slice(number * CHUNK, (number + 1) * CHUNK)
            found = self._chunk(text[rows], {name: value[rows] for name, value in row_options.items()})
            return number + 1, *(array.write(number, found[name]) for array, name in zip(arrays, names))

        _, *arrays = tf.while_loop(more, go_on, (tf.constant(0), *arrays), parallel_iterations=1)
        found = {name: array.concat() for name, array in zip(names, arrays)}
        if answers == 1:
            found = {name: value if name == "cut" else value[:, 0] for name, value in found.items()}
        return found

    def _chunk(self, text, row_options):
        inputs, cut = self._prompts(text) if self.is_decoder else self._sources(text)
        rows, answers = tf.shape(text)[0], self.options.num_return_sequences
        count, seeds = self.options.max_new_tokens, row_options.pop("seed", None)
        copies = self.options.num_beams if self.options.num_beams > 1 else answers
        wide = {name: tf.repeat(value, copies)[:, None] for name, value in row_options.items()}
        if self.options.num_beams > 1 and "max_new_tokens" in wide:
            count = tf.minimum(row_options["max_new_tokens"], count)[:, None]
            del wide["max_new_tokens"]
        options = dataclasses.replace(self.options, **wide) if wide else self.options
        columns = tf.shape(inputs["token_ids" if self.is_decoder else "decoder_token_ids"])[1]
        found = decode(self.loaded.body, self.loaded.model.logits, inputs, options,
                       length=columns + self.options.max_new_tokens, count=count, seeds=seeds)
        ids, length = found["token_ids"], found["length"]
        last = tf.gather(ids, tf.maximum(length - 1, 0), batch_dims=1)
        ended = tf.reduce_any(last[:, None] == self.options.end_ids, axis=1) & (length > 0)
        texts = self.decoder(ids, length - tf.cast(ended, tf.int32), self.is_decoder and not self.chat_like)
        result = {"text": tf.reshape(texts, [rows, answers]), "length": tf.reshape(length, [rows, answers]), "cut": cut}
        if "scores" in found:
            result["score"] = tf.reshape(found["scores"], [rows, answers])
        return result

    def _prompts(self, text):
        # The opening and the last tokens of each prompt, left-padded; an empty prompt without opening is the end token.
        ids, opening = self.tokenizer.encode(text), self.tokenizer.opening
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        cut = tf.maximum(lengths - max(self.room - len(opening), 0), 0)
        whole = lengths - cut + len(opening)
        columns = tf.reduce_max(tf.concat([whole, [1]], 0))
        place = tf.range(columns) - (columns - tf.maximum(whole, 1))[:, None]
        dense = tf.pad(ids.to_tensor(0), [[0, 0], [0, 1]])
        token_ids = tf.gather(dense, tf.maximum(place - len(opening) + cut[:, None], 0), batch_dims=1)
        if opening:
            token_ids = tf.where(place < len(opening), tf.gather(opening, tf.clip_by_value(
                place, 0, len(opening) - 1)), token_ids)
        token_ids = tf.where(whole[:, None] == 0, self.tokenizer.end_id, token_ids)
        return {"token_ids": tf.where(place < 0, self.tokenizer.pad_id, token_ids),
                "padding_mask": tf.cast(place >= 0, tf.int32)}, cut

    def _sources(self, text):
        ids = self.tokenizer.encode(tf.strings.join([self.task.source_prefix, text]))
        cut = tf.maximum(tf.cast(ids.row_lengths(), tf.int32) - self.tokenizer.room(self.room, 1), 0)
        inputs = self.tokenizer.join([ids], self.room)
        return {"encoder_token_ids": inputs["token_ids"], "encoder_padding_mask": inputs["padding_mask"],
                "decoder_token_ids": tf.fill([tf.shape(text)[0], 1], self.tokenizer.pad_id)}, cut
