"""Export a model and its tokenizer as a SavedModel that takes strings and returns labels, tags or vectors.

    python -m experiments.export --init=runs/reviews --output_dir=served

In Python:
    import tensorflow as tf, tensorflow_text
    serve = tf.saved_model.load("served").signatures["serving_default"]
    serve(text=tf.constant(["a fine film"]))["label"]

Every signature also returns `cut` [B], the number of tokens truncated from each text.
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("export", __doc__)
    groups.loading(script)
    script.group("output")
    script.add("string", "output_dir", None, "Folder to write the SavedModel to; it must be new or empty.",
               required=True)
    return script


def run(values):
    from tfzoo.checkpoints import load
    from tfzoo.export import export
    from tfzoo.files import local_path
    folder = local_path(values.output_dir, "--output_dir")
    loaded = load(values.init)
    export(loaded, folder)
    return {"saved_model": str(folder), "labels": loaded.config["labels"],
            "max_length": loaded.config["max_length"]}


if __name__ == "__main__":
    app.main(make_flags(), run)
