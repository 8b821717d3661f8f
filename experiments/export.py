"""Export a model and its tokenizer as a SavedModel or a LiteRT file.

    python -m experiments.export --init=runs/reviews --output_dir=served
    python -m experiments.export --init=runs/translation --output_dir=translate --num_beams=4
    python -m experiments.export --init=runs/reviews --output_dir=lite --format=litert --precision=int8

A LiteRT file runs on CPUs without TensorFlow and answers several times as fast; predict, evaluate
and tfzoo.load take its folder like a model's.

A SavedModel takes strings and returns labels, tags, vectors or texts. Each export is a new version
in --output_dir, 1 or the number after the largest there, as TensorFlow Serving expects. In Python:
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
    script.add("string", "output_dir", None, "The folder to write: for a SavedModel the model's folder, which must be "
               "new, empty or contain only versions; for LiteRT new, empty or an earlier export.", required=True)
    script.add("enum", "format", "saved_model", "saved_model: for TensorFlow and TensorFlow Serving. litert: for CPUs.",
               allowed=["saved_model", "litert"])
    script.add("enum", "precision", "auto", "Floating-point type to compute in. auto: the type used in training, and "
               "float32 for LiteRT. LiteRT also has float16 (weights of half the size) and int8 (weights of a quarter, "
               "multiplied by activations that are quantized on the fly).",
               allowed=["auto", "float32", "bfloat16", "float16", "int8"])
    script.group("LiteRT, whose shapes are fixed")
    script.add("list", "lengths", [], "Numbers of tokens per row, each a signature; a text takes the smallest that "
               "holds it. Default: 32,64,128 and the model's max_length, up to 512.")
    script.add("list", "batches", [], "Numbers of rows per call. Default: 1,32; for models that generate text 1.")
    script.add("integer", "cache_length", None, "Tokens of prompt and answer together, for models that generate text. "
               "Default: 256.", lower_bound=2)
    script.group("report")
    script.add("string", "report", None, "Also export and measure every precision, print a table, and write it to this "
               "JSON file: size, load time, time for 1 and 32 rows, peak memory, differences from the live model, and "
               "the metrics on --data. For a SavedModel, times are from text to answer, and the only metric is the "
               "accuracy of labels.")
    script.add("string", "data", None, "Data for --report, as for evaluate; for embeddings and language models a file "
               "of texts.")
    script.group("generation, for models that generate text")
    groups.generating(script)
    return script


def run(values):
    from tfzoo.checkpoints import load
    from tfzoo.export import export
    from tfzoo.errors import ConfigError
    from tfzoo.files import local_path
    from tfzoo.training.fields import POLICIES
    folder = local_path(values.output_dir, "--output_dir")
    if values.format == "litert":
        return _litert(values, folder)
    for name in ("lengths", "batches", "cache_length"):
        if getattr(values, name):
            raise ConfigError(f"--{name} requires --format=litert")
    if values.precision not in POLICIES:
        raise ConfigError(f"--precision={values.precision} requires --format=litert")
    loaded = load(values.init, POLICIES[values.precision])
    report = _report_file(values)
    measured = _serving(values) if report else None
    version = export(loaded, folder, **groups.options_of(values))
    return {"saved_model": str(version), "labels": loaded.config["labels"],
            "max_length": loaded.config["max_length"], **_written(report, report and measured())}


def _report_file(values):
    from tfzoo.errors import ConfigError
    if bool(values.report) != bool(values.data):
        raise ConfigError("--report requires --data, and --data requires --report: give both or neither")
    return app.output_path(values.report)


def _written(report, rows):
    # Print and write the report: dict for the result, empty without a report.
    import json

    from experiments.report.shipping import table_of
    from tfzoo import files
    from tfzoo.progress import tell
    if not report:
        return {}
    for line in table_of(rows).splitlines():
        tell(line)
    files.write_atomic_chunks(report, [(json.dumps(rows, indent=1) + "\n").encode()])
    return {"report": rows}


def _data(values, task):
    import itertools

    from experiments.report.serving import ROWS
    from tfzoo.data.readers import TEXTS, Lines, read_rows
    from tfzoo.data.source import Source, open_source
    from tfzoo.errors import DataError
    if task is None or task.schema.streamed or task.name == "contrastive":
        rows = itertools.islice(read_rows(Lines(values.data), TEXTS, labelled=False), ROWS)
        return Source(values.data, {"text": [row["text"] for row in rows]})
    source = open_source(values.data, task.schema, "eval")
    if source is None:
        raise DataError(f"{values.data} has no evaluation split: give a file, or a folder that contains eval.jsonl")
    return source


def _serving(values):
    # A function that returns the rows of the report. The data are read before anything is written.
    from experiments.report.serving import ROWS, columns_of, serving_rows
    from tfzoo.checkpoints import load
    from tfzoo.export import export, live_function
    from tfzoo.training.fields import POLICIES
    loaded, options = load(values.init, "float32"), groups.options_of(values)
    source = _data(values, loaded.task)
    columns, signature = columns_of(loaded.task, source)
    labels = source.columns.get("label", source.columns.get("choice"))
    return lambda: serving_rows(columns, signature, live_function(loaded, signature, **options),
                                labels and labels[:ROWS], ("float32", "bfloat16"), lambda folder, precision: export(
                                    load(values.init, POLICIES[precision]), folder, **options))


def _litert(values, folder):
    from tfzoo.checkpoints import load
    from tfzoo.errors import ConfigError
    from tfzoo.export.litert import export_litert
    given = groups.options_of(values)
    if given:
        raise ConfigError(f"--{next(iter(given))} does not apply to --format=litert: give it to generate")
    sizes = {}
    for name in ("lengths", "batches"):
        texts = getattr(values, name)
        if not all(text.isdecimal() for text in texts):
            raise ConfigError(f"--{name}={','.join(texts)} must be positive integers, such as 32,64")
        sizes[name] = [int(text) for text in texts] or None
    loaded, report = load(values.init, "float32"), _report_file(values)
    measured = _shipping(values, loaded, sizes) if report else None
    found = export_litert(loaded, folder, precision="float32" if values.precision == "auto" else values.precision,
                          cache_length=values.cache_length, **sizes)
    return {"litert": str(folder), **found, "labels": loaded.config["labels"],
            **_written(report, report and measured())}


def _shipping(values, loaded, sizes):
    # As _serving, for LiteRT.
    from experiments.report.shipping import shipping_rows
    from tfzoo.errors import ConfigError
    from tfzoo.export.litert import PRECISIONS, export_litert
    task = loaded.check_answers()
    if "label" not in task.schema.columns() and not task.answered or not task.exports or task.name == "contrastive":
        raise ConfigError(f"--report is not available for {task.name}: omit it")
    source = _data(values, task)
    return lambda: shipping_rows(loaded, source, PRECISIONS, lambda folder, precision: export_litert(
        loaded, folder, precision=precision, **sizes))


if __name__ == "__main__":
    app.main(make_flags(), run)
