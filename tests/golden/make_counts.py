"""Write transformers' parameter count for every size of a supported class, without allocating the parameters.

Run in tfzoo's environment: python -m tests.golden.make_counts --pytorch_python=PYTHON, where PYTHON has torch 2.13.0
and transformers 4.57.1. It builds each model from the config.json that tfzoo writes, and counts its parameters.
"""
import argparse
import json
import pathlib
import subprocess
import sys

FILE = pathlib.Path(__file__).parent / "counts.json"


def count():
    """Read the config.json of each model from stdin; print the parameter counts by name, and the version."""
    import torch
    import transformers
    counts = {}
    for name, words in json.load(sys.stdin).items():
        config = transformers.AutoConfig.for_model(words.pop("model_type"), **words)
        with torch.device("meta"):
            model = transformers.AutoModel.from_config(config)
        counts[name] = sum(parameter.numel() for parameter in model.parameters())
    json.dump({"transformers": transformers.__version__, "counts": counts}, sys.stdout, indent=1)


def main():
    if sys.argv[1:] == ["count"]:
        return count()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pytorch_python", required=True)
    from tfzoo.checkpoints import Loaded
    from tfzoo.checkpoints.huggingface_config import words_of
    from tfzoo.models.registry import config_of, family_of, list_models
    bare = Loaded(None, None, {"labels": None, "task": None})
    configs = {name: words_of(family_of(name), config_of(name), None, bare) for name in list_models()
               if family_of(name).reference}
    done = subprocess.run([parser.parse_args().pytorch_python, __file__, "count"], input=json.dumps(configs), text=True,
                          stdout=subprocess.PIPE, check=True)
    FILE.write_text(done.stdout + "\n")


if __name__ == "__main__":
    main()
