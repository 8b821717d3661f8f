"""Export a model as a SavedModel with its tokenizer inside: strings in, labels and probabilities or tags out.

    import tensorflow as tf, tensorflow_text
    serve = tf.saved_model.load("exported").signatures["serving_default"]
    serve(text=tf.constant(["a fine film"]))["label"]
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("export", __doc__)
    groups.loading(script)
    script.group("running")
    script.add("string", "output_dir", None, "The SavedModel's folder; must be new or empty.", required=True)
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
