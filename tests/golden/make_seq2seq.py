"""Write transformers' loss, gradients and greedy generation for the T5 of families.py, with and without a tied head.

Run in an environment with torch 2.13.0 and transformers 4.57.1: python tests/golden/make_seq2seq.py
The loss is a mean over labels of unequal rows, for which transformers itself shifts the labels and ignores -100.
"""
import json
import pathlib
import sys

import numpy as np
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import families  # noqa: E402
from make_families import model_of  # noqa: E402

NEW = 12
KEPT = ("shared.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "decoder.block.1.layer.1.EncDecAttention.k.weight", "decoder.final_layer_norm.weight", "lm_head.weight")


def make(family, seed=0):
    architecture = "T5ForConditionalGeneration"
    config = families.config_of(family, architecture, seed)
    model, named = model_of(architecture, config, seed)
    inputs = families.inputs_of(config, seed)[-1]
    source, mask = (np.flip(inputs[key], 1).copy() for key in ("encoder_token_ids", "encoder_padding_mask"))
    source[2, -4:], mask[2, -4:] = 0, 0
    lengths = [5, 9, 2]
    labels = np.full((3, max(lengths)), -100, np.int64)
    for row, length in enumerate(lengths):
        labels[row, :length] = [*np.random.default_rng(row).integers(2, families.VOCAB, length - 1), 1]
    given = {key: torch.tensor(value, dtype=torch.long)
             for key, value in (("input_ids", source), ("attention_mask", mask))}
    result = model(**given, labels=torch.tensor(labels))
    result.loss.backward()
    arrays = {"source": source.astype(np.int32), "mask": mask.astype(np.int32), "labels": labels.astype(np.int32),
              "loss": np.float32(result.loss.item())}
    arrays.update({f"gradient:{name}": named[name].grad.numpy() for name in KEPT if name in named})
    with torch.no_grad():
        arrays["generated"] = model.generate(**given, max_new_tokens=NEW, do_sample=False, num_beams=1).numpy()
    about = {"family": family, "architecture": architecture, "seed": seed, "config": model_config(model, config),
             "shapes": {name: list(value.shape) for name, value in named.items()},
             "versions": {"torch": torch.__version__, "transformers": transformers.__version__}}
    np.savez_compressed(pathlib.Path(__file__).parent / f"seq2seq_{family}.npz", about=json.dumps(about), **arrays)


def model_config(model, config):
    """Return the config.json of the case as make_families.py writes it."""
    return {**config, "architectures": [type(model).__name__], "model_type": "t5"}


if __name__ == "__main__":
    for family in ("t5", "t5_1.1"):
        make(family)
