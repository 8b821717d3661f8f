"""A model with its tokenizer and settings, for predicting labels and computing text embeddings."""
import json
import operator

import numpy as np
import tensorflow as tf

from tfzoo.checkpoints.writing import NEW_TOKENS, Writer
from tfzoo.errors import ConfigError
from tfzoo.generation import Generator
from tfzoo.layers.blockwise import LARGE
from tfzoo.tasks import Task, task_of, tasks
from tfzoo.tasks.embedding import NAMES, PLAIN, pool, pooled_by, prepared
from tfzoo.tasks.predictor import TOGETHER, Predictor
from tfzoo.text.tokenizer import as_texts, list_of

EMBED_BATCH = 32  # texts of similar length
ANSWER_BATCH = 32  # rows


class Loaded:
    """A model together with its tokenizer and settings.

    Attributes:
        model: keras.Model, a TaskModel or a bare body.
        tokenizer: Tokenizer, or None if the folder has none.
        config: dict with `format_version`, `model` (its name), `task` (its name, or None), `settings` (for the task),
            `labels` (in output order, or None) and `max_length`. Models not trained by tfzoo also have `kept` (the
            special-token ids from config.json, to be saved again); Hugging Face models that generate text have
            `end_ids`, and sentence-transformers models have `embedding` (how vectors are computed).
        dropped: list of str, the names of tensors that were ignored because they belong to heads other than the
            model's.
        tokenizer_problem: str, why there is no tokenizer, if there is none.
        new_tokens: int, how many tokens to generate by default; None: see Writer.
    """

    new_tokens = None

    def __init__(self, model, tokenizer, config, dropped=(), tokenizer_problem="the folder has no vocabulary"):
        self.model, self.tokenizer, self.config, self.dropped = model, tokenizer, config, list(dropped)
        self.tokenizer_problem, self._weights = tokenizer_problem, ()
        self._forget()

    def _forget(self):
        # Forget the traced functions, which know the task's settings and the layers' adapters.
        self._predictor, self._writer, self._embedders = None, None, {}

    def _follow(self):
        # Forget the traced functions if adapters have been added or merged since.
        before, self._weights = self._weights, tuple(self.model.weights)
        if len(before) != len(self._weights) or any(map(operator.is_not, before, self._weights)):
            self._forget()

    @property
    def task(self):
        """Return the model's task, or None for a bare body."""
        if self.config["task"] is None:
            return None
        kind = tasks().get(self.config["task"])
        labels = self.config["labels"] if kind is None or kind.labelled else None
        return task_of(self.config["task"], labels, **self.config["settings"])

    def change(self, **settings):
        """Change settings of the task, such as `null_threshold`; None keeps one. An unknown one is a ConfigError."""
        given = {name: value for name, value in settings.items() if value is not None}
        for name in given.keys() - (self.task.settings.keys() if self.task else ()):
            raise ConfigError(f"--{name}={given[name]} does not apply to a model for {self.config['task']}: omit it")
        if given:
            self.config = {**self.config, "settings": {**self.config["settings"], **given}}
            self.model.task = self.task
            self._forget()

    def use_as(self, name):
        """Use the model for another task that has the same head, such as a language model for completion.

        Raises:
            ConfigError: if the task has another head.
        """
        if name == self.config["task"]:
            return
        if self.config["task"] is None or tasks()[name].head_of != self.config["task"]:
            raise ConfigError(f"--task={name}: the model was trained for {self.config['task']}; omit --task")
        self.config = {**self.config, "task": name, "settings": task_of(name).settings}
        self.change(max_target_length=min(NEW_TOKENS, self.config["max_length"] // 2))

    def check_weights(self):
        """Raise ConfigError if there is no model to train, save or export, but only an exported file."""

    def check_answers(self):
        """Return the model's task, after checking that `predict` can be called.

        Raises:
            ConfigError: if the model has no task with predictions, or no tokenizer.
        """
        task = self.task
        if task is None or type(task).answers is Task.answers:
            has = f"was trained for {task.name}" if task else "has no head"
            raise ConfigError(f"the model {has}: use a model that was fine-tuned (experiments.finetune) "
                              "for a task with predictions")
        self.check_tokenizer()
        return task

    def generator(self, options, draft=None, xla=False):
        """Return a Generator (see tfzoo.generation) with these Options."""
        return Generator(self.body, self.model.logits, options, draft, xla)

    def prompt_room(self, options):
        """Return the number of tokens of a prompt that decoding with Options can use: int, or None for any number."""
        room = max(1, self.body.config["max_length"] - options.max_new_tokens)
        return room if options.needs_whole_context else None

    def check_tokenizer(self):
        """Return the tokenizer; if there is none, raise ConfigError with the reason."""
        if self.tokenizer is None:
            raise ConfigError(f"this model has no tokenizer ({self.tokenizer_problem}): load a folder with a tokenizer")
        return self.tokenizer

    @property
    def end_ids(self):
        """Return the ids of the end-of-text tokens: tuple of int.

        For a Hugging Face folder, generation_config.json takes precedence over config.json. If neither file specifies
        any ids, or for any other model, the only id is the tokenizer's end_id.
        """
        return tuple(self.config.get("end_ids") or (self.check_tokenizer().end_id,))

    def predict(self, texts, pairs=None):
        """Predict labels or tags for texts, answers to questions, or texts that follow others.

        Args:
            texts: list of str; for tagging, a text may be a list of words; for question answering, the questions.
                An item may also be a dict of the task's columns, such as {"messages": [...]} for completion or
                {"text": ..., "choices": [...]} for multiple choice.
            pairs: list of str, the second text of each pair for tasks on text pairs, the contexts for question
                answering, or None.

        Returns:
            list of dict, one per text, with `label` and `probabilities` for classification and multiple choice;
            `labels` and `probabilities` for multi_label; `value` for regression; `tokens`, `tags` and
            `entities` for tagging; `answer`, `start`, `end` and `score` for question answering; or `text` for seq2seq
            and completion (see the task).

        Raises:
            ConfigError: if the model has no task with predictions or no tokenizer, if `texts` is a single string or
                contains items of the wrong type, or if `pairs` does not match the task or the number of texts.
        """
        task = self.check_answers()
        if pairs is not None and not task.paired:
            raise ConfigError(f"{task.name} does not accept pairs: omit them")
        one, other = task.text_columns
        rows = [dict(text) if isinstance(text, dict) else
                {one: as_texts([text])[0]} if isinstance(text, (str, bytes)) else
                {"tokens": as_texts(text, f"texts[{number}]")} for number, text in enumerate(list_of(texts))]
        if pairs is not None:
            pairs = as_texts(pairs, "pairs")
            if len(pairs) != len(rows):
                raise ConfigError(f"pairs must have one item per text, got {len(rows)} texts and {len(pairs)} pairs")
            rows = [{**row, other: pair} for row, pair in zip(rows, pairs)]
        self._follow()
        if self._predictor is None:
            self._predictor = Predictor(self.model, self.tokenizer, self.config["max_length"], batch_size=ANSWER_BATCH)
        return [answer for first in range(0, len(rows), TOGETHER * ANSWER_BATCH)
                for answer in self._predictor(rows[first:first + TOGETHER * ANSWER_BATCH])]

    def generate(self, texts, **options):
        """Continue prompts, answer conversations, or write targets for sources (see Writer).

        Args:
            texts: list of str; for a decoder also lists of messages, dict with `role` and `content`.
            options: see Writer, such as max_new_tokens, temperature, top_p, num_beams or bad_words.

        Returns:
            list of dict, num_return_sequences for each text in their order: `text`, `tokens`, `finished` and, if the
            options ask for them, `score` and `log_probabilities`.

        Raises:
            ConfigError: if the model cannot generate text, or an option or a text is not valid.
            DataError: if the model's outputs are NaN.
        """
        self._follow()
        if self._writer is None or self._writer[0] != options:  # another writer would be traced anew
            self._writer = options, Writer(self, **options)
        texts = list_of(texts, "texts", "strings or conversations")
        return [answer for first in range(0, len(texts), ANSWER_BATCH)
                for answer in self._writer[1](texts[first:first + ANSWER_BATCH], first)]

    @property
    def body(self):
        """Return the model without its head."""
        return getattr(self.model, "body", self.model)

    @property
    def embedding(self):
        """Return how vectors are computed, a dict with the keys of tasks.embedding.PLAIN, or None if it is not set."""
        task = self.task
        return task.embedding if task is not None and task.embedding else self.config.get("embedding")

    def embed(self, texts, pooling=None, prompt_name=None):
        """Compute embedding vectors for texts.

        Args:
            texts: list of str.
            pooling: str or None. "mean" averages the last hidden states over all tokens, excluding padding; "first"
                takes the first token's last hidden state; "max" takes the maximum of each element; none of them
                normalizes the vectors. None uses the settings of a sentence-transformers folder or of a model trained
                with contrastive learning (pooling, normalization and prompt), or "mean" for other models.
            prompt_name: str, the name of one of the folder's prompts, which is prepended to each text; None uses the
                folder's default prompt, if any.

        Returns:
            float32 [B, D], or [B, N x D] if the folder combines N poolings. The vector for a text without tokens, such
            as "" with GPT-2, is zero.

        Raises:
            ConfigError: if the pooling or prompt is unknown, if the model is an encoder-decoder, has no tokenizer or
                uses modules that tfzoo does not support, or if `texts` is a single string or contains non-strings.
        """
        how, prompt = self._embedding(pooling, prompt_name)
        texts = prepared(as_texts(texts), how, prompt)
        skipped = self._skipped(how, prompt)
        found = np.zeros((len(texts), len(how["pooling"]) * self.body.config["hidden_dim"]), np.float32)
        if not texts:
            return found
        ids, compute = self.tokenizer.encode(texts), self._vectors(how, skipped)
        order = np.argsort(ids.row_lengths(), kind="stable")
        for first in range(0, len(order), EMBED_BATCH):
            chosen = order[first:first + EMBED_BATCH]
            found[chosen] = compute(self.tokenizer.join([tf.gather(ids, chosen)], self.config["max_length"]))
        return found

    def _vectors(self, how, skipped):
        # A function of inputs that returns vectors. It is traced once, for any size, except that texts whose attention
        # must be computed in blocks are computed eagerly: blocks need known sizes.
        self._follow()

        def compute(inputs):
            return pool(self.body(inputs)["sequence"], inputs["padding_mask"], how, skipped)

        names, ids = ("token_ids", "padding_mask", "segment_ids"), tf.TensorSpec([None, None], tf.int32)
        traced = self._embedders.setdefault(json.dumps([how, skipped]), tf.function(
            compute, input_signature=[dict.fromkeys(names, ids)], autograph=False))
        heads = self.body.config["num_heads"]

        def run(inputs):
            rows, length = inputs["token_ids"].shape
            return (compute if rows * heads * length ** 2 > LARGE else traced)(inputs)

        return run

    def count_cut(self, texts):
        """Return the number of texts that `embed` truncates to config["max_length"] tokens: int."""
        how, prompt = self._embedding()
        lengths = self.tokenizer.encode(prepared(as_texts(texts), how, prompt)).row_lengths()
        return int(tf.math.count_nonzero(lengths > self.tokenizer.room(self.config["max_length"], 1)))

    def _embedding(self, pooling=None, prompt_name=None):
        # Returns (dict with the keys of PLAIN, the prompt).
        if pooling is not None and pooling not in NAMES:
            raise ConfigError(f"pooling is {pooling!r}, but must be one of {', '.join(NAMES)}")
        self.check_tokenizer()
        if self.body.traits.source:
            raise ConfigError("embeddings of an encoder-decoder are not supported: use an encoder or a decoder")
        how = pooled_by(pooling) if pooling else self.embedding or PLAIN
        if how["problem"]:
            raise ConfigError(f"{how['problem']}; use embed(texts, pooling=\"mean\") for the Transformer's own vectors")
        name = how["default_prompt"] if prompt_name is None else prompt_name
        if name is not None and name not in how["prompts"]:
            raise ConfigError(f"prompt_name is {name!r}; available prompts: {', '.join(how['prompts']) or 'none'}")
        return how, how["prompts"].get(name, "")

    def skipped_by(self, how):
        """Return the number of the default prompt's tokens that the poolings in `how` ignore: int."""
        return self._skipped(how, how["prompts"].get(how["default_prompt"], ""))

    def _skipped(self, how, prompt):
        if how["include_prompt"] or not prompt:
            return 0
        # All tokens of the prompt, excluding the end-of-text token.
        tokens = np.asarray(self.tokenizer(prepared([prompt], how))["token_ids"])[0]
        return len(tokens) - int(tokens[-1] in self.tokenizer.special_ids)
