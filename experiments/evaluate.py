"""Compute the metrics of a trained model on a data set.

    python -m experiments.evaluate --init=runs/reviews --data=reviews/test.jsonl
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("evaluate", __doc__)
    groups.loading(script)
    script.group("data")
    script.add("string", "data", None, "A file; a folder, of which the first existing split among eval, dev, valid, "
               "validation and test is used; or builtin:NAME or tfds:NAME, of which the evaluation split is "
               "used.", required=True)
    groups.shared(script, "max_length", "document", "max_bad_rows", "allow_download")
    script.group("running")
    script.add("integer", "batch_size", 32, "Examples per batch.", lower_bound=1)
    script.add("integer", "seed", 0, "Random seed for the masks in masked_lm.", lower_bound=0,
               upper_bound=groups.FIELDS.SEEDS)
    groups.computing(script)
    return script


def run(values):
    from tfzoo.checkpoints import load
    from tfzoo.data.source import open_source
    from tfzoo.errors import ConfigError, DataError
    from tfzoo.training.evaluator import Evaluator
    from tfzoo.training.loop import evaluation_bar
    from tfzoo.training.fields import POLICIES
    from tfzoo.training.settings import document_of
    from tfzoo.training.sources import length_of, tell_counts, tell_notes
    from tfzoo.training.strategy import choose_xla
    loaded = load(values.init, POLICIES[values.precision])
    if loaded.task is None:
        raise ConfigError(f"--init={values.init} has no task: give a model with a head, such as a finished run")
    loaded.check_tokenizer()
    source = open_source(values.data, loaded.task.schema, "eval",
                         document_of(loaded.task.name, values.document), values.max_bad_rows, values.allow_download)
    if source is None:
        raise DataError(f"{values.data} has no evaluation split: give a file, or a folder that contains eval.jsonl")
    tell_counts(source)
    length = length_of(loaded, values.max_length)
    data = loaded.task.features(source, loaded.tokenizer, batch_size=values.batch_size,
                                max_length=length, seed=values.seed)
    tell_notes(source, data, length)
    evaluator = Evaluator(loaded.model, loaded.task, choose_xla(values.xla)[0])
    return {"examples": len(source), **evaluator.evaluate(data, evaluation_bar)}


if __name__ == "__main__":
    app.main(make_flags(), run)
