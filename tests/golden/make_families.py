"""Write transformers' outputs and gradients for the cases in families.py, one file per case.

Run in an environment with torch 2.13.0 and transformers 4.57.1:
python tests/golden/make_families.py [--seed N] [--out FOLDER] [--only PART]
"""
import argparse
import json
import pathlib
import re
import sys

import numpy as np
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import families  # noqa: E402


def model_of(architecture, config, seed):
    """Return a model with the weights of a case, and its parameters by name, excluding tied copies."""
    kind = getattr(transformers, architecture)
    model = kind(kind.config_class(**config, attn_implementation="eager")).eval()
    buffers, tied = dict(model.named_buffers()), getattr(model, "_tied_weights_keys", None) or []
    state = {name: value for name, value in model.state_dict(keep_vars=True).items() if name not in buffers}
    first = {name: value for name, value in state.items() if not any(re.search(pattern, name) for pattern in tied)}
    own = {id(value) for value in first.values()}  # a table that may be tied counts as a separate tensor if it is not
    named = {name: value for name, value in state.items() if name in first or id(value) not in own}
    weights = families.weights_of({name: tuple(value.shape) for name, value in named.items()}, seed)
    with torch.no_grad():
        for name, value in named.items():
            value.copy_(torch.tensor(weights[name]))
    return model, named


def run(model, inputs):
    words = {"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids",
             "encoder_token_ids": "input_ids", "encoder_padding_mask": "attention_mask",
             "decoder_token_ids": "decoder_input_ids", "decoder_padding_mask": "decoder_attention_mask"}
    return model(**{words[key]: torch.tensor(value, dtype=torch.long) for key, value in inputs.items()},
                 output_hidden_states=True)


def logits_of(result):
    """Return the outputs of transformers under tfzoo's names: dict of torch.Tensor."""
    if "start_logits" in result:
        return {"logits": torch.stack([result.start_logits, result.end_logits], -1)}
    found = {"logits": result.get("logits", result.get("prediction_logits"))}
    found["pair_logits"] = result.get("seq_relationship_logits", result.get("sop_logits"))
    if found["logits"] is None:
        found = {"sequence": result.last_hidden_state, "pooled": result.get("pooler_output"),
                 "encoder_sequence": result.get("encoder_last_hidden_state")}
    return {name: value for name, value in found.items() if value is not None}


def make(family, architecture, seed, out):
    config = families.config_of(family, architecture, seed)
    model, named = model_of(architecture, config, seed)
    arrays = {}
    for number, inputs in enumerate(families.inputs_of(config, seed)):
        result = run(model, inputs)
        outputs = logits_of(result)
        arrays.update({f"{number}:{name}": value.detach().numpy() for name, value in outputs.items()})
        states = {"hidden": result.get("hidden_states", result.get("decoder_hidden_states")),
                  "encoder_hidden": result.get("encoder_hidden_states") or ()}
        arrays.update({f"{number}:{kind}:{layer}": value.detach().numpy()
                       for kind, values in states.items() for layer, value in enumerate(values)})
    if architecture in families.GRADIENTS:
        factors = families.factors_of(tuple(outputs["logits"].shape), families.mask_of(inputs), seed)
        (outputs["logits"] * torch.tensor(factors)).sum().backward()
        arrays.update({f"gradient:{name}": value.grad.numpy() for name, value in named.items()
                       if value.grad is not None})
    if "sequence" in outputs:  # the error of transformers itself in bfloat16
        half = run(model.to(torch.bfloat16), inputs).last_hidden_state.detach().float().numpy()
        real, whole = families.mask_of(inputs) > 0, outputs["sequence"].detach().numpy()
        arrays["bfloat16"] = np.linalg.norm((half - whole)[real]) / np.linalg.norm(whole[real])
    about = {"family": family, "architecture": architecture, "seed": seed,
             "config": {**config, "architectures": [architecture], "model_type": model.config.model_type},
             "shapes": {name: list(value.shape) for name, value in named.items()},
             "versions": {"torch": torch.__version__, "transformers": transformers.__version__}}
    np.savez_compressed(out / f"{family}-{architecture}.npz", about=np.array(json.dumps(about)), **arrays)
    print(architecture, flush=True)


def check(folder, family, architecture, seed):
    """Load a folder written by tfzoo with transformers, and compare the model with that of the case."""
    config = families.config_of(family, architecture, seed)
    model, _ = model_of(architecture, config, seed)
    again, about = getattr(transformers, architecture).from_pretrained(
        folder / f"{family}-{architecture}" / "again", output_loading_info=True, attn_implementation="eager")
    left = {key: value for key, value in about.items() if value}
    worst = max(float((one[name] - other[name]).abs().max()) for inputs in families.inputs_of(config, seed)
                for one, other in [(logits_of(run(model, inputs)), logits_of(run(again.eval(), inputs)))]
                for name in one)
    theirs = dict(again.named_parameters())
    same = all(torch.equal(value, theirs[name]) for name, value in model.named_parameters())
    good = not left and same and worst < 1e-5
    print(family, architecture, "loads", "alike" if good else f"NOT: {left}, {same}, {worst}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "families")
    parser.add_argument("--only", default="")
    parser.add_argument("--check", type=pathlib.Path, help="check a folder written by tests.checkpoints.parity")
    args = parser.parse_args()
    if args.check:
        transformers.logging.set_verbosity_error()
        cases = [case for case in families.CASES if args.only in "-".join(case)]
        sys.exit(not all([check(args.check, *case, args.seed) for case in cases]))
    args.out.mkdir(exist_ok=True)
    transformers.logging.set_verbosity_error()
    for family, architecture in families.CASES:
        if args.only in f"{family}-{architecture}":
            make(family, architecture, args.seed, args.out)


if __name__ == "__main__":
    main()
