"""Try out the whole zoo on the Python library of this machine: 5 to 6 minutes on 2 cores, no downloads.

Learns a vocabulary from docstrings, pretrains a small BERT on them, and fine-tunes it to recognize the
library that a docstring comes from; compares it with the same model trained from scratch and with a
bag-of-words classifier; fine-tunes it to tag the tokens of functions with their roles; trains a small GPT-2 on
source code and generates a sample; evaluates the fine-tuned model, exports it, and queries the SavedModel from a
process that imports only TensorFlow and tensorflow_text.
Run the command again to resume after an interruption.
"""
import json
import subprocess
import sys
import time

from experiments import app, evaluate, export, finetune, generate, pretrain

ENCODER, DECODER = "bert_l2_h128", "gpt2_tiny"
PRETRAIN_STEPS, FINETUNE_STEPS, TAG_STEPS, GPT_STEPS = 800, 900, 400, 400
FUNCTION = "def area ( self , scale = 1 ) : width = self . width * scale ; return max ( width , 0 )"
QUESTION = "Returns the element-wise product of two tensors."
RELOAD = """
import json, sys
import tensorflow as tf, tensorflow_text
answer = tf.saved_model.load(sys.argv[1]).signatures["serving_default"](text=tf.constant([sys.argv[2]]))
assert not any(name.split(".")[0] in ("tfzoo", "keras_hub") for name in sys.modules)
print(json.dumps({"label": answer["label"].numpy()[0].decode()}))
"""


def make_flags():
    script = app.Flags("quickstart", __doc__)
    script.group("running")
    script.add("string", "output_dir", "runs/quickstart", "Folder for the runs and the exported model.")
    script.add("float", "share", 1.0, "Run only this fraction of the training steps, for a quick test; learning the "
               "vocabulary and evaluating still take minutes.", lower_bound=0.001,
               upper_bound=1.0)
    return script


def _train(module, *words):
    return module.run(module.make_flags().parse(list(words)))


def _bag_of_words(folder):
    # Train TF-IDF with logistic regression; the accuracy is stored because it is the same in every run.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    from tfzoo import files
    from tfzoo.data.source import open_source
    kept = folder / "bag_of_words.json"
    if kept.is_file():
        return json.loads(kept.read_text())["accuracy"]
    train, evaluation = (open_source("builtin:python", split=split) for split in ("train", "eval"))
    vectors = TfidfVectorizer(sublinear_tf=True, min_df=2)
    model = LogisticRegression(C=10, max_iter=300).fit(vectors.fit_transform(train.texts[0]), train.columns["label"])
    accuracy = float(model.score(vectors.transform(evaluation.texts[0]), evaluation.columns["label"]))
    files.write_atomic(kept, json.dumps({"accuracy": accuracy}) + "\n")
    return accuracy


def _export(model, folder):
    if not folder.exists():
        export.run(export.make_flags().parse([f"--init={model}", f"--output_dir={folder}"]))
    asked = subprocess.run([sys.executable, "-c", RELOAD, str(folder / "1"), QUESTION], capture_output=True, text=True)
    if asked.returncode:
        raise RuntimeError(f"the exported model does not load: {asked.stderr.strip().splitlines()[-1]}")
    return json.loads(asked.stdout.strip().splitlines()[-1])


def _tags(run):
    # Tag one function with the run's model: its tokens, each with its tag.
    from tfzoo.checkpoints import load
    answer, = load(str(run)).predict([FUNCTION.split()])
    return " ".join(f"{token}/{tag}" for token, tag in zip(answer["tokens"], answer["tags"]))


def _draw(folder, baseline):
    # Plot the training curves; return None if matplotlib, an optional package, is not installed.
    from tfzoo.training.run_folder import RunFolder
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None

    def curve(run, split, metric):
        records = RunFolder(folder / run).records()
        return tuple(zip(*((record["step"], record[metric]) for record in records if record["split"] == split)))

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    bert, labels, gpt = figure.subplots(1, 3)
    bert.plot(*curve("bert", "train", "loss"))
    bert.set(title="BERT, masked tokens", ylabel="training loss")
    for run, name in (("finetuned", "pretrained"), ("scratch", "from scratch")):
        labels.plot(*curve(run, "eval", "accuracy"), "o-", label=name)
    labels.axhline(baseline, linestyle="--", color="gray", label="bag of words")
    labels.set(title="docstring to library", ylabel="accuracy, evaluation data")
    labels.legend(loc="lower right")
    gpt.plot(*curve("gpt", "train", "loss"))
    gpt.set(title="GPT-2, source code", ylabel="training loss")
    for axis in (bert, labels, gpt):
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    path = folder / "curves.png"
    figure.savefig(path, dpi=120)
    return path


def _table(rows):
    width = [max(len(str(row[column])) for row in rows) for column in range(3)]
    return "\n".join("  ".join(str(cell).ljust(size) for cell, size in zip(row, width)).rstrip() for row in rows)


def run(values):
    from tfzoo.progress import tell
    from tfzoo.files import local_path
    begin, folder = time.perf_counter(), local_path(values.output_dir, "--output_dir")
    folder.mkdir(parents=True, exist_ok=True)

    def steps(count):
        return f"--steps={max(2, round(count * values.share))}"

    def stage(number, text):
        tell(f"\n[{number}/7] {text} ({time.perf_counter() - begin:.0f} s)")

    def out(name):
        return f"--output_dir={folder / name}"

    stage(1, "learn a vocabulary and pretrain a small BERT on docstrings")
    bert = _train(pretrain, "--task=masked_lm", "--pack=off", f"--model={ENCODER}", "--data=builtin:python",
                  "--max_length=64", "--tokenizer=learn:wordpiece:8000", out("bert"), steps(PRETRAIN_STEPS),
                  "--learning_rate=2e-3", "--batch_size=64", "--precision=bfloat16", f"--eval_every={10 ** 9}",
                  "--log_every=100")
    task = ("--data=builtin:python", "--max_length=64", steps(FINETUNE_STEPS), "--batch_size=32", "--log_every=200",
            f"--eval_every={max(1, round(FINETUNE_STEPS * values.share / 6))}")
    stage(2, "fine-tune it to recognize the library of a docstring")
    tuned = _train(finetune, f"--init={folder / 'bert'}", out("finetuned"), "--learning_rate=5e-4", *task)
    stage(3, "train the same model from scratch, and a bag-of-words classifier")
    scratch = _train(finetune, f"--model={ENCODER}", f"--tokenizer={folder / 'bert' / 'model'}", out("scratch"),
                     "--learning_rate=5e-4", *task)
    words = _bag_of_words(folder)
    stage(4, "fine-tune the small BERT to tag the tokens of functions with their roles")
    tagged = _train(finetune, "--task=tagging", f"--init={folder / 'bert'}", "--data=builtin:python_source",
                    "--max_length=128", out("tagged"), steps(TAG_STEPS), "--batch_size=16", "--learning_rate=1e-3",
                    "--precision=bfloat16", f"--eval_every={10 ** 9}", "--log_every=100")
    roles = _tags(folder / "tagged")
    stage(5, "train a small GPT-2 on source code and generate a sample")
    gpt = _train(pretrain, "--task=causal_lm", f"--model={DECODER}", "--data=builtin:python_source",
                 "--tokenizer=learn:bpe:2000", "--max_length=128", "--batch_size=16", out("gpt"), steps(GPT_STEPS),
                 "--learning_rate=2e-3",
                 "--precision=bfloat16", f"--eval_every={10 ** 9}", "--log_every=100")
    written = folder / "written.txt"
    generate.run(generate.make_flags().parse([f"--init={folder / 'gpt'}", "--prompt=def ", "--max_new_tokens=200",
                                              "--temperature=0.7", f"--output={written}"]))
    stage(6, "load the fine-tuned model from disk and evaluate it")
    saved = evaluate.run(evaluate.make_flags().parse([f"--init={folder / 'finetuned'}", "--data=builtin:python"]))
    stage(7, "export it, and query the SavedModel from a process without tfzoo")
    answer = _export(folder / "finetuned", folder / "exported")
    curves = _draw(folder, words)
    minutes = (time.perf_counter() - begin) / 60
    print(written.read_text(encoding="utf-8"))
    print(f"{roles}\n")
    print(_table([
        ("what", "score", "where"),
        ("BERT, masked tokens of docstrings", f"accuracy {bert['accuracy']:.3f}", bert["model"]),
        ("fine-tuned: docstring -> library", f"accuracy {tuned['accuracy']:.3f}, f1 {tuned['f1']:.3f}", tuned["model"]),
        ("the same from scratch", f"accuracy {scratch['accuracy']:.3f}, f1 {scratch['f1']:.3f}", scratch["model"]),
        ("bag of words (TF-IDF)", f"accuracy {words:.3f}", ""),
        ("roles of the tokens of functions", f"accuracy {tagged['accuracy']:.3f}", tagged["model"]),
        ("GPT-2, source code", f"perplexity {gpt['perplexity']:.1f} per token", gpt["model"]),
        ("SavedModel, strings in", f"{QUESTION!r}: {answer['label']}", folder / "exported"),
        ("training curves", "" if curves else "pip install matplotlib, and rerun", curves or "")]))
    print(f"\nthree commands to try next:\n"
          f"  tensorboard --logdir {folder}\n"
          f"  echo 'Draws samples from a normal distribution.' | "
          f"python -m experiments.predict --init={folder}/finetuned\n"
          f"  python -m experiments.generate --init={folder}/gpt --prompt='class '")
    return {"minutes": round(minutes, 2), "folder": str(folder), "bert": bert["model"], "finetuned": tuned["model"],
            "scratch": scratch["model"], "tagged": tagged["model"],
            "gpt": gpt["model"], "exported": str(folder / "exported"),
            "masked_lm_accuracy": bert["accuracy"], "finetuned_accuracy": saved["accuracy"],
            "finetuned_f1": saved["f1"], "scratch_accuracy": scratch["accuracy"], "bag_of_words_accuracy": words,
            "tagging_accuracy": tagged["accuracy"],
            "gpt_perplexity": gpt["perplexity"], "exported_label": answer["label"], "curves": curves and str(curves)}


if __name__ == "__main__":
    app.main(make_flags(), run)
