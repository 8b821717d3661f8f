"""What a sentence-transformers folder says of its vectors (Reimers, Gurevych 2019, arXiv:1908.10084).

modules.json names a chain of modules, each with its settings in a folder. A Transformer, a Pooling and perhaps a
Normalize are computed, as sentence-transformers 5.1 computes them; any other chain is kept as the problem for which
`Loaded.embed` refuses it, since the Transformer alone can still be fine-tuned.
"""
import json
import pathlib

import tensorflow as tf

from tfzoo.checkpoints.tensors import read_json
from tfzoo.errors import DataError, shown

MODULES, SETTINGS = "modules.json", "config_sentence_transformers.json"
TRANSFORMER_SETTINGS = [f"sentence_{kind}_config.json" for kind in (
    "bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")]
POOLINGS = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens",  # in the order of their columns
            "mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "weightedmean": "weightedmean_tokens",
            "lasttoken": "lasttoken"}
PLAIN = {"pooling": ["mean"], "include_prompt": True, "normalize": False, "strip": False, "lowercase": False,
         "prompts": {}, "default_prompt": None, "similarity": None, "problem": None}
OF_STRINGS = {"default_prompt", "similarity", "problem"}  # or None
NO_LIMIT = 2 ** 24


def transformer_of(folder):
    """Return the folder of a chain's Transformer, which is the folder itself where it has no modules.json.

    Raises:
        DataError: for a modules.json that is damaged, or leads out of the folder.
    """
    if not (folder / MODULES).is_file():
        return folder
    return folder / _modules(folder)[0][1]


def _modules(folder):
    """Return list of (kind, path) of the modules."""
    found = read_json(folder / MODULES, list)
    if not found or not all(isinstance(module, dict) and isinstance(module.get("type"), str) and isinstance(
            module.get("path"), str) for module in found):
        raise DataError(f"{folder / MODULES} is damaged (no list of modules with type and path): get it again")
    for module in found:
        parts = pathlib.PurePosixPath(module["path"]).parts
        if len(parts) > 1 or ".." in parts or "/" in parts or "\\" in module["path"] or len(module["path"]) > 200:
            raise DataError(f"{folder / MODULES} has the path {shown(module['path'])}: allowed are folders beside it")
    return [(module["type"].removeprefix("sentence_transformers.models."), module["path"]) for module in found]


def read(folder, body):
    """Read how a folder's vectors are made.

    Args:
        folder: path.
        body: Body, its Transformer.

    Returns:
        (dict as PLAIN, the longest text in tokens: int), or (None, the body's longest) without modules.json.

    Raises:
        DataError: for files that are damaged.
    """
    longest = body.config["max_length"]
    if not (folder / MODULES).is_file():
        return None, longest
    modules, how = _modules(folder), {**PLAIN, "strip": True}
    kinds, inside = [kind for kind, _ in modules], folder / modules[0][1]
    problems = []
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        problems.append(f"{folder / MODULES} has {shown(', '.join(kinds))}: allowed are Transformer, Pooling and "
                        "Normalize")
    else:
        problems += _read_pooling(folder / modules[1][1] / "config.json", how)
        how["normalize"] = len(kinds) == 3
    problems += _read_settings(folder / SETTINGS, how)
    path = next((inside / name for name in TRANSFORMER_SETTINGS if (inside / name).is_file()), None)
    said = read_json(path) if path else {}
    how["lowercase"] = said.pop("do_lower_case", False)
    length, strange = said.pop("max_seq_length", None), [key for key, value in said.items() if value]
    if strange:
        problems.append(f"{path} has {shown(strange[0])}: allowed are max_seq_length and do_lower_case")
    path = inside / "tokenizer_config.json"
    tokenizer = read_json(path) if path.is_file() else {}
    length = tokenizer.get("model_max_length") if length is None else length
    if length is not None and (isinstance(length, bool) or not isinstance(length, (int, float)) or length < 1):
        problems.append(f"{inside} has the longest text of {shown(length)} tokens: allowed is 1 or more")
        length = None
    if tokenizer.get("padding_side", "right") != "right" and (
            body.config.get("positions") != "rotary" or not how["include_prompt"]
            or {"cls", "weightedmean"} & set(how["pooling"])):
        problems.append(f"{path} pads on the left: allowed here are rotary positions, and none of cls, weightedmean "
                        "and include_prompt false")
    how["problem"] = problems[0] if problems else None
    return checked(how, folder), int(min(longest, length or NO_LIMIT))


def _read_pooling(path, how):
    """Set pooling and include_prompt; return problems: list of str."""
    said = read_json(path)
    said.pop("word_embedding_dimension", None)
    how["include_prompt"] = said.pop("include_prompt", True)
    modes = {name: said.pop(f"pooling_mode_{word}", name == "mean") for name, word in POOLINGS.items()}
    one = said.pop("pooling_mode", None)
    how["pooling"] = [name for name, on in modes.items() if on] if one is None else [str(one).lower()]
    if said:
        return [f"{path} has {shown(next(iter(said)))}: allowed are include_prompt and the pooling modes "
                f"{', '.join(POOLINGS)}"]
    if not how["pooling"] or not set(how["pooling"]) <= set(POOLINGS):
        return [f"{path} has the pooling {shown(how['pooling'])}: allowed are {', '.join(POOLINGS)}"]
    if not how["include_prompt"] and {"cls", "max"} <= set(how["pooling"]):
        return [f"{path} has cls and max without the prompt: allowed is one of them"]  # their cls is masked then
    return []


def _read_settings(path, how):
    """Set prompts and similarity; return problems: list of str."""
    said = read_json(path) if path.is_file() else {}
    prompts = said.get("prompts") or {}
    how["prompts"] = {"query": "", "document": "", **prompts} if isinstance(prompts, dict) else {"": prompts}
    how["default_prompt"], how["similarity"] = said.get("default_prompt_name"), said.get("similarity_fn_name")
    if said.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        return [f"{path} has the model_type {shown(said['model_type'])}: allowed is SentenceTransformer"]
    if how["default_prompt"] not in (None, *how["prompts"]):
        return [f"{path} has the default prompt {shown(how['default_prompt'])}: allowed are "
                f"{', '.join(map(shown, how['prompts']))}"]
    return []


def checked(how, where):
    """Return a dict as PLAIN, or raise DataError where it is none; `where` names the file."""
    right = isinstance(how, dict) and how.keys() == PLAIN.keys() and all(
        value is None or isinstance(value, str) if key in OF_STRINGS else isinstance(value, type(PLAIN[key]))
        for key, value in how.items())
    if not right or not all(isinstance(text, str) for text in (*how["prompts"].values(), *how["pooling"])) or (
            how["problem"] is None and not set(how["pooling"]) <= set(POOLINGS)):
        raise DataError(f"{where}: how its vectors are made is damaged ({shown(how)}): get it again")
    return how


def prepared(texts, how, prompt=""):
    """Return texts as they are encoded: list of str."""
    texts = [prompt + text for text in texts]
    texts = [text.strip() for text in texts] if how["strip"] else texts
    return [text.lower() for text in texts] if how["lowercase"] else texts


def pool(sequence, real, how, skipped=0):
    """Make the vectors of texts.

    Args:
        sequence: float [B, T, D].
        real: int32 [B, T], 1 for tokens and 0 for padding.
        how: dict as PLAIN.
        skipped: int, tokens at the begin, of the prompt, which only cls counts.

    Returns:
        float32 [B, N x D] for N poolings.
    """
    sequence, real = tf.cast(sequence, tf.float32), tf.cast(real, tf.float32)[:, :, None]
    places = tf.range(1.0, tf.cast(tf.shape(real)[1], tf.float32) + 1)[None, :, None]
    counted = tf.where(places > skipped, real, 0.0)

    def mean(weights, power=1.0):
        return tf.reduce_sum(sequence * weights, 1) / tf.maximum(tf.reduce_sum(weights, 1), 1e-9) ** power

    found = []
    for name in how["pooling"]:
        if name == "cls":
            found.append((sequence * real)[:, 0])  # 0 for a text without any token
        elif name == "max":
            found.append(tf.reduce_max(tf.where(counted > 0, sequence, -1e9), 1))
        elif name == "lasttoken":
            last = tf.reduce_max(counted * places, 1, keepdims=True)
            found.append(tf.reduce_sum(tf.where(places == last, sequence, 0.0), 1))
        else:
            weights = counted * places if name == "weightedmean" else counted
            found.append(mean(weights, 0.5 if name == "mean_sqrt_len_tokens" else 1.0))
    vectors = tf.concat(found, 1)
    return vectors / tf.maximum(tf.norm(vectors, axis=1, keepdims=True), 1e-12) if how["normalize"] else vectors


def write(how, folder, width, max_length):
    """Write the files of a chain without problem beside its Transformer's.

    Args:
        how: dict as PLAIN. folder: path. width: int, D. max_length: int.
    """
    names = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")][:2 + how["normalize"]]
    modes = {f"pooling_mode_{word}": name in how["pooling"] for name, word in POOLINGS.items()}
    files = {
        MODULES: [{"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
                  for number, (path, kind) in enumerate(names)],
        "1_Pooling/config.json": {"word_embedding_dimension": width, **modes, "include_prompt": how["include_prompt"]},
        TRANSFORMER_SETTINGS[0]: {"max_seq_length": max_length, "do_lower_case": how["lowercase"]},
        SETTINGS: {"model_type": "SentenceTransformer", "prompts": how["prompts"],
                   "default_prompt_name": how["default_prompt"], "similarity_fn_name": how["similarity"]}}
    for path, _ in names:
        (folder / path).mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
