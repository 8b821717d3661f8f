"""How other libraries store a family: transformers' config.json keys and tensor names, keras-nlp's weight names.

This module contains only data; `tfzoo.checkpoints.huggingface` and `tfzoo.checkpoints.keras_nlp` read it.
"""
import dataclasses
import re

from tfzoo.layers.feed_forward import GATED

ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
               "gelu_python_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_accurate": "gelu_tanh", "relu": "relu",
               "silu": "silu", "swish": "silu", "tanh": "tanh"}  # theirs -> ours; the first match is written
GATE_ACTIVATIONS = {theirs: gated for theirs, ours in ACTIVATIONS.items() for gated, of_gate in GATED.items()
                    if of_gate == ours}


@dataclasses.dataclass(frozen=True)
class Head:
    """Describe transformers' model for a task.

    Attributes:
        architecture: str, the name of the class in config.json.
        names: dict of our path -> the name of its tensor or layer.
        pooler: bool or None, whether the body has a pooler in this model; None for bodies that never have one.
        tied: dict of the name of a tied tensor -> the name of the tensor that it repeats.
        prefix: str, prefix of the body's tensor names; None for the family's.
        activation: str, our name for the head's activation if it does not depend on config.json, else None.
    """
    architecture: str
    names: dict
    pooler: bool | None = None
    tied: dict = dataclasses.field(default_factory=dict)
    prefix: str | None = None
    activation: str | None = None


@dataclasses.dataclass(frozen=True)
class Reference:
    """Describe a family in transformers.

    Attributes:
        model_type: str, its value in config.json.
        body: str, the name of the class without a head.
        prefix: str, prefix of the body's tensor names in a model with a head.
        arguments: dict of our argument -> its key in config.json.
        activations: dict of their activation -> ours.
        defaults: dict of key -> its value if config.json omits it.
        aliases: dict of alternative key -> key (transformers' attribute_map).
        fixed: dict of key -> tuple of the supported values, the default first; other values are rejected.
        equal: tuple of pairs of keys; if the first key is present, its value must equal that of the second.
        names: dict of our path -> the name of its tensor or layer, with {n} for the block number; or two names, the
            first for models with gates. The kernel of a layer is its tensor "weight". Paths with the same name share
            a tensor: query, key and value are the columns of one kernel.
        heads: dict of task -> Head.
        dropouts: tuple of the keys for the body's only dropout rate; the first is read, all are written.
        head_dropouts: dict of task -> (key of the dropout rate before the head's projection, the rate if config.json
            omits the key, or None for the body's); heads of other tasks have no dropout.
        transposed: bool, whether the body's kernels are stored as [out, in]; those of heads always are.
        projected: bool, whether there is a projection even if the embeddings are as wide as the blocks.
        known: tuple of regular expressions for tensors that are not weights or belong to heads that tfzoo lacks.
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
        task: ("classifier_dropout", None) for task in ("classification", "tagging")})
    transposed: bool = True
    projected: bool = True
    known: tuple = ()


def name_in(names, path):
    """Look up the name of a variable in another library.

    Args:
        names: dict of our path (of a variable or its layer) -> their name, or a tuple of two names.
        path: str, the variable's path.

    Returns:
        (their name or names with the block number filled in, the last part of the path such as "kernel", or None if
        `names` contains the whole path); (None, None) if there is no name.
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
    """Prefix the paths of `layers` (dict of path -> one or two names) with `ours`, and the names with `theirs`."""
    return {f"{ours}/{path}": f"{theirs}.{name}" if isinstance(name, str) else tuple(f"{theirs}.{one}" for one in name)
            for path, name in layers.items()}


KERAS_NLP_BLOCK = {
    "attention/query": "self_attention_layer/query", "attention/key": "self_attention_layer/key",
    "attention/value": "self_attention_layer/value", "attention/output": "self_attention_layer/attention_output",
    "attention_norm": "self_attention_layer_norm", "feed_forward/up": "feedforward_intermediate_dense",
    "feed_forward/down": "feedforward_output_dense", "feed_forward_norm": "feedforward_layer_norm"}


@dataclasses.dataclass(frozen=True)
class Preset:
    """Describe a family in keras-nlp.

    Attributes:
        backbones: tuple of str, the names of its backbone classes.
        names: dict of our path -> the path of its weight or layer, see Reference.
        own: dict, our arguments that have the same value for all its models.
    """
    backbones: tuple
    names: dict
    own: dict


def preset_of(*backbones, block=KERAS_NLP_BLOCK, layer="transformer_layer_{n}", names=None, **own):
    """Return the Preset of a family.

    Args:
        backbones: str, the names of keras-nlp's backbone classes.
        block: dict of our path within a block -> the name within `layer`.
        layer: str, keras-nlp's name for a block, with {n} for its number.
        names: dict, the names outside the blocks, or None.
        own: our arguments that have the same value for all its models.
    """
    blocks = {f"block_{{n}}/{path}": f"{layer}/{name}" for path, name in block.items()}
    return Preset(backbones, {**(names or {}), **blocks}, own)
