"""Pretrain a language model, from scratch or from an existing model.

    python -m experiments.pretrain --task=masked_lm --model=bert_l4_h256 --tokenizer=learn:wordpiece:8000 \\
        --data=corpus.txt --eval_fraction=0.05 --steps=20000 --output_dir=runs/bert

Encoders such as BERT learn to predict masked tokens (--task=masked_lm), decoders such as GPT-2 to predict the
next token (--task=causal_lm). Run the same command again to resume an interrupted run.
"""
from experiments import app, groups


def make_flags():
    script = app.Flags("pretrain", __doc__)
    groups.training(script, groups.FIELDS.PRETRAINING, "masked_lm")
    return script


def run(values):
    import tfzoo
    return tfzoo.train(**{"task": values.task, **app.given(values)})


if __name__ == "__main__":
    app.main(make_flags(), run)
