"""Models, prompts and random options for comparing generation with transformers.

This module is imported in environments with torch (make_generation.py) and with tfzoo (tests), so it requires only
NumPy.
"""
import json
import pathlib
import re
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import families  # noqa: E402

PAD, ROOM, SHARPNESS = 0, 64, 3.0  # logits of a standard deviation near 3: no option is idle, and few are nearly equal
ARCHITECTURES = {"gpt": "OpenAIGPTLMHeadModel", "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM",
                 "llama_tied": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
                 "mistral_whole": "MistralForCausalLM", "qwen2_own": "Qwen2ForCausalLM",
                 "t5": "T5ForConditionalGeneration", "t5_1.1": "T5ForConditionalGeneration"}
LAST = rf"ln_f|^model\.norm|decoder\.final_layer_norm|h\.{families.LAYERS - 1}\.ln_2"
FACTORS = {r"wpe|positions_embed": 4, r"decoder.*relative": 15, r"decoder.*\.wi": 3,
           r"decoder.*SelfAttention\.[vo]\.|[qkvo]_proj\.weight": 2}
RANGES = {  # option -> its values; those that depend on a text are in `_from`
    "repetition_penalty": (1.3, 1.8, 0.85), "encoder_repetition_penalty": (1.4, 0.6), "no_repeat_ngram_size": (1, 2, 3),
    "min_new_tokens": (3, 9), "forced_bos_token_id": (7,), "forced_eos_token_id": (11,)}
WORDS = ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "eos_token_id")
SINGLE = (*RANGES, *WORDS)


def sourced(family):
    """Return whether a family is an encoder-decoder."""
    return family.startswith("t5")


def config_of(family, seed):
    """Return the config.json of a model with at least ROOM positions: dict."""
    config = families.config_of(family, ARCHITECTURES[family], seed)
    config.update({key: ROOM for key in ("n_positions", "max_position_embeddings") if key in config})
    return config


def weights_of(family, shapes, seed):
    """Return the weights of families.py, changed such that texts do not soon repeat themselves: FACTORS and SHARPNESS.

    The scale of the last norm is negative: otherwise, a tied head repeats the last token.
    """
    weights = families.weights_of(shapes, seed)
    # T5 with a tied head divides its logits by the square root of the width.
    last = -SHARPNESS * (weights["shared.weight"].shape[1] ** 0.5 if family == "t5" else 1.0)
    for name in weights:
        for pattern, factor in {**FACTORS, LAST: last}.items():
            if re.search(pattern, name):
                weights[name] = (weights[name] * np.float32(factor)).astype(np.float32)
    return weights


def write_folder(about, folder):
    """Write a model's folder as transformers would; `about` is a dict with family, config, shapes and seed."""
    from safetensors.numpy import save_file
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights_of(about["family"], about["shapes"], about["seed"]), folder / "model.safetensors",
              {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(about["config"]))


def inputs_of(family, rng):
    """Return random inputs: dict with `prompts` and, for an encoder-decoder, `source`, lists of 1 to 4 lists of ids."""
    def rows(least, most):
        return [rng.integers(2, families.VOCAB, rng.integers(least, most + 1)).tolist() for _ in range(count)]

    count = int(rng.integers(1, 5))
    if not sourced(family):
        return {"prompts": rows(1, 1) if rng.random() < 0.1 else rows(1, 12)}
    prompts = [[PAD, *row] for row in rows(1, 4)] if rng.random() < 0.2 else [[PAD]] * count
    return {"prompts": prompts, "source": rows(1, 20)}


def _from(name, rng, texts):
    # Return a value of an option that has an effect on texts, the lists of ids that are generated without it.
    if name == "eos_token_id" and rng.random() < 0.25:  # more ends than beams among the best candidates
        return rng.permutation(np.arange(1, families.VOCAB))[:15].tolist()
    ids = [token for text in texts for token in text if token != PAD] or [5]
    some = sorted({int(token) for token in rng.choice(ids, min(len(ids), int(rng.integers(1, 4))))})
    if name != "bad_words_ids":
        return [int(token) for token in rng.permutation(some)]
    found = [[token] for token in some]
    for text in texts:
        length = int(rng.integers(2, 5))
        begin = int(rng.integers(max(1, len(text) - length)))
        found.append([int(token) for token in text[begin:begin + length]])
    return [word for number, word in enumerate(found) if word and word not in found[:number]]


def options_of(rng, prompts, texts, *, beams, only=None):
    """Return random options under the names of transformers: dict.

    Args:
        rng: numpy.random.Generator.
        prompts: lists of ids.
        texts: lists of ids that the model generates for the same inputs without any options.
        beams: bool, whether to decode with beams.
        only: str, one of SINGLE or "many ends"; None combines several.
    """
    found = {"max_new_tokens": int(rng.choice((1, 5, 12, 20, 24)) if only is None else 20)}
    for name in SINGLE:
        if name == only or only is None and rng.random() < (0.6 if name == "eos_token_id" else 0.22):
            value = _from(name, rng, texts) if name in WORDS else rng.choice(RANGES[name]).item()
            found[name] = value
    if only == "many ends":  # most of the best candidates end
        found["eos_token_id"] = rng.permutation(np.arange(1, families.VOCAB))[:48].tolist()
    if only == "min_new_tokens":
        found["eos_token_id"] = _from("eos_token_id", rng, [text[:6] for text in texts])
    found.setdefault("eos_token_id", [])
    if "min_new_tokens" in found:
        found["min_new_tokens"] = min(found["min_new_tokens"], found["max_new_tokens"])
    for prompt, text in zip(prompts, texts):  # transformers ignores words that are longer than the context
        if "bad_words_ids" in found and len(prompt) == 1:
            found["bad_words_ids"].append([prompt[0], text[0]])
    forced = {found.get("forced_bos_token_id"), found.get("forced_eos_token_id")}
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        if name in found:  # a forced id that is suppressed leaves nothing to choose
            found[name] = [token for token in found[name] if token not in forced] or [3]
    if beams:
        found["num_beams"] = int(rng.integers(2, 6))
        found["length_penalty"] = float(rng.choice((1.0, 1.0, 0.0, -1.0, 0.6, 2.0)))
        found["early_stopping"] = (True, False, "never")[rng.integers(3)]
        found["num_return_sequences"] = int(rng.integers(1, found["num_beams"] + 1))
        if "forced_bos_token_id" in found:  # the beams are alike after the first step
            found["max_new_tokens"] = max(found["max_new_tokens"], 5)
    return found


# ---- Processors alone
WARPERS = {"temperature": (0.6, 1.7), "top_k": (1, 5), "top_p": (0.05, 0.8, 0.97), "min_p": (0.02, 0.3, 1.0),
           "typical_p": (0.1, 0.6, 0.95), "epsilon_cutoff": (0.003, 0.05, 0.9), "eta_cutoff": (0.003, 0.1, 0.9)}


def warpers_of(rng, count):
    """Return options of warpers, each alone and in `count` combinations: list of (dict, how many ids to keep)."""
    alone = [{name: value} for name, values in WARPERS.items() for value in values]
    mixed = [{name: rng.choice(values).item() for name, values in WARPERS.items() if rng.random() < 0.45}
             for _ in range(count)]
    return [(options, least) for options in (*alone, *mixed) if options for least in (1, 2)]
