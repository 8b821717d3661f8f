"""Causal language modelling: predict each next token (Radford et al. 2018)."""
import math

from tfzoo.data.corpus import open_corpus
from tfzoo.data.stream import StreamBatches
from tfzoo.tasks.heads import CausalLMHead
from tfzoo.tasks.task import Task


class CausalLM(Task):
    """Predict each next token."""

    name, script = "causal_lm", "pretrain"

    def suits(self, traits):
        return traits.causal and not traits.source

    def head(self, body, dropout):
        own = () if body.config["tied"] else (body.config["vocab_size"], body.config["hidden_dim"])
        return CausalLMHead(*own, name="head", dtype=body.dtype_policy)

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        raw_bytes = source.raw_bytes if tokenizer.lossless else None
        return StreamBatches(open_corpus(source, tokenizer), tokenizer, batch_size=batch_size, max_length=max_length,
                             seed=seed if training else None, raw_bytes=raw_bytes)

    def metrics(self, sums, answers=None, references=None):
        """Compute metrics (see Task), and bits_per_byte if `references` (UTF-8 bytes in the targets) is known."""
        metrics = super().metrics(sums)
        if references:
            metrics["bits_per_byte"] = float(sums["loss"]) / math.log(2) / references
        return metrics
