"""Pretrain a language model, from scratch or from an earlier run.

BERT learns to predict masked tokens (--task=masked_lm), GPT-2 to predict the next one (--task=causal_lm).
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("pretrain", __doc__)
    groups.training(script, groups.SETTINGS.PRETRAINING, "masked_lm")
    return script


def run(values):
    import tfzoo
    return tfzoo.train(**{"task": values.task, **app.given(values)})


if __name__ == "__main__":
    app.main(make_flags(), run)
