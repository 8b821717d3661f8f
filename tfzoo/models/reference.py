"""How others keep a family: transformers' words of config.json and names of tensors, keras-nlp's names of weights.

Only data: `tfzoo.checkpoints.huggingface` and `tfzoo.checkpoints.keras_nlp` read by it.
"""
import dataclasses
import re

from tfzoo.layers.feed_forward import GATED

ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
               "gelu_python_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_accurate": "gelu_tanh", "relu": "relu",
               "silu": "silu", "swish": "silu", "tanh": "tanh"}  # theirs -> ours, of several the first is written
GATE_ACTIVATIONS = {theirs: gated for theirs, ours in ACTIVATIONS.items() for gated, of_gate in GATED.items()
                    if of_gate == ours}


@dataclasses.dataclass(frozen=True)
class Head:
    """A task's model there.

    Attributes:
        architecture: str, the class that config.json names.
        names: dict of our path -> the name of its tensor or layer.
        pooler: bool or None, whether the body has one in this model; None for bodies that never have.
        tied: dict of the name of a tensor that repeats another -> that one's name.
        prefix: str or None, what stands before the body's names, where it is not the family's.
        activation: str or None, the one of ours that the head has whatever config.json says.
    """
    architecture: str
    names: dict
    pooler: bool | None = None
    tied: dict = dataclasses.field(default_factory=dict)
    prefix: str | None = None
    activation: str | None = None


@dataclasses.dataclass(frozen=True)
class Reference:
    """A family there.

    Attributes:
        model_type: str, as config.json has it.
        body: str, the class of the model without a head.
        prefix: str, what stands before the body's names in a model with a head.
        arguments: dict of our argument -> the key of config.json.
        activations: dict of their activation -> ours.
        defaults: dict of key -> value where config.json omits it.
        aliases: dict of a second name of a key -> the key (transformers' attribute_map).
        fixed: dict of key -> the values that we compute, the default first; others are refused.
        equal: tuple of pairs of keys that must agree where both are there.
        names: dict of our path -> the name of its tensor or layer, with {n} for the number of the block; or two, the
            first for models with gates. A layer's kernel is its .weight. Paths of one name share it: query, key and
            value in the columns of one kernel.
        heads: dict of task -> Head.
        dropouts: tuple of keys that hold our one rate, the first is read.
        head_dropouts: dict of task -> (key of the rate before its projection, the rate where it is left out, None for
            the body's); heads of other tasks drop nothing.
        transposed: bool, whether the body's kernels are kept as [out, in], as those of heads always are.
        projected: bool, whether embeddings as wide as the blocks have a projection after them too.
        known: tuple of regular expressions of tensors that are no weights, or are of heads that we do not have.
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
    """Find a variable in a family's names.

    Args:
        names: dict of our path, of a variable or of its layer -> theirs.
        path: str, the variable's.

    Returns:
        (theirs with the number of the block in it, the variable's leaf as "kernel", or None where the path itself has
        the name), or (None, None).
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
    """Return the names of a dict of layers, one or two each, below a path of ours and a name of theirs."""
    return {f"{ours}/{path}": f"{theirs}.{name}" if isinstance(name, str) else tuple(f"{theirs}.{one}" for one in name)
            for path, name in layers.items()}


KERAS_NLP_BLOCK = {
    "attention/query": "self_attention_layer/query", "attention/key": "self_attention_layer/key",
    "attention/value": "self_attention_layer/value", "attention/output": "self_attention_layer/attention_output",
    "attention_norm": "self_attention_layer_norm", "feed_forward/up": "feedforward_intermediate_dense",
    "feed_forward/down": "feedforward_output_dense", "feed_forward_norm": "feedforward_layer_norm"}


@dataclasses.dataclass(frozen=True)
class Preset:
    """A family in keras-nlp.

    Attributes:
        backbones: tuple of str, its classes.
        names: dict of our path -> the path of its weight, as in Reference.
        own: dict, arguments of ours that all of its models have.
    """
    backbones: tuple
    names: dict
    own: dict


def preset_of(*backbones, block=KERAS_NLP_BLOCK, layer="transformer_layer_{n}", names=None, **own):
    """Return the Preset of some backbones; names of blocks are given as `layer` and the names in it."""
    blocks = {f"block_{{n}}/{path}": f"{layer}/{name}" for path, name in block.items()}
    return Preset(backbones, {**(names or {}), **blocks}, own)
