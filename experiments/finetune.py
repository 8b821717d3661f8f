"""Fine-tune a pretrained model on a task, or train one from scratch.

    python -m experiments.finetune --init=runs/bert --data=reviews.jsonl --eval_fraction=0.1 \\
        --output_dir=runs/reviews

Run the same command again to resume an interrupted run.
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("finetune", __doc__)
    groups.training(script, groups.FIELDS.FINETUNING, "classification")
    return script


def run(values):
    import tfzoo
    return tfzoo.train(**{"task": values.task, **app.given(values)})


if __name__ == "__main__":
    app.main(make_flags(), run)
