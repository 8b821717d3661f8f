"""Pretraining on real text, compared with other libraries: tokens per second, excluding padding.

--corpus=python runs masked language modelling on docstrings (builtin:python): tfzoo packs or buckets the texts, and
keras-nlp pads them. All variants use the same texts and the same vocabulary, which is learned for the run; special
tokens are counted. --corpus=bytes trains a small GPT-2 on the bytes of $TFZOO_DATA/lm_shakespeare with tfzoo, keras-nlp
and PyTorch.
"""
import json
import os
import subprocess
import sys
import tempfile

from absl import app, flags

from benchmarks.interleave import (FLAGS, ROOT, add_flags, add_ratios, data_folder, measure_systems, refuse_words,
                                   report, row_of)

add_flags(rounds=5, steps=20)
flags.DEFINE_enum("corpus", "python", ["python", "bytes"], "Training text.")
flags.DEFINE_integer("layers", None, "Number of layers [default: 2 for python, 4 for bytes].", lower_bound=1)
flags.DEFINE_integer("width", None, "Hidden width, 64 per head [default: 128 for python, 256 for bytes].",
                     lower_bound=64)

MODULE = "benchmarks.pretrain_worker"
RECIPES = {
    "python": {"task": "masked_lm", "data": "builtin:python", "vocab": 8000, "batch": 64, "length": 128,
               "positions": 512, "layers": 2, "width": 128, "decay": 0.01},
    "bytes": {"task": "causal_lm", "vocab": 260, "batch": 16, "length": 256, "positions": 256, "layers": 4,
              "width": 256, "decay": 0.1}}
SYSTEMS = {
    "python": {"tfzoo": ("packed", "bucketed"), "keras-nlp": ("no_xla", "xla")},
    "bytes": {"tfzoo": ("stream",), "keras-nlp": ("no_xla", "xla"), "pytorch": ("eager", "compiled")}}


def recipe_of(corpus, folder):
    """Return the workers' recipe (data, model and hyperparameters): dict."""
    recipe = {**RECIPES[corpus], "folder": folder}
    recipe.update({name: FLAGS[name].value for name in ("layers", "width") if FLAGS[name].value is not None})
    if recipe["width"] % 64:
        raise SystemExit(f"--width must be a multiple of 64, the width of each head, got {recipe['width']}")
    if corpus == "bytes":
        recipe["data"] = str(data_folder("lm_shakespeare"))
    return {**recipe, "heads": recipe["width"] // 64}


def prepare(recipe):
    """Learn the vocabulary and encode the texts, in a separate process."""
    print("learning a vocabulary and encoding the texts", file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", MODULE, json.dumps(recipe), "prepare"], cwd=ROOT, capture_output=True,
                          text=True)
    if done.returncode:
        raise SystemExit(f"cannot prepare the texts: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print("{texts:,} texts, {pieces:,} pieces, {tokens:,} tokens".format(**found), file=sys.stderr)


def main(argv):
    refuse_words(argv)
    with tempfile.TemporaryDirectory() as folder:
        recipe = recipe_of(FLAGS.corpus, folder)
        os.environ["TFZOO_CACHE"] = folder  # each run learns a new vocabulary, which must not fill the user's cache
        if recipe["task"] == "masked_lm":
            prepare(recipe)
        results = measure_systems(MODULE, recipe, SYSTEMS[FLAGS.corpus])
    workload = "{task}_{layers}x{width}_{batch}x{length}".format(**recipe)
    rows = []
    for variant, result in results.items():
        answers = result.pop("answers")
        rates = sorted(answer["tokens"] / answer["seconds"] for answer in answers)
        filled = sum(answer["tokens"] for answer in answers) / (
            len(answers) * FLAGS.steps * recipe["batch"] * recipe["length"])
        rows.append(row_of(workload, variant, tokens_per_second=rates[len(rates) // 2], slowest=rates[0],
                           fastest=rates[-1], tokens_per_step=filled * recipe["batch"] * recipe["length"], **result))
    add_ratios(rows, "tokens_per_second")
    report(rows, {"system": "{}", "variant": "{}", "dtype": "{}", "tokens_per_second": "{:>,.0f}",
                  "slowest": "{:>,.0f}", "fastest": "{:>,.0f}", "tokens_per_step": "{:>,.0f}",
                  "peak_bytes": "{:>,}"}, FLAGS.json)


if __name__ == "__main__":
    app.run(main)
