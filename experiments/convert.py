"""Convert a model's folder to another form: tfzoo's own, or Hugging Face's, which transformers loads.

    python -m experiments.convert --init=runs/reviews --format=huggingface --output_dir=reviews-hf
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("convert", __doc__)
    groups.loading(script)
    script.group("running")
    script.add("enum", "format", "huggingface", "What to write: tfzoo or huggingface.",
               allowed=["tfzoo", "huggingface"])
    script.add("string", "output_dir", None, "The new folder; must not be there yet.", required=True)
    return script


def run(values):
    from tfzoo.checkpoints import load, save
    from tfzoo.errors import ConfigError
    from tfzoo.files import local_path
    from tfzoo.progress import tell
    folder = local_path(values.output_dir, "--output_dir")
    if folder.exists():
        raise ConfigError(f"--output_dir={folder} is there already: name a new folder")
    loaded = load(values.init)
    if loaded.dropped:
        tell(f"dropped {len(loaded.dropped)} tensor(s) of other heads, as {loaded.dropped[0]}")
    save(loaded, folder, values.format)
    return {"output_dir": str(folder), "format": values.format, "model": loaded.config["model"],
            "task": loaded.config["task"], "parameters": loaded.model.count_params()}


if __name__ == "__main__":
    app.main(make_flags(), run)
