"""Read and write how a sentence-transformers folder computes embeddings (Reimers & Gurevych 2019, arXiv:1908.10084).

modules.json lists a chain of modules, each with its settings in a folder. A chain of Transformer, Pooling and,
optionally, Normalize is computed as in sentence-transformers 5.1. For any other chain, a problem is recorded and
`Loaded.embed` raises an error, but the Transformer can still be fine-tuned.
"""
import pathlib

from tfzoo.checkpoints.tensors import read_json, write_json
from tfzoo.errors import DataError, shown
from tfzoo.tasks.embedding import PLAIN, POOLINGS, checked

MODULES, SETTINGS = "modules.json", "config_sentence_transformers.json"
TRANSFORMER_SETTINGS = [f"sentence_{kind}_config.json" for kind in (
    "bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")]


def transformer_of(folder):
    """Return the folder that contains the Transformer module, or `folder` itself if it has no modules.json.

    Args:
        folder: path.

    Raises:
        DataError: if modules.json is damaged or contains a path outside the folder.
    """
    if not (folder / MODULES).is_file():
        return folder
    return folder / _modules(folder)[0][1]


def _modules(folder):
    # Returns a list of (kind, path).
    found = read_json(folder / MODULES, list)
    if not found or not all(isinstance(module, dict) and isinstance(module.get("type"), str) and isinstance(
            module.get("path"), str) for module in found):
        raise DataError(f"{folder / MODULES} is damaged (no list of modules with type and path): download or copy it "
                        "again")
    for module in found:
        parts = pathlib.PurePosixPath(module["path"]).parts
        if len(parts) > 1 or ".." in parts or "/" in parts or "\\" in module["path"] or len(module["path"]) > 200:
            raise DataError(f"{folder / MODULES}: the path {shown(module['path'])} must be a folder next to it")
    return [(module["type"].removeprefix("sentence_transformers.models."), module["path"]) for module in found]


def read(folder, body):
    """Read how to compute embedding vectors from a folder with modules.json.

    Args:
        folder: path.
        body: Body, the folder's Transformer.

    Returns:
        (dict, int): the settings, with the keys of PLAIN, and the maximum length in tokens.

    Raises:
        DataError: if a file is damaged.
    """
    longest = body.config["max_length"]
    modules, how = _modules(folder), {**PLAIN, "strip": True}
    kinds, inside = [kind for kind, _ in modules], folder / modules[0][1]
    problems = []
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        problems.append(f"{folder / MODULES} has {shown(', '.join(kinds))}, but must have Transformer, Pooling and "
                        "optionally Normalize")
    else:
        problems += _read_pooling(folder / modules[1][1] / "config.json", how)
        how["normalize"] = len(kinds) == 3
    problems += _read_settings(folder / SETTINGS, how)
    path = next((inside / name for name in TRANSFORMER_SETTINGS if (inside / name).is_file()), None)
    said = read_json(path) if path else {}
    how["lowercase"] = said.pop("do_lower_case", False)
    length, strange = said.pop("max_seq_length", None), [key for key, value in said.items() if value]
    if strange:
        problems.append(f"{path} has {shown(strange[0])}, but may only have max_seq_length and do_lower_case")
    path = inside / "tokenizer_config.json"
    tokenizer = read_json(path) if path.is_file() else {}
    length = tokenizer.get("model_max_length") if length is None else length
    if length is not None and (isinstance(length, bool) or not isinstance(length, (int, float)) or length < 1):
        problems.append(f"{inside} has a maximum length of {shown(length)} tokens, but it must be at least 1")
        length = None
    if tokenizer.get("padding_side", "right") != "right" and (
            body.config.get("positions") != "rotary" or not how["include_prompt"]
            or {"cls", "weightedmean"} & set(how["pooling"])):
        problems.append(f"{path} pads on the left, which is only supported with rotary positions, include_prompt true, "
                        "and neither cls nor weightedmean pooling")
    how["problem"] = problems[0] if problems else None
    return checked(how, folder), int(min(longest, length or longest))


def _read_pooling(path, how):
    # Sets pooling and include_prompt in `how`; returns the problems found: list of str.
    said = read_json(path)
    said.pop("word_embedding_dimension", None)
    how["include_prompt"] = said.pop("include_prompt", True)
    modes = {name: said.pop(f"pooling_mode_{word}", name == "mean") for name, word in POOLINGS.items()}
    one = said.pop("pooling_mode", None)
    how["pooling"] = [name for name, on in modes.items() if on] if one is None else [str(one).lower()]
    if said:
        return [f"{path} has {shown(next(iter(said)))}, but may only have include_prompt and the pooling modes "
                f"{', '.join(POOLINGS)}"]
    if not how["pooling"] or not set(how["pooling"]) <= set(POOLINGS):
        return [f"{path} has the pooling {shown(how['pooling'])}, but must use one or more of {', '.join(POOLINGS)}"]
    if not how["include_prompt"] and {"cls", "max"} <= set(how["pooling"]):
        # sentence-transformers would mask cls in this case.
        return [f"{path} combines cls and max pooling without the prompt, but may use only one of them"]
    return []


def _read_settings(path, how):
    # Sets the prompts and similarity in `how`; returns the problems found: list of str.
    said = read_json(path) if path.is_file() else {}
    prompts = said.get("prompts") or {}
    how["prompts"] = {"query": "", "document": "", **prompts} if isinstance(prompts, dict) else {"": prompts}
    how["default_prompt"], how["similarity"] = said.get("default_prompt_name"), said.get("similarity_fn_name")
    if said.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        return [f"{path} has the model_type {shown(said['model_type'])} instead of SentenceTransformer"]
    if how["default_prompt"] not in (None, *how["prompts"]):
        return [f"{path} has the default prompt {shown(how['default_prompt'])}, which is not one of "
                f"{', '.join(map(shown, how['prompts']))}"]
    return []


def write(how, folder, width, max_length):
    """Write the settings of all modules in a chain into the folder that contains the Transformer.

    Args:
        how: dict with the keys of PLAIN; its `problem` must be None.
        folder: path.
        width: int, the width D of the hidden states.
        max_length: int, the maximum length in tokens.
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
        write_json(folder / name, content)
