"""Random variants of config.json: tfzoo computes the same outputs and labels as transformers or rejects the file."""
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from tests.golden import families

BOUND = 1e-5  # relative, float32
ABSENT = "absent"
LABELS = [{"0": "no", "1": "yes", "2": "maybe"}, {"2": "c", "0": "a", "1": "b"}, {"0": "x", "1": "y"}, {"0": 5, "1": 6},
          {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, {}, None, {"0": "one"}, {"1": "a", "2": "b"},
          {"0": "a", "1": "a"}, ABSENT]
ANY = {
    "id2label": LABELS, "num_labels": [1, 2, 3, 5, None], "label2id": [{"a": 0, "b": 1}, {}, None, ABSENT],
    "problem_type": [None, "single_label_classification", "multi_label_classification", "regression"],
    "architectures": [ABSENT, None, [], "TF", "twice"], "pruned_heads": [{}, None, {"0": [0]}, {"1": [0, 1]}],
    "chunk_size_feed_forward": [0, 1, 5], "torch_dtype": ["float32", "float16", "bfloat16", None],
    "dtype": ["float32", "float16"], "tie_word_embeddings": [True, False, ABSENT], "is_decoder": [False, True],
    "add_cross_attention": [False, True], "is_encoder_decoder": [False, True, ABSENT], "tie_encoder_decoder": [True],
    "pad_token_id": [0, 1, 2, None, ABSENT], "output_hidden_states": [True], "torchscript": [True],
    "classifier_dropout": [0.3, 0.0, None], "cross_attention_hidden_size": [7], "use_cache": [False, True],
    "vocab_size": [60, 64], "return_dict": [False], "decoder_start_token_id": [0, 3, None, ABSENT],
    "layer_types": [["full_attention"] * 3, ["sliding_attention"] * 3], "head_dim": [None, 6, 10],
    "partial_rotary_factor": [0.5, 1.0], "attention_bias": [True, False], "sliding_window": [3, None, ABSENT],
    "hidden_size": [24, 48], "num_hidden_layers": [2, 3], "n_ctx": [9],
    "layer_norm_epsilon": [1e-3, 0.1], "layer_norm_eps": [1e-3, 0.1, 0, "1e-12", ABSENT],
    "intermediate_size": [20, ABSENT], "num_attention_heads": [1, 2, 4], "auto_map": [{"AutoModel": "other.Model"}]}
ACTIVATIONS = ["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "gelu_python_tanh", "gelu_accurate",
               "quick_gelu", "gelu_10", "relu", "relu2", "silu", "swish", "tanh", "mish", ABSENT]
BERT = {"hidden_act": ACTIVATIONS,
        "position_embedding_type": ["absolute", "relative_key", "relative_key_query", ABSENT],
        "type_vocab_size": [1, 2, 3, ABSENT], "max_position_embeddings": [30, ABSENT],
        "embedding_size": [11, 128, ABSENT], "num_hidden_groups": [1, 2], "inner_group_num": [1, 2],
        "summary_type": ["last"], "summary_activation": ["tanh"], "initializer_range": [0.5, ABSENT]}
YARN = {"rope_type": "yarn", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
ROTARY = {
    "hidden_act": ACTIVATIONS, "mlp_bias": [True, False], "pretraining_tp": [1, 2], "rms_norm_eps": [1e-2, ABSENT],
    "num_key_value_heads": [None, 1, ABSENT], "rope_theta": [100, 77.5, ABSENT], "use_sliding_window": [True, False],
    "max_window_layers": [0, 1, 5], "max_position_embeddings": [40, ABSENT], "head_dim": [None, 6, 10, ABSENT],
    "rope_scaling": [
        None, ABSENT, {"rope_type": "default"}, {"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 3},
        {"type": "linear", "rope_type": "linear", "factor": 2.0}, {"type": "dynamic", "factor": 2.0},
        {"type": "linear", "rope_type": "dynamic", "factor": 2.0},
        {"type": "yarn", "rope_type": "linear", "factor": 2.0}, LLAMA3, {**LLAMA3, "factor": 2}, YARN,
        {**YARN, "original_max_position_embeddings": 8}, {**YARN, "beta_fast": 5, "beta_slow": None},
        {**YARN, "attention_factor": 1.5, "mscale": 2.0}, {**YARN, "mscale": 2.0, "mscale_all_dim": 0.5},
        {**YARN, "truncate": False}, {**YARN, "factor": 0.5}, {"type": "mrope", "mrope_section": [1, 1, 1]},
        {"factor": 2.0}, {"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0], "long_factor": [1.0]}]}
OWN = {  # family -> keys
    "gpt2": {"activation_function": ACTIVATIONS, "scale_attn_weights": [True, False], "n_inner": [None, 30, ABSENT],
             "scale_attn_by_inverse_layer_idx": [True, False], "reorder_and_upcast_attn": [True, False],
             "n_embd": [ABSENT], "n_head": [1, ABSENT], "n_layer": [2, ABSENT], "n_positions": [30, ABSENT],
             "max_position_embeddings": [30]},
    "gpt": {"afn": ["gelu", "gelu_new", "relu", "silu", "swish", ABSENT], "n_embd": [ABSENT], "n_head": [1, ABSENT],
            "n_layer": [2, ABSENT], "n_positions": [30, ABSENT], "max_position_embeddings": [30]},
    "distilbert": {"activation": ACTIVATIONS, "sinusoidal_pos_embds": [True, False, ABSENT], "dim": [ABSENT],
                   "n_heads": [1, ABSENT], "n_layers": [2, ABSENT], "hidden_dim": [50, ABSENT],
                   "max_position_embeddings": [30, ABSENT], "seq_classif_dropout": [0.4]},
    "t5": {"feed_forward_proj": [*ACTIVATIONS, "gated-gelu", "gated-silu", "gated-relu", "gated-gelu_new",
                                 "gated-swish", "gated-gelu_pytorch_tanh"],
           "dense_act_fn": ["relu", "gelu", "gelu_new", "silu"], "is_gated_act": [True, False],
           "num_decoder_layers": [None, 3, 2, ABSENT], "d_kv": [8, ABSENT], "d_ff": [30, ABSENT],
           "num_layers": [2, ABSENT],
           "relative_attention_num_buckets": [8, ABSENT], "relative_attention_max_distance": [30, ABSENT],
           "num_heads": [1, ABSENT], "d_model": [ABSENT], "tie_word_embeddings": [True, False, ABSENT]}}
GROUPS = {"bert": BERT, "roberta": BERT, "electra": BERT, "electra_wide": BERT, "albert": BERT,
          **{name: ROTARY for name in ("llama", "llama_tied", "mistral", "mistral_whole", "qwen2", "qwen2_own")},
          "t5_1.1": OWN["t5"], **OWN}


def changed(rng):
    """Return (family, architecture, original config, changed config, changes) of a random case."""
    family, architecture = rng.choice(families.CASES)
    config = families.config_of(family, architecture, rng.randrange(5))
    kind = architecture.removesuffix("Model").split("For")[0].removesuffix("LMHead")
    types = {"OpenAIGPT": "openai-gpt", "DistilBert": "distilbert"}
    config.update(architectures=[architecture], model_type=types.get(kind, kind.lower()))
    base, changes = dict(config), {}
    own = GROUPS[family]
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        table = rng.choice((ANY, own, own))
        key = rng.choice(sorted(table))
        changes[key] = rng.choice(table[key])
        if key == "architectures":
            changes[key] = {"TF": [f"TF{architecture}"], "twice": [architecture, f"{kind}Model"]}.get(
                str(changes[key]), changes[key])
        config[key] = changes[key]
    return family, architecture, base, {key: value for key, value in config.items() if value != ABSENT}, changes


def check(reference_python, count, seed):
    """Compare the models that tfzoo and transformers load from random config.json files.

    Args:
        reference_python: str or path, an interpreter with torch 2.13.0 and transformers 4.57.1.
        count: int, the number of config.json files.
        seed: int.

    Returns:
        List of str, one for each file from which they load different models.
    """
    rng, findings, alike = random.Random(seed), [], {"the same": 0, "refused here": 0, "refused there": 0}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        cases = [changed(rng) for _ in range(count)]
        (folder / "cases.json").write_text(json.dumps([(seed, *case) for case in cases]))
        root = pathlib.Path(__file__).parents[2]
        done = subprocess.run([reference_python, "-m", "tests.differential.configs", str(folder)], cwd=root,
                              capture_output=True, text=True)
        if done.returncode:
            return [f"configs: the reference failed: {done.stderr[-500:]}"]
        for number, (family, architecture, base, config, changes) in enumerate(cases):
            about = json.loads((folder / str(number) / "about.json").read_text())
            said = "refused there" if "error" in about else _compared(folder / str(number), base, config, about, seed)
            if said in alike:
                alike[said] += 1
            else:
                findings.append(f"configs {number}: {architecture} of {family} with {json.dumps(changes)}: {said}")
            shutil.rmtree(folder / str(number))
    print(f"configs: {alike}", file=sys.stderr)
    return findings


def _compared(folder, base, config, about, seed):
    # Return "the same", "refused here" or the difference.
    import tfzoo
    from tests.checkpoints import parity
    from tfzoo.errors import ConfigError, DataError
    try:
        loaded = tfzoo.load(folder)
    except (ConfigError, DataError, FileNotFoundError) as error:
        return "refused here" if len(str(error).splitlines()) == 1 else f"an error message of several lines: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if loaded.config["labels"] is not None and loaded.config["labels"] != about["labels"]:
        return f"labels are {loaded.config['labels']}, but {about['labels']} in transformers"
    arrays, worst = dict(np.load(folder / "arrays.npz")), 0.0
    for number, inputs in enumerate(_inputs_of(base, config, seed)):
        try:
            worst = max([worst, *(difference for _, difference in parity.forward(loaded, inputs, arrays, number))])
        except Exception as error:
            return f"{type(error).__name__} with inputs: {str(error)[:200]}"
    return "the same" if worst <= BOUND else f"numbers differ by {worst:.1e}"


def _inputs_of(base, config, seed):
    return families.inputs_of({**base, "type_vocab_size": 2 if config.get("type_vocab_size", 0) in (2, 3) else 1}, seed)


def _make(folder, seed, family, architecture, base, config, changes):
    # Write the folder of a case with its outputs; runs in the Python of the reference.
    import torch
    import transformers

    from tests.golden import make_families
    (folder / "config.json").write_text(json.dumps(config))
    named = config.get("architectures") or ["AutoModel"]
    kind = getattr(transformers, named[0].removeprefix("TF"))
    try:
        read = transformers.AutoConfig.from_pretrained(folder)
        read._attn_implementation = "eager"
        model = kind.from_config(read) if named == ["AutoModel"] else kind(read)
        weights = families.weights_of({name: tuple(value.shape) for name, value in model.named_parameters()}, seed)
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(torch.tensor(weights[name]))
        model.save_pretrained(folder / "saved")
        (folder / "saved" / "model.safetensors").rename(folder / "model.safetensors")
        model = kind.from_pretrained(folder, attn_implementation="eager").float().eval()
        arrays = {}
        for number, inputs in enumerate(_inputs_of(base, config, seed)):
            with torch.no_grad():
                result = make_families.run(model, inputs)
            states = {"hidden": result.get("hidden_states", result.get("decoder_hidden_states")),
                      "encoder_hidden": result.get("encoder_hidden_states") or ()}
            outputs = make_families.logits_of(result)
            arrays.update({f"{number}:{name}": value.numpy() for name, value in outputs.items()})
            arrays.update({f"{number}:{name}:{layer}": value.numpy() for name, values in states.items()
                           for layer, value in enumerate(values)})
        np.savez(folder / "arrays.npz", **arrays)
        names = model.config.id2label
        about = {"labels": [str(names[number]) for number in sorted(names)]}
    except Exception as error:  # transformers and torch may raise any type for configs that they reject
        about = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    (folder / "about.json").write_text(json.dumps(about))


def main(folder):
    import transformers
    transformers.logging.set_verbosity_error()
    for number, case in enumerate(json.loads((folder / "cases.json").read_text())):
        (folder / str(number)).mkdir()
        _make(folder / str(number), *case)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
