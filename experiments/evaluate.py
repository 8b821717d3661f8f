"""Compute the metrics of a trained model on a data set.

    python -m experiments.evaluate --init=runs/reviews --data=reviews/test.jsonl --report=report
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("evaluate", __doc__)
    groups.loading(script)
    script.group("data")
    script.add("string", "data", None, "A file; a folder, of which the first existing split among eval, dev, valid, "
               "validation and test is used; or builtin:NAME or tfds:NAME, of which the evaluation split is "
               "used.", required=True)
    groups.shared(script, "max_length", "max_target_length", "null_threshold", "document", "max_bad_rows",
                  "allow_download")
    groups.searching(script)
    for kind, name, limits in (("enum", "decoding", {"allowed": ["viterbi", "argmax"]}), ("bool", "strict", {})):
        script.add(kind, name, None, groups.FIELDS.Fields.__dataclass_fields__[name].metadata["meaning"] +
                   " Default: as in training.", **limits)
    script.group("report")
    script.add("string", "report", None, "Folder for report.html, one page without external files (metrics with "
               "95 % intervals, tables, confusion matrix, curves and the worst errors), and report.json, its numbers.")
    script.add("string", "compare", None, "Another model (see --init) to compare with in the report, on the same "
               "examples.")
    script.group("running")
    script.add("integer", "batch_size", 32, "Examples per batch.", lower_bound=1)
    script.add("integer", "seed", 0, "Random seed for the masks in masked_lm and the resamples of --report.",
               lower_bound=0, upper_bound=groups.FIELDS.SEEDS)
    groups.computing(script)
    return script


def run(values):
    from experiments.report import REPORTED, check_folder, numbers_of, write_report
    from tfzoo.checkpoints import load
    from tfzoo.data.source import open_source
    from tfzoo.errors import ConfigError, DataError
    from tfzoo.training.fields import POLICIES
    from tfzoo.training.settings import document_of
    from tfzoo.training.sources import tell_counts
    if values.compare and not values.report:
        raise ConfigError(f"--compare={values.compare} requires --report")
    folder = check_folder(values.report) if values.report else None
    models = []
    for name, path in (("init", values.init), ("compare", values.compare)):
        if path:
            models.append(load(path, POLICIES[values.precision]))
            if models[-1].task is None:
                raise ConfigError(f"--{name}={path} has no task: give a model with a head, such as a finished run")
            models[-1].check_tokenizer()
    for loaded in models:
        loaded.change(decoding=values.decoding, strict=values.strict, null_threshold=values.null_threshold,
                      max_target_length=values.max_target_length or None, num_beams=values.num_beams,
                      length_penalty=values.length_penalty, no_repeat_ngram_size=values.no_repeat_ngram_size)
    task, other = models[0].task, models[-1].task
    if other.name != task.name:
        raise ConfigError(f"--compare={values.compare} was trained for {other.name}, but --init={values.init} for "
                          f"{task.name}: compare models of one task")
    if folder and task.name not in REPORTED:
        raise ConfigError(f"--report is not available for {task.name}, only for {', '.join(REPORTED)}")
    source = open_source(values.data, task.schema, "eval", document_of(task.name, values.document),
                         values.max_bad_rows, values.allow_download)
    if source is None:
        raise DataError(f"{values.data} has no evaluation split: give a file, or a folder that contains eval.jsonl")
    tell_counts(source)
    found = [_evaluated(values, loaded, source, keep=folder is not None) for loaded in models]
    results = {"examples": len(source), **found[0][0]}
    if folder is None:
        return results
    numbers = numbers_of({"model": values.init, "task": task.name, "data": values.data}, *found[0],
                         other=(values.compare, *found[1]) if values.compare else None, seed=values.seed)
    write_report(numbers, folder)
    return {**results, "report": str(folder / "report.html")}


def _evaluated(values, loaded, source, keep):
    # The metrics of a model and, if they are kept for a report, the Evidence of its answers.
    from experiments.report import evidence_of
    from tfzoo.training.evaluator import Evaluator
    from tfzoo.training.loop import evaluation_bar
    from tfzoo.training.sources import length_of, tell_notes
    from tfzoo.training.strategy import choose_xla
    length = length_of(loaded, values.max_length)
    data = loaded.task.features(source, loaded.tokenizer, batch_size=values.batch_size, max_length=length,
                                seed=values.seed)
    tell_notes(source, data, length)
    evaluator = Evaluator(loaded.model, loaded.task, choose_xla(values.xla)[0], keep=keep)
    metrics = evaluator.evaluate(data, evaluation_bar)
    return metrics, evidence_of(loaded.task, evaluator.answers, data.references, source) if keep else None


if __name__ == "__main__":
    app.main(make_flags(), run)
