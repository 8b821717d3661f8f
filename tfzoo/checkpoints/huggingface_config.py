"""Convert the config.json of Hugging Face's transformers to tfzoo's arguments and back."""
from tfzoo.checkpoints.tensors import read_json
from tfzoo.errors import ConfigError, DataError, shown
from tfzoo.layers.positions import check_scaling
from tfzoo.models.reference import PROBLEMS
from tfzoo.text.chat import Chat

LARGEST = {"num_layers": 1000, "num_labels": 10 ** 6}  # more than any published model has; others: 2 ** 24
LEAST = {"buckets": 4, "max_distance": 2}
FLOATS = {"epsilon": (0, 1), "initializer_range": (0, 10), "dropout": (0, 1), "rope_theta": (1.001, 1e12)}
FIXED = {"quantization_config": (None,), "pruned_heads": ({}, None), "tie_encoder_decoder": (False,),
         "partial_rotary_factor": (1.0,)}  # for all families
GENERATION = "generation_config.json"
OPTIONS = ("max_new_tokens", "min_new_tokens", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff",
           "eta_cutoff", "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "bad_words_ids",
           "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "num_beams",
           "length_penalty", "early_stopping", "num_return_sequences")
KEPT = ("pad_token_id", "bos_token_id", "eos_token_id")
MAY_BE_NONE = ("ffn_dim", "num_kv_heads", "head_dim", "window")  # null means 0


def arguments_of(family, config, path="config.json"):
    """Return tfzoo's arguments for the body that a config.json describes: dict.

    Args:
        family: Family.
        config: dict, the content of config.json.
        path: str or path of the file, for error messages.

    Raises:
        DataError: if a size is invalid, or tfzoo does not support a setting for this family.
    """
    reference = family.reference
    config = {**reference.defaults, **_renamed(_of_version_5(config, path), reference.aliases, path)}
    for key, allowed in {**FIXED, **reference.fixed}.items():
        if config.get(key, allowed[0]) not in allowed:
            raise DataError(f"{path}: {key} is {shown(config[key])}, but must be {' or '.join(map(str, allowed))}")
    for one, other in reference.equal:
        if config.get(one) not in (None, config.get(other)):
            raise DataError(f"{path}: {one} is {shown(config[one])}, but must equal {other}, which is "
                            f"{shown(config.get(other))}")
    for key, expected in _implied(config).items():
        if config.get(key, expected) != expected:
            raise DataError(f"{path}: {key} is {shown(config[key])}, but the other settings require {shown(expected)}")
    found = {key: value for key, value in family.common.items() if key not in reference.arguments}
    for ours, theirs in {**reference.arguments, "dropout": reference.dropouts[0]}.items():
        found[ours] = checked(f"{path}: {theirs}", config.get(theirs), ours=ours, reference=reference)
    if not found.get("ffn_dim"):
        found["ffn_dim"] = 4 * found["hidden_dim"]
    if not reference.projected and found.get("embedding_dim") == found["hidden_dim"]:
        found["embedding_dim"] = 0
    found["max_length"] -= found.get("position_offset", 0)
    scaling = found.get("rope_scaling")
    if scaling and scaling["rope_type"] == "yarn":
        scaling.setdefault("original_max_position_embeddings", found["max_length"])
    found = canonical(found)
    if found.get("max_distance", 1) <= found.get("buckets", 0) // 2:
        raise DataError(f"{path}: {found['buckets']} buckets for distances up to {found['max_distance']}, but the "
                        "number of buckets must be less than twice the maximum distance")
    if found["max_length"] < 1 or not found.get("head_dim") and found["hidden_dim"] % found["num_heads"]:
        raise DataError(f"{path}: {found['max_length']} positions, a width of {found['hidden_dim']} and "
                        f"{found['num_heads']} heads, but there must be at least one position, and the number of heads "
                        "must divide the width")
    return found


def _renamed(config, aliases, path):
    config = dict(config)
    for alias, key in aliases.items():
        if alias in config:
            value = config.pop(alias)
            if config.setdefault(key, value) != value:
                raise DataError(f"{path}: {alias} is {shown(value)}, but {key} is {shown(config[key])}: keep only one "
                                "of them")
    return config


def _implied(config):
    # Returns a dict of key -> required value, for keys whose values follow from other keys.
    found, layers = {}, config.get("layer_types")
    if layers is not None:
        found["layer_types"] = ["full_attention"] * len(layers if isinstance(layers, list) else ())
    if isinstance(config.get("feed_forward_proj"), str):  # transformers' T5 uses these two keys if they are present
        *gated, activation = config["feed_forward_proj"].split("-")
        activation = "gelu_new" if gated and activation == "gelu" else activation
        found.update(is_gated_act=bool(gated), dense_act_fn=activation)
    return found


def _of_version_5(config, path):
    # Converts keys from transformers 5 to transformers 4, which the references use.
    config = dict(config)
    rotary = config.pop("rope_parameters", None)
    if rotary is not None:
        if not isinstance(rotary, dict):
            raise DataError(f"{path}: rope_parameters is {shown(rotary)}, but must be an object")
        rotary = dict(rotary)
        given = {"rope_theta": rotary.pop("rope_theta", config.get("rope_theta", 10000.0)),
                 "rope_scaling": None if rotary.get("rope_type", "default") == "default" else rotary}
        for key, value in given.items():
            if config.setdefault(key, value) != value:
                raise DataError(f"{path}: {key} and rope_parameters disagree: keep only one of them")
    if config.get("scale_decoder_outputs") not in (None, config.get("tie_word_embeddings", True)):
        raise DataError(f"{path}: scale_decoder_outputs is {shown(config['scale_decoder_outputs'])}, but must equal "
                        "tie_word_embeddings: save the folder with transformers 4")
    return config


def canonical(config):
    """Return a copy of a config with num_kv_heads and head_dim set to 0 if they have their default values: dict."""
    config = dict(config)
    if config.get("num_kv_heads") == config["num_heads"]:
        config["num_kv_heads"] = 0
    if config.get("head_dim", 0) * config["num_heads"] == config["hidden_dim"]:
        config["head_dim"] = 0
    return config


def checked(where, value, ours, reference):
    """Check a value from config.json and convert it to tfzoo's value for the corresponding argument.

    Args:
        where: str, the file and key, for error messages.
        value: object, the value in config.json.
        ours: str, tfzoo's name for the argument.
        reference: Reference, required only if `ours` is "activation".

    Returns:
        tfzoo's value for the argument.

    Raises:
        DataError: if the value is not allowed.
    """
    if ours == "activation":
        if not isinstance(value, str) or value not in reference.activations:
            raise DataError(f"{where} is {shown(value)}, but must be one of {', '.join(reference.activations)}")
        return reference.activations[value]
    if ours == "tied":
        if not isinstance(value, bool):
            raise DataError(f"{where} is {shown(value)}, but must be true or false")
        return value
    if ours == "rope_scaling":
        return _scaling_of(where, value)
    if ours in FLOATS:
        low, high = FLOATS[ours]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value < high:
            raise DataError(f"{where} is {shown(value)}, but must be a number of at least {low} and below {high:g}")
        return float(value)
    if value is None and ours in MAY_BE_NONE:
        return 0
    least, largest = LEAST.get(ours, 1), LARGEST.get(ours, 2 ** 24)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= largest:
        raise DataError(f"{where} is {shown(value)}, but must be an integer from {least} to {largest}")
    return value


def _scaling_of(where, value):
    if value is None:
        return None
    if not isinstance(value, dict):
        raise DataError(f"{where} is {shown(value)}, but must be null or an object")
    value = dict(value)
    kind = value.pop("type", value.get("rope_type"))
    if value.setdefault("rope_type", kind) != kind:
        raise DataError(f"{where}: type is {shown(kind)}, but rope_type is {shown(value['rope_type'])}: keep only one "
                        "of them")
    if value["rope_type"] == "default":
        return None
    try:
        check_scaling({"original_max_position_embeddings": 1, **value} if value["rope_type"] == "yarn" else value)
    except ConfigError as error:
        raise DataError(f"{where}: {error}") from None
    return value


def end_ids_of(folder, config, vocab_size):
    """Return the ids of the end-of-text tokens, following the same rules as transformers' `generate`.

    Args:
        folder: path.
        config: dict, the content of the folder's config.json.
        vocab_size: int; ids outside the vocabulary are ignored.

    Returns:
        list of int, from generation_config.json or else from config.json; empty if neither file specifies any.

    Raises:
        DataError: if eos_token_id is not null, an int or a list of int.
    """
    path = folder / GENERATION
    for said, where in ((read_json(path) if path.is_file() else {}, path), (config, folder / "config.json")):
        found = said.get("eos_token_id")
        found = [] if found is None else found if isinstance(found, list) else [found]
        if not all(type(number) is int for number in found):
            raise DataError(f"{where}: eos_token_id is {shown(said['eos_token_id'])}, but must be null, an id or a "
                            "list of ids")
        if ids := [number for number in found if 0 <= number < vocab_size]:
            return ids
    return []


def generation_of(folder, config):
    """Return the options of generation that a Hugging Face folder sets: dict, named as in tfzoo.generation.Options.

    Like transformers, config.json counts only without a generation_config.json. Without do_sample, nothing is sampled.

    Args:
        folder: path.
        config: dict, the content of the folder's config.json.
    """
    path, found = folder / GENERATION, {}
    said = read_json(path) if path.is_file() else config
    for name in OPTIONS:
        if said.get(name) is not None:
            found[name] = said[name]
    if said.get("do_sample") is not None:
        found["temperature"] = found.get("temperature", 1.0) if said["do_sample"] else 0.0
    return found


def generation_words(loaded, config):
    """Return the content to write to a model's generation_config.json: dict, which `generation_of` reads.

    With a chat template, the token that ends an answer is among the end tokens, because transformers would go on.

    Args:
        loaded: Loaded, a model that generates text.
        config: dict, the content of its config.json.
    """
    known = {**loaded.config["settings"], **loaded.config.get("generation", {})}
    found = {name: known[name] for name in OPTIONS if name in known}
    if "temperature" in found:
        found["do_sample"] = found["temperature"] > 0
        if not found["do_sample"]:
            del found["temperature"]
    found.update({name: config[name] for name in (*KEPT, "decoder_start_token_id") if name in config})
    if loaded.tokenizer is not None:
        chat = Chat(loaded.tokenizer).end_ids if loaded.tokenizer.chat_template else ()
        ends = list(dict.fromkeys((*loaded.end_ids, *chat)))
        found["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    return found


def kept_words(config):
    """Return the special-token ids in a config.json, which `write` needs if the model has no tokenizer: dict."""
    return {key: config[key] for key in KEPT if isinstance(config.get(key), (int, list))}


def words_of(family, body, head, loaded):
    """Return the content to write to a model's config.json: dict.

    Args:
        family: Family.
        body: dict, the body's config.
        head: Head or None.
        loaded: Loaded.

    Raises:
        ConfigError: if transformers has no equivalent of the activation.
    """
    reference = family.reference
    names = {ours: theirs for theirs, ours in reversed(reference.activations.items())}
    config = {"architectures": [head.architecture if head else reference.body], "model_type": reference.model_type}
    for ours, theirs in reference.arguments.items():
        value = body[ours]
        if ours == "activation":
            if value not in names:
                raise ConfigError(f"activation is {value!r}, but Hugging Face's {reference.model_type} only has "
                                  f"{', '.join(names)}")
            value = names[value]
        elif ours == "max_length":
            value += body.get("position_offset", 0)
        elif ours == "embedding_dim":
            value = value or body["hidden_dim"]
        elif ours == "num_kv_heads":
            value = value or body["num_heads"]
        elif ours == "head_dim":
            value = value or body["hidden_dim"] // body["num_heads"]
        elif ours == "window":
            value = value or None
        config[theirs] = value
    config.update({key: allowed[0] for key, allowed in reference.fixed.items()})
    config.update({key: body["dropout"] for key in reference.dropouts})
    word = reference.dropout_of(loaded.config["task"])[0]
    if word is not None and word not in reference.dropouts:
        config[word] = loaded.model.head.config["dropout"]
    config.update(loaded.config.get("kept", {}))
    if loaded.tokenizer is not None:
        ids = {"pad_token_id": loaded.tokenizer.pad_id}
        if family.body.traits_of(body).causal:  # models that generate text
            ends = list(loaded.end_ids)
            ids.update(bos_token_id=loaded.tokenizer.start_id, eos_token_id=ends if len(ends) > 1 else ends[0])
        config.update({key: value for key, value in ids.items() if value is not None})
    labels = ["LABEL_0"] if loaded.config["task"] == "regression" else loaded.config["labels"]
    if labels:
        config["id2label"] = {str(number): label for number, label in enumerate(labels)}
        config["label2id"] = {label: number for number, label in enumerate(labels)}
    if loaded.config["task"] in PROBLEMS:
        config["problem_type"] = PROBLEMS[loaded.config["task"]]
    return {**config, "torch_dtype": "float32"}
