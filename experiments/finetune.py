"""Fine-tune a pretrained model on a task, or train one from scratch.

    python -m experiments.finetune --init=runs/bert --data=reviews.jsonl --eval_fraction=0.1 \\
        --output_dir=runs/reviews

Run the same command again to resume an interrupted run.
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("finetune", __doc__)
    groups.training(script, groups.FIELDS.FINETUNING, "classification")
    script.add("string", "seeds", None, "Train a run for each of these seeds, for example 0,1,2, in the folders "
               "seed_0, seed_1 ... of --output_dir, and print the mean and standard deviation of each metric; instead "
               "of --seed.")
    return script


def run(values):
    if values.seeds is not None:
        from experiments import seeds
        return seeds.run(values)
    import tfzoo
    return tfzoo.train(**{"task": values.task, **app.given(values)})


if __name__ == "__main__":
    app.main(make_flags(), run)
