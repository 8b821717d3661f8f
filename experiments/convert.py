"""Convert a model to tfzoo's own format, or to the Hugging Face format, which transformers loads.

    python -m experiments.convert --init=runs/reviews --output_dir=reviews-hf
    python -m experiments.convert --init=hf:openai-community/gpt2 --format=tfzoo --output_dir=gpt2
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("convert", __doc__)
    groups.loading(script)
    script.group("output")
    script.add("enum", "format", "huggingface", "Format to write.",
               allowed=["tfzoo", "huggingface"])
    script.add("string", "output_dir", None, "Folder to create; it must not exist yet.", required=True)
    return script


def run(values):
    from tfzoo.checkpoints import load, save
    from tfzoo.errors import ConfigError
    from tfzoo.files import local_path
    from tfzoo.progress import tell
    folder = local_path(values.output_dir, "--output_dir")
    if folder.exists():
        raise ConfigError(f"--output_dir={folder} already exists: choose a new folder")
    loaded = load(values.init)
    if loaded.dropped:
        tell(f"dropped {len(loaded.dropped)} tensor(s) that belong to other heads, such as {loaded.dropped[0]}")
    save(loaded, folder, values.format)
    return {"output_dir": str(folder), "format": values.format, "model": loaded.config["model"],
            "task": loaded.config["task"], "parameters": loaded.model.count_params()}


if __name__ == "__main__":
    app.main(make_flags(), run)
