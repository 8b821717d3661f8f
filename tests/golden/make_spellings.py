"""Write spellings.json: the defaults and aliases of config.json keys in each family, and the values of activations.

Run in an environment with torch 2.13.0 and transformers 4.57.1: python tests/golden/make_spellings.py [OUT]
"""
import json
import pathlib
import sys

import torch
import transformers

TYPES = ("bert", "roberta", "distilbert", "albert", "electra", "openai-gpt", "gpt2", "llama", "mistral", "qwen2", "t5")
NO_NUMBERS = ("prelu", "xielu")  # these activations have weights


def main():
    classes = {name: transformers.CONFIG_MAPPING[name] for name in TYPES}
    points = [-9.0, -3.0, -1.1, -0.4, 0.0, 0.2, 0.9, 2.5, 11.0]
    functions = {name: transformers.activations.ACT2FN[name] for name in transformers.activations.ACT2CLS
                 if name not in NO_NUMBERS}
    found = {
        "defaults": {name: kind().to_dict() for name, kind in classes.items()},
        "aliases": {name: kind.attribute_map for name, kind in classes.items()},
        "points": points,
        "activations": {name: function(torch.tensor(points)).tolist() for name, function in functions.items()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__}}
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "spellings.json"
    out.write_text(json.dumps(found, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
