"""List the models: sizes, parameters, memory of weights, training and cache, and the original weights.

Parameters are those of the body, and of the table of words that some have beside it for the output.

Memory of training is that of float32 weights, gradients and AdamW's two moments, without activations;
of the cache that of one text of the model's max_length in bfloat16.
"""
import sys

from experiments import app


def make_flags():
    script = app.Flags("models", __doc__)
    script.group("what")
    script.add("string", "name", "", "Only models whose names contain this.")
    script.add("bool", "json", False, "One JSON object a line instead of a table.")
    return script


def _size(number):
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number / 1e3:.3g} kB"


def row_of(name):
    """Return what is known of a model: dict of plain values; bytes are of float32 weights and a bfloat16 cache."""
    from tfzoo.models import config_of, count_parameters, family_of
    family, config, count = family_of(name), config_of(name), count_parameters(name)
    if not config.get("tied", True):
        count += config["vocab_size"] * config["hidden_dim"]  # the head's own table
    heads = config.get("num_kv_heads") or config["num_heads"]
    width = config.get("head_dim") or config["hidden_dim"] // config["num_heads"]
    traits = family.body.traits_of(config)
    stacks = traits.cached + traits.source  # of keys and values that are kept
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
        raise ConfigError(f"--name={values.name}: no model's name contains it; without it all are listed")
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
