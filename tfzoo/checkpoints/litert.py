"""Load exported LiteRT files, so that predict, evaluate and embed measure the file that is shipped."""
import numpy as np
import tensorflow as tf

from tfzoo.checkpoints.loaded import EMBED_BATCH, Loaded
from tfzoo.errors import ConfigError, DataError
from tfzoo.litert.generation import Generator
from tfzoo.litert.runner import Runner
from tfzoo.models import family_of
from tfzoo.tasks.embedding import PLAIN, checked, prepared
from tfzoo.text.tokenizer import as_texts


class LiteRTModel:
    """A stand-in for the model that was exported: predictions call the interpreter, also from inside a graph.

    Args:
        runner: Runner.

    Attributes:
        config, traits, input_names: those of the exported model's body.
        task: Task, or None.
    """

    weights, adapters = (), {}

    def __init__(self, runner):
        described = runner.config["litert"]
        self.runner, self.task, self.body = runner, None, self
        self.config, self.input_names = described["body"], tuple(described["inputs"])
        self.name = runner.config["model"]
        self.traits = family_of(self.name).body.traits_of(self.config)

    def __call__(self, inputs, *, only_read=False, embedded=None, keep=(), training=None):
        """Return the exported output of dict of int32 [B, T] or [B, N, T]: dict of one float32 tensor.

        Raises:
            ConfigError: if gradients or intermediate results are wanted, which the file does not have.
        """
        if embedded is not None or keep or training:
            raise ConfigError("a LiteRT file cannot be trained or interpreted: use the model that it was exported from")
        if "cache_length" in self.runner.config["litert"]:
            raise ConfigError("this LiteRT file generates text and has no logits for whole texts: use generate")
        names = [name for name in ("token_ids", "padding_mask", "segment_ids") if name in inputs]
        values = [inputs[name] for name in names]
        shape, failures = tf.shape(values[0]), []

        def run(*values):
            try:
                return self.runner.encode({name: value.reshape(-1, value.shape[-1])
                                           for name, value in zip(names, values)})
            except Exception as error:  # TensorFlow would hide its type
                failures.append(error)
                raise

        try:
            found = tf.numpy_function(run, [tf.cast(value, tf.int32) for value in values], tf.float32)
        except tf.errors.OpError:
            raise failures[0] if failures else DataError("the LiteRT interpreter failed") from None
        width = self.runner.output_shape[1:]  # [], [C] or [None, C]
        found.set_shape([None] * (1 + len(width)))
        found = tf.reshape(found, tf.concat([shape[:-1], tf.shape(found)[1:]], 0))
        found.set_shape([*values[0].shape[:-1], *(width if len(width) < 2 else (values[0].shape[-1], width[-1]))])
        return {self.runner.output: found}


class LoadedFile(Loaded):
    """A LiteRT file with its tokenizer and settings: `predict` and `embed`; see Loaded.

    Args:
        folder: pathlib.Path, written by `tfzoo.export.litert.export_litert`.
        tokenizer: Tokenizer.
        threads: int, the number of threads; None for the number of CPUs that this process may use.
    """

    def __init__(self, folder, tokenizer, threads=None):
        runner = Runner(folder, threads)
        config = {key: value for key, value in runner.config.items() if key not in ("litert", "files", "embedding")}
        checked(runner.config["embedding"] or PLAIN, folder / "config.json")
        embedding = {} if runner.config["embedding"] is None else {"embedding": runner.config["embedding"]}
        super().__init__(LiteRTModel(runner), tokenizer, {**config, **embedding})
        self.model.task, self.new_tokens = self.task, runner.config["litert"].get("new_tokens")
        if tokenizer.fingerprint != runner.config["litert"]["tokenizer"]:
            raise DataError(f"{folder}: the tokenizer's files are damaged or belong to another export: export the "
                            "model again")

    def check_weights(self):
        raise ConfigError("a LiteRT file has no weights to train, save or export: use the model that it was exported "
                          "from")

    def generator(self, options, draft=None, xla=False):
        if draft is not None or xla:
            raise ConfigError("--draft and --xla are not available for LiteRT files: omit them")
        return Generator(self.model.runner, options)

    def prompt_room(self, options):
        return self.generator(options).room

    def embed(self, texts, pooling=None, prompt_name=None):
        how, prompt = self._embedding(pooling, prompt_name)
        exported = self.config.get("embedding")
        if exported is None or how != exported or prompt != exported["prompts"].get(exported["default_prompt"], ""):
            raise ConfigError("this LiteRT file returns " + (
                "logits: export a model without a head, or one trained with contrastive learning" if exported is None
                else f"vectors with pooling {', '.join(exported['pooling'])} and its own prompt: omit pooling and "
                "prompt_name, or export the model again"))
        texts = prepared(as_texts(texts), how, prompt)
        inputs = self.tokenizer(texts, max_length=self.config["max_length"])
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        lengths = arrays["padding_mask"].sum(1)
        order, found = np.argsort(lengths, kind="stable"), []
        for first in range(0, len(order), EMBED_BATCH):
            chosen = order[first:first + EMBED_BATCH]
            columns = max(int(lengths[chosen].max()), 1)
            found.append(self.model.runner.encode({name: value[chosen, :columns] for name, value in arrays.items()}))
        vectors = np.zeros((len(texts), self.model.runner.output_shape[-1]), np.float32)
        if found:
            vectors[order] = np.concatenate(found)
        return vectors
