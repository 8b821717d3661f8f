"""Names for each family's settings and weights in transformers and keras-nlp.

This module contains only data; `tfzoo.checkpoints.huggingface` and `tfzoo.checkpoints.keras_nlp` read it.
"""
import dataclasses
import re

from tfzoo.layers.feed_forward import GATED

ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
               "gelu_python_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_accurate": "gelu_tanh", "relu": "relu",
               "silu": "silu", "swish": "silu", "tanh": "tanh"}  # theirs -> ours; the first match is used for writing
GATE_ACTIVATIONS = {theirs: gated for theirs, ours in ACTIVATIONS.items() for gated, of_gate in GATED.items()
                    if of_gate == ours}
CLASSIFIER = {"head/dense": "classifier"}
# Tasks whose models have the same class in transformers, and the problem_type that tells them apart.
PROBLEMS = {"classification": "single_label_classification", "regression": "regression",
            "multi_label": "multi_label_classification"}


@dataclasses.dataclass(frozen=True)
class Head:
    """The model class that transformers has for a task.

    Attributes:
        architecture: str, the class name in config.json.
        names: dict of tfzoo path -> name of the tensor or layer in transformers.
        pooler: bool or None, whether the body has a pooler in this model; None for bodies that never have one.
        tied: dict of tied tensor name -> name of the tensor that it duplicates.
        prefix: str, prefix of the body's tensor names; None to use the family's prefix.
        activation: str, tfzoo's name for the head's activation if config.json does not set it, else None.
    """
    architecture: str
    names: dict
    pooler: bool | None = None
    tied: dict = dataclasses.field(default_factory=dict)
    prefix: str | None = None
    activation: str | None = None


@dataclasses.dataclass(frozen=True)
class Reference:
    """How transformers stores a family.

    Attributes:
        model_type: str, the value of `model_type` in config.json.
        body: str, the name of the class without a head, such as "BertModel".
        prefix: str, prefix of the body's tensor names in a model with a head.
        arguments: dict of tfzoo argument -> key in config.json.
        activations: dict of transformers' activation name -> tfzoo's.
        defaults: dict of key -> value to use if config.json omits the key.
        aliases: dict of alternative key -> key (transformers' attribute_map).
        fixed: dict of key -> tuple of supported values, starting with the default; other values are rejected.
        equal: tuple of key pairs; if the first key of a pair is present, its value must equal the second key's value.
        names: dict of tfzoo path -> name of the tensor or layer in transformers, with {n} for the block number. A tuple
            of two names gives one for models with gated feed-forward layers and one for all others. A layer's kernel is
            its tensor "weight". Paths with the same name share one tensor; for example, GPT-2 stores query, key and
            value as the columns of one kernel.
        heads: dict of task -> Head; "classification" stands for all tasks in PROBLEMS.
        dropouts: tuple of the keys that set the body's single dropout rate; the first is read, and all are written.
        head_dropouts: dict of task -> (key for the dropout rate before the head's projection, rate to use if
            config.json omits the key). A rate of None means the body's rate. Heads for other tasks have no dropout.
        transposed: bool, whether the body's kernels are stored as [out, in]; head kernels always are.
        projected: bool, whether the embeddings are projected even if they are already as wide as the blocks.
        known: tuple of regular expressions for the names of tensors to ignore: buffers, and heads that tfzoo does not
            support.
    """
    model_type: str
    body: str
    prefix: str
    arguments: dict
    names: dict
    heads: dict
    defaults: dict = dataclasses.field(default_factory=dict)
    aliases: dict = dataclasses.field(default_factory=dict)
    fixed: dict = dataclasses.field(default_factory=dict)
    equal: tuple = ()
    activations: dict = dataclasses.field(default_factory=lambda: ACTIVATIONS)
    dropouts: tuple = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    head_dropouts: dict = dataclasses.field(default_factory=lambda: {
        task: ("classifier_dropout", None) for task in ("classification", "tagging", "multiple_choice")})
    transposed: bool = True
    projected: bool = True
    known: tuple = ()

    def head_of(self, task):
        """Return the Head for a task, or None."""
        return self.heads.get("classification" if task in PROBLEMS else task)

    def dropout_of(self, task):
        """Return the entry for a task in `head_dropouts`, by default (None, 0.0)."""
        return self.head_dropouts.get("classification" if task in PROBLEMS else task, (None, 0.0))


def name_in(names, path):
    """Look up another library's name for a variable.

    Args:
        names: dict of tfzoo path (of a variable or its layer) -> the other library's name, or a tuple of two names.
        path: str, the variable's path.

    Returns:
        (name, leaf): the other library's name, or tuple of two names, with the block number filled in; and the last
            part of the path, such as "kernel", or None if `names` contains the whole path. (None, None) if `names` has
            no entry for the variable.
    """
    number = re.search(r"block_(\d+)/", path)
    general = path.replace(number[0], "block_{n}/") if number else path
    layer, _, leaf = general.rpartition("/")
    found = names.get(general, names.get(layer))
    if number and found is not None:
        found = tuple(one.replace("{n}", str(int(number[1]))) for one in found) if isinstance(found, tuple) else \
            found.replace("{n}", str(int(number[1])))
    return found, None if found is None or general in names else leaf


def below(ours, theirs, layers):
    """Prefix each path in `layers`, a dict of path -> one or two names, with `ours`, and each name with `theirs`."""
    return {f"{ours}/{path}": f"{theirs}.{name}" if isinstance(name, str) else tuple(f"{theirs}.{one}" for one in name)
            for path, name in layers.items()}


def heads_of(name, classification=CLASSIFIER, multiple_choice=CLASSIFIER):
    """Return the heads that transformers has for encoders: dict of task -> Head.

    Args:
        name: str, with which the names of the classes begin, such as "Bert".
        classification, multiple_choice: dict, the `names` of these two heads.
    """
    return {"classification": Head(f"{name}ForSequenceClassification", classification, True),
            "multiple_choice": Head(f"{name}ForMultipleChoice", multiple_choice, True),
            "tagging": Head(f"{name}ForTokenClassification", CLASSIFIER, False),
            "question_answering": Head(f"{name}ForQuestionAnswering", {"head/dense": "qa_outputs"}, False)}


KERAS_NLP_BLOCK = {
    "attention/query": "self_attention_layer/query", "attention/key": "self_attention_layer/key",
    "attention/value": "self_attention_layer/value", "attention/output": "self_attention_layer/attention_output",
    "attention_norm": "self_attention_layer_norm", "feed_forward/up": "feedforward_intermediate_dense",
    "feed_forward/down": "feedforward_output_dense", "feed_forward_norm": "feedforward_layer_norm"}


@dataclasses.dataclass(frozen=True)
class Preset:
    """How keras-nlp stores a family.

    Attributes:
        backbones: tuple of str, the names of the family's backbone classes in keras-nlp.
        names: dict of tfzoo path -> path of the weight or layer in keras-nlp, in the same form as `Reference.names`.
        own: dict of the tfzoo arguments that are the same for all of the family's presets.
    """
    backbones: tuple
    names: dict
    own: dict


def preset_of(*backbones, block=KERAS_NLP_BLOCK, layer="transformer_layer_{n}", names=None, **own):
    """Return the Preset for a family.

    Args:
        backbones: str, the names of keras-nlp's backbone classes.
        block: dict of tfzoo path within a block -> keras-nlp's path within `layer`.
        layer: str, keras-nlp's name for a block, with {n} for its number.
        names: dict, the entries of `Preset.names` for weights outside the blocks, or None.
        own: the tfzoo arguments that are the same for all of the family's presets.
    """
    blocks = {f"block_{{n}}/{path}": f"{layer}/{name}" for path, name in block.items()}
    return Preset(backbones, {**(names or {}), **blocks}, own)
