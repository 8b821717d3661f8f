"""Predict labels, tags, answers or embeddings for texts from a file or standard input, in constant memory.

    cat reviews.txt | python -m experiments.predict --init=runs/reviews > answers.jsonl
    python -m experiments.predict --init=all-MiniLM-L6-v2 --task=embedding --data=texts.txt > vectors.jsonl

The output has one JSON object per text, in the order of the input.
"""
import itertools
import sys

from experiments import app, groups


def make_flags():
    script = app.Flags("predict", __doc__)
    groups.loading(script)
    script.add("enum", "task", "auto", "auto: the task that the model was trained for; docs/tasks.md shows what "
               "each task writes. completion also works with causal_lm models, such as another library's chat model. "
               "embedding: one vector per text from an encoder or decoder, pooled as configured in a "
               "sentence-transformers folder or as trained with contrastive, otherwise averaged over tokens.",
               allowed=["auto", *groups.FIELDS.FINETUNING, "embedding"])
    script.group("data")
    script.add("string", "data", "-", "A .txt (one text per line), .jsonl, .tsv or .csv file; for tagging also a "
               ".conll or .conllu file, or a .jsonl file with tokens; for question answering a .jsonl file with "
               "question and context, or SQuAD's .json; for completion one with prompt or messages. Files may be "
               "compressed (.gz). -: standard input, one text per line; -.jsonl: standard input, one JSON object per "
               "line.")
    groups.shared(script, "null_threshold", "max_target_length", "max_bad_rows")
    groups.searching(script)
    script.add("string", "output", None, "Output file, written once the output is complete; default: stdout.")
    script.group("running")
    script.add("integer", "batch_size", 32, "Texts per batch.", lower_bound=1)
    groups.computing(script)
    return script


def _batches(rows, size, whole):
    # Lists of `size` rows; if `whole`, of more rows where this keeps the rows of a document together.
    batch = []
    for row in rows:
        if len(batch) >= size and (row.get("document") is None or row["document"] != batch[-1].get("document")):
            yield batch
            batch = []
        batch.append(row)
        if len(batch) >= size and not whole:
            yield batch
            batch = []
    if batch:
        yield batch


def _answers(loaded, rows, batch_size, xla, counts):
    from tfzoo.tasks.predictor import TOGETHER, Predictor
    predictor = Predictor(loaded.model, loaded.tokenizer, loaded.config["max_length"], xla, batch_size)
    for batch in _batches(rows, TOGETHER * batch_size, whole=bool(loaded.task.settings.get("context"))):
        answers = predictor(batch)
        counts["examples"] += len(batch)
        counts.update(cut=predictor.cut, split=predictor.split, windows=predictor.windows)
        yield from answers


def _numbers(vectors):
    return [_numbers(vector) for vector in vectors] if vectors.ndim > 1 else [round(float(one), 7) for one in vectors]


def _vectors(loaded, rows, batch_size, counts):
    from tfzoo.tasks.predictor import TOGETHER
    rows = iter(rows)
    while batch := list(itertools.islice(rows, TOGETHER * batch_size)):
        texts = [row["text"] for row in batch]
        vectors = loaded.embed(texts)
        counts["cut"] += loaded.count_cut(texts)
        for vector in vectors:
            counts["examples"] += 1
            yield {"embedding": vector}


def run(values):
    import json
    import time

    from tfzoo import files
    from tfzoo.checkpoints import load
    from tfzoo.data.readers import TEXTS, Lines, read_rows
    from tfzoo.errors import ConfigError
    from tfzoo.progress import tell
    from tfzoo.tasks import Task
    from tfzoo.training.fields import POLICIES
    from tfzoo.training.strategy import choose_xla
    output = app.output_path(values.output)
    if values.task == "embedding" and values.xla == "on":
        raise ConfigError("--xla=on with --task=embedding: use auto or off, since embeddings are computed without XLA")
    loaded = load(values.init, POLICIES[values.precision])
    if values.task not in ("auto", "embedding"):
        loaded.use_as(values.task)
    loaded.change(null_threshold=values.null_threshold, max_target_length=values.max_target_length or None,
                  num_beams=values.num_beams, length_penalty=values.length_penalty,
                  no_repeat_ngram_size=values.no_repeat_ngram_size)
    lines, counts, begin = Lines(values.data), {"examples": 0, "cut": 0, "split": 0, "windows": 0}, time.perf_counter()
    schema = TEXTS if values.task == "embedding" else loaded.check_answers().schema
    rows = read_rows(lines, schema, labelled=False, max_bad_rows=values.max_bad_rows,
                     on_bad=lambda message: tell(f"skipped: {message}"))
    answers = _vectors(loaded, rows, values.batch_size, counts) if values.task == "embedding" else \
        _answers(loaded, rows, values.batch_size, choose_xla(values.xla)[0], counts)
    texts = (json.dumps(answer, ensure_ascii=False, default=_numbers) + "\n" for answer in answers)
    if output:
        files.write_atomic_chunks(output, (text.encode() for text in texts))
    else:
        for text in texts:
            sys.stdout.write(text)
        sys.stdout.flush()
    if counts["split"]:
        tell(f"{counts['split']:,} of {counts['examples']:,} texts were split into {counts['windows']:,} windows of up "
             f"to {loaded.config['max_length']} tokens")
    if counts["cut"]:
        truncated = (loaded.task or Task).truncated.format(loaded.config["max_length"])
        tell(f"{counts['cut']:,} of {counts['examples']:,} {truncated}")
    if lines.replaced:
        tell(f"{lines.replaced:,} bytes that are not UTF-8 were replaced by U+FFFD")
    seconds = time.perf_counter() - begin
    return {**counts, "replaced": lines.replaced, "examples_per_second": round(counts["examples"] / seconds, 2)}


if __name__ == "__main__":
    app.main(make_flags(), run, sys.stderr)
