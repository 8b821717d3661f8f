"""Sequence-to-sequence: generate a target text from a source text (Vaswani et al. 2017; Raffel et al. 2020)."""
from tfzoo.tasks.heads import CausalLMHead
from tfzoo.tasks.task import Task


class Seq2Seq(Task):
    """Generate a target text from a source text."""

    name = "seq2seq"

    def suits(self, traits):
        return traits.source

    def head(self, body, dropout):
        config, width, tied = body.config, body.config["hidden_dim"], body.config["tied"]
        return CausalLMHead(*(() if tied else (config["vocab_size"], width)),
                            scale=width ** -0.5 if tied and config["scaled_logits"] else 1.0,
                            initializer_range=config["initializer_range"] or width ** -0.5, name="head",
                            dtype=body.dtype_policy)
