"""Train a tiny model for each task, whole, killed and resumed, and with the batch split over two devices.

`python -m tests.training.every_task FOLDER [TASK ...]` prints one JSON object per case; the slow test calls the same
function. Each run is a fork of a process that has imported TensorFlow but not computed anything. The runs of
tests/training/kills.py do the same for classification and contrastive learning, more thoroughly.
"""
import json
import pathlib
import sys

from experiments import app
from tests.experiments.conftest import SMALL_MODEL
from tests.training.kills import compare, die_at, left_by, run, tell, weights_of

TEXTS = [f"{'good' if number % 3 else 'bad'} film number {number}" for number in range(40)]
ENCODER, DECODER = ["--model=bert_tiny", *SMALL_MODEL], ["--model=gpt2_tiny", *SMALL_MODEL]
# task: (arguments, function from a text to a row, whether to split its batches too: other tests do so for the others)
TASKS = {
    "tagging": ([*ENCODER, "--overlap=3"], lambda text: {
        "tokens": text.split(), "tags": ["B-X", "I-X", "O", "B-Y"]}, False),
    "question_answering": ([*ENCODER, "--overlap=3"], lambda text: {
        "question": "how", "context": text, "answers": [{"text": text.split()[0], "answer_start": 0}]}, True),
    "seq2seq": (["--model=transformer_tiny", *SMALL_MODEL, "--max_target_length=6"], lambda text: {
        "source": text, "target": text.split()[0]}, False),
    "completion": ([*DECODER, "--max_target_length=6"], lambda text: {
        "prompt": text, "completion": text.split()[0]}, True)}


def words_of(task, folder, *more):
    """Return the arguments of a run, with dropout and an average of the weights."""
    data = pathlib.Path(folder).parent / f"{task}.jsonl"
    arguments, row, _ = TASKS[task]
    data.write_text("".join(json.dumps(row(text)) + "\n" for text in TEXTS))
    return [f"--task={task}", *arguments, f"--data={data}", f"--output_dir={folder}", "--tokenizer=bytes", "--steps=9",
            "--batch_size=8", "--max_length=24", "--eval_every=4", "--save_every=2", "--log_every=3", "--deterministic",
            "--eval_fraction=0.2", "--dropout=0.2", "--ema_decay=0.9", "--learning_rate=0.01", *more]


def main():
    folder, names = pathlib.Path(sys.argv[1]), sys.argv[2:] or TASKS
    folder.mkdir(parents=True, exist_ok=True)
    app.import_tensorflow()
    import tfzoo.training.run  # noqa: F401  import once, before forking
    for task in names:
        cases = {"whole": ([], []), "killed": ([], [die_at("before old checkpoints go")])}
        if TASKS[task][2]:
            cases["split"] = ["--strategy=mirrored", "--virtual_devices=2", "--accumulate_steps=2"], []
        left = {}
        for case, (more, kills) in cases.items():
            target, log = folder / f"{task}_{case}", folder / f"{task}_{case}.log"
            codes = [run(words_of(task, target, *more), log, prepare) for prepare in [*kills, None]]
            if codes[-1]:
                tell(task=task, case=case, codes=codes, different=["exit code"], log=log.read_text()[-3000:])
                continue
            left[case] = {**left_by(target), **weights_of(target)}
            if case != "whole" and "whole" in left:
                different, largest = compare(left["whole"], left[case])
                tell(task=task, case=case, codes=codes, different=different, largest=largest)


if __name__ == "__main__":
    main()
