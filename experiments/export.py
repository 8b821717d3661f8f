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
    loaded = load(values.init)
    export(loaded, values.output_dir)
    return {"saved_model": values.output_dir, "labels": loaded.config["labels"],
            "max_length": loaded.config["max_length"]}


if __name__ == "__main__":
    app.main(make_flags(), run)
