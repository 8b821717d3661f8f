"""Load keras-nlp presets (`keras_nlp:NAME` or `keras_nlp:FOLDER`) whose backbone belongs to one of tfzoo's families.

Encoders become bare bodies, decoders get a causal language-modeling head, and T5 gets a sequence-to-sequence head.
keras-nlp itself reads the preset, downloading it if necessary.
"""
import collections
import os
import re
import warnings

import numpy as np

from tfzoo import files
from tfzoo.errors import DataError, reason_of
from tfzoo.models import FAMILIES, build_body, config_of
from tfzoo.models.reference import name_in
from tfzoo.tasks import task_of
from tfzoo.tasks.build import put_head
from tfzoo.text.bpe import BytePairTokenizer
from tfzoo.text.sentencepiece import SentencePieceTokenizer
from tfzoo.text.wordpiece import WordPieceTokenizer

PREFIX = "keras_nlp:"
ARGUMENTS = {"vocabulary_size": "vocab_size", "vocab_size": "vocab_size", "num_layers": "num_layers",
             "num_heads": "num_heads", "num_query_heads": "num_heads", "num_key_value_heads": "num_kv_heads",
             "hidden_dim": "hidden_dim", "intermediate_dim": "ffn_dim", "dropout": "dropout",
             "max_sequence_length": "max_length", "num_segments": "num_segments", "embedding_dim": "embedding_dim",
             "head_dim": "head_dim", "key_value_dim": "head_dim", "layer_norm_epsilon": "epsilon",
             "rope_max_wavelength": "rope_theta", "sliding_window": "window"}
LEAVES = {"kernel": ("kernel",), "bias": ("bias",), "gamma": ("gamma", "scale", "weight"), "beta": ("beta",)}
ACTIVATIONS = {("relu", False): "relu", ("gelu", True): "geglu", ("gelu_approximate", True): "geglu_tanh",
               ("silu", True): "swiglu"}  # (T5's activation, whether it is gated) -> tfzoo's
SCALING = {"factor": "rope_frequency_adjustment_factor", "low_freq_factor": "rope_low_freq_factor",
           "high_freq_factor": "rope_high_freq_factor",
           "original_max_position_embeddings": "rope_pretraining_sequence_length"}

BYTE_PAIRS = ("GPT2Tokenizer", "RobertaTokenizer")  # for other models, keras-nlp splits texts incorrectly
PIECES = {"AlbertTokenizer": "AlbertTokenizer", "LlamaTokenizer": "LlamaTokenizer",
          "MistralTokenizer": "LlamaTokenizer", "T5Tokenizer": "T5Tokenizer"}


def read(source, dtype=None):
    """Read a preset.

    Args:
        source: str, "keras_nlp:NAME" or "keras_nlp:FOLDER".
        dtype: str, the dtype policy for computation, or None for Keras' global policy.

    Returns:
        (keras.Model, Tokenizer or None, str or None, dict): the model, its tokenizer, the reason why there is no
        tokenizer, if there is none, and the values for `Loaded.config`.

    Raises:
        FileNotFoundError: if the preset does not exist, or the network is unavailable.
        DataError: if tfzoo does not support the backbone or one of its settings.
        OSError: if the cache cannot be written.
    """
    import keras_nlp
    preset = os.path.expanduser(source[len(PREFIX):])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # T5's layers warn that they ignore Keras masks, but none are passed
            backbone = keras_nlp.models.Backbone.from_preset(preset, dtype="float32")
    except Exception as error:  # from keras-nlp, Kaggle or the network
        if failed := files.writing_error(error, f"the cache for {source}"):
            raise failed from None
        raise FileNotFoundError(f"{source} cannot be loaded ({reason_of(error)}): check the name and the network, or "
                                "pass the local folder of a preset") from None
    model, config = convert(backbone, dtype)
    return model, *_tokenizer_of(keras_nlp, preset), config


def convert(backbone, dtype=None):
    """Convert a keras-nlp backbone to a model with the same weights.

    Args:
        backbone: keras_nlp.models.Backbone.
        dtype: str, the dtype policy for computation, or None for Keras' global policy.

    Returns:
        (keras.Model, dict): the model, and the values for `Loaded.config`.

    Raises:
        DataError: if tfzoo does not support the backbone or one of its settings.
    """
    kind = type(backbone).__name__
    there = {name: family for family in FAMILIES if family.preset for name in family.preset.backbones}
    family = there.get(kind)
    if family is None:
        raise DataError(f"the preset is a {kind}, but must be one of {', '.join(there)}")
    theirs = _weights(backbone)
    arguments = _arguments(family, backbone.get_config(), theirs)
    body = build_body(family.name, dtype=dtype, **arguments)
    task = task_of("seq2seq" if body.traits.source else "causal_lm") if body.traits.causal else None
    model = body if task is None else put_head(body, family.name, task=task, rate=body.config["dropout"])
    left = dict(theirs)
    for variable in model.weights:
        value = left.pop(_name_of(variable.path, family.preset.names, theirs)).numpy()
        turned = value.shape == tuple(variable.shape)[::-1] and variable.path == "head/table"
        variable.assign((value.T if turned else value).reshape(variable.shape))
    if left:
        raise DataError(f"the preset has weights that {family.name} lacks, such as {next(iter(left))}: load it "
                        "with keras-nlp")
    return model, {"model": family.name, "task": task and task.name, "labels": None, "settings": {},
                   "max_length": body.config["max_length"], "kept": {}}


def _weights(backbone):
    # Returns a dict of path -> weight. Removes the backbone's name, which only some paths start with, and the numbers
    # in the names of T5's norms, which continue from one backbone to the next. If several of T5's weights share a path,
    # ":2" is appended to the second one, and so on.
    found, times = {}, collections.Counter()
    for weight in backbone.weights:
        path = re.sub(r"/t5_layer_norm_\d+/", "/t5_layer_norm/", weight.path.removeprefix(f"{backbone.name}/"))
        times[path] += 1
        found[path if times[path] == 1 else f"{path}:{times[path]}"] = weight
    return found


def _arguments(family, config, weights):
    found = {ours: config[key] for key, ours in ARGUMENTS.items() if config.get(key) is not None}
    known = config_of(family.name, **{key: found[key] for key in
                                      ("vocab_size", "num_layers", "hidden_dim", "num_heads", "ffn_dim")})
    found = {key: float(value) if isinstance(known[key], float) else value for key, value in found.items()
             if key in known}
    if config.get("rope_frequency_adjustment_factor"):
        found["rope_scaling"] = {"rope_type": "llama3", **{ours: config[key] for ours, key in SCALING.items()}}
    elif (config.get("rope_position_scaling_factor") or config.get("rope_scaling_factor") or 1.0) != 1.0:
        factor = config.get("rope_position_scaling_factor") or config.get("rope_scaling_factor")
        found["rope_scaling"] = {"rope_type": "linear", "factor": factor}
    if "use_gated_activation" in config:
        found["activation"] = _activation(config)
    if config.get("use_sliding_window_attention"):
        raise DataError("the preset's attention has a sliding window in some layers, which tfzoo does not support: "
                        "load it with keras-nlp")
    if "tied" in known:
        found["tied"] = "token_embedding/reverse_embeddings" not in weights
    if found.get("embedding_dim") == found["hidden_dim"] and "embeddings_projection/kernel" not in weights \
            and "embedding_projection/kernel" not in weights:
        found["embedding_dim"] = 0
    return {**found, **family.preset.own}


def _activation(config):
    kind = config["activation"] if isinstance(config["activation"], str) else config["activation"]["config"]
    kind = kind.rpartition(">")[2], config["use_gated_activation"]  # keras-nlp prefixes its own activations
    if kind not in ACTIVATIONS:
        allowed = ", ".join(f"{name}{' gated' * gated}" for name, gated in ACTIVATIONS)
        raise DataError(f"the preset's activation is {kind[0]}{' gated' * kind[1]}, but must be one of {allowed}")
    return ACTIVATIONS[kind]


def _name_of(path, names, there):
    name, leaf = name_in(names, path)
    found = [name] if isinstance(name, str) else name or []
    if leaf is not None:  # a suffix such as ":2" stays at the end
        found = [f"{layer}/{one}{colon}{place}" for layer, colon, place in (one.partition(":") for one in found)
                 for one in LEAVES[leaf]]
    found = next((one for one in found if one in there), None)
    if found is None:
        raise DataError(f"the preset has no weight for {path}: load it with keras-nlp")
    return found


def _tokenizer_of(keras_nlp, preset):
    # Returns (Tokenizer or None, the reason if it is None).
    try:
        tokenizer = keras_nlp.models.Tokenizer.from_preset(preset)
    except Exception as error:  # the preset has no tokenizer, or its vocabulary is damaged
        return None, f"the preset has no tokenizer that keras-nlp can read ({reason_of(error)})"
    kind = type(tokenizer).__name__
    try:
        if kind in BYTE_PAIRS:
            ids = {key: int(np.asarray(value)) for key, value in dict(tokenizer.vocabulary).items()}
            return BytePairTokenizer(ids, [tuple(merge.split(" ")) for merge in tokenizer.merges]), None
        if kind in PIECES:
            return SentencePieceTokenizer(tokenizer.proto, {"tokenizer_class": PIECES[kind], "clean_text": False}), None
        if hasattr(tokenizer, "suffix_indicator"):
            return WordPieceTokenizer(tokenizer.get_vocabulary(), bool(tokenizer.lowercase)), None
    except DataError as error:  # the vocabulary has different special tokens
        return None, f"the preset's {kind}: {error}"
    allowed = ", ".join((*BYTE_PAIRS, *PIECES))
    return None, (f"the preset's {kind} is not supported, only {allowed} and WordPiece: load the model from a "
                  "transformers folder instead")
