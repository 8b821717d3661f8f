"""Export a model and its tokenizer as a SavedModel: strings in; labels, tags, vectors or texts out.

    python -m experiments.export --init=runs/reviews --output_dir=served
    python -m experiments.export --init=runs/translation --output_dir=translate --num_beams=4

Each export is a new version in --output_dir, 1 or the number after the largest there, as
TensorFlow Serving expects. In Python:
    import tensorflow as tf, tensorflow_text
    serve = tf.saved_model.load("served/1").signatures["serving_default"]
    serve(text=tf.constant(["a fine film"]))["label"]

Every signature also returns `cut` [B], the number of tokens truncated from each text. For a model
that generates text, the signature `full` takes options for each row.
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("export", __doc__)
    groups.loading(script)
    script.group("output")
    script.add("string", "output_dir", None, "The model's folder; it must be new, empty or contain only versions.",
               required=True)
    groups.precision(script)
    script.group("generation, for models that generate text")
    groups.generating(script)
    return script


def run(values):
    from tfzoo.checkpoints import load
    from tfzoo.export import export
    from tfzoo.files import local_path
    from tfzoo.training.fields import POLICIES
    folder = local_path(values.output_dir, "--output_dir")
    loaded = load(values.init, POLICIES[values.precision])
    version = export(loaded, folder, **groups.options_of(values))
    return {"saved_model": str(version), "labels": loaded.config["labels"],
            "max_length": loaded.config["max_length"]}


if __name__ == "__main__":
    app.main(make_flags(), run)
