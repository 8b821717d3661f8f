"""List the models with their sizes, parameter counts, memory use and the source of the original weights.

    python -m experiments.models --name=qwen2

`parameters` counts the body, plus the output projection if a language model does not tie it to the
embeddings. The memory columns exclude activations: `weights` is the size of the float32 weights; `training`
adds gradients and the two moments of AdamW, also in float32; `cache` is the size of a bfloat16 key/value
cache for one text of `length` tokens, the maximum that the model accepts.
"""
import sys

from experiments import app


def make_flags():
    script = app.Flags("models", __doc__)
    script.group("output")
    script.add("string", "name", "", "List only models whose name contains this string.")
    script.add("bool", "json", False, "Print one JSON object per line instead of a table.")
    return script


def _size(number):
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number / 1e3:.3g} kB"


def row_of(name):
    """Return the facts to print about a model, for float32 weights and a bfloat16 cache: dict of JSON values."""
    from tfzoo.models import config_of, count_parameters, family_of
    family, config, count = family_of(name), config_of(name), count_parameters(name)
    if not config.get("tied", True):
        count += config["vocab_size"] * config["hidden_dim"]  # the untied output projection
    heads = config.get("num_kv_heads") or config["num_heads"]
    width = config.get("head_dim") or config["hidden_dim"] // config["num_heads"]
    traits = family.body.traits_of(config)
    stacks = traits.cached + traits.source  # number of key/value caches per layer
    cached = 2 * 2 * stacks * config["num_layers"] * heads * width * config["max_length"]
    source, licence = family.origin_of(name)
    return {"name": name, "layers": config["num_layers"], "width": config["hidden_dim"], "heads": config["num_heads"],
            "max_length": config["max_length"], "parameters": count, "weight_bytes": 4 * count,
            "training_bytes": 16 * count, "cache_bytes": cached, "source": source, "licence": licence}


def run(values):
    import json

    from tfzoo.errors import ConfigError
    from tfzoo.models import list_models
    names = [name for name in list_models() if values.name in name]
    if not names:
        raise ConfigError(f"--name={values.name}: no model name contains this; omit --name to list all")
    form = "{:<20} {:>6} {:>6} {:>5} {:>8} {:>16} {:>8} {:>8} {:>8}  {}"
    if not values.json:
        print(form.format("name", "layers", "width", "heads", "length", "parameters", "weights", "training", "cache",
                          "original weights"))
    for row in map(row_of, names):
        if values.json:
            print(json.dumps(row), flush=True)
            continue
        origin = f"{row['source']} ({row['licence']})" if row["source"] else "none"
        print(form.format(row["name"], row["layers"], row["width"], row["heads"], row["max_length"],
                          f"{row['parameters']:,}", _size(row["weight_bytes"]), _size(row["training_bytes"]),
                          _size(row["cache_bytes"]) if row["cache_bytes"] else "", origin), flush=True)
    return {"models": len(names)}


if __name__ == "__main__":
    app.main(make_flags(), run, sys.stderr)
