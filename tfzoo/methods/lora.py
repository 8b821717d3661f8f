"""Low-rank adaptation (Hu et al. 2021, LoRA, arXiv:2106.09685): frozen kernels plus trained low-rank products.

`layers/linear.py` computes the adapters; `models/body.py` adds and merges them. The head is trained in full. So is the
pooler, because in some families (RoBERTa, ELECTRA, DistilBERT) it belongs to the head and is newly initialized.
"""
import collections
import re

from tfzoo.errors import ConfigError
from tfzoo.methods.method import Method, compiled, count_weights, freeze, split

TARGETS = r"attention/(query|value)$"  # searched for in the paths of the body's projections, including cross-attention
TRAIN = r"^(head|pooler)/"  # searched for in the paths of variables
ADAPTERS = re.compile(r"/lora_[ab]$")


class LoRA(Method):
    """Train the head and low-rank adapters for selected projections.

    Args:
        rank: int, rank of the adapters.
        alpha: float, scale factor; adapter outputs are multiplied by alpha / rank.
        adapter_dropout: float, dropout rate for the adapters' inputs.
        targets: str, regular expression to search for in the paths of the body's Linear layers; layers with a match are
            adapted.
        train: str, regular expression to search for in the paths of variables; variables with a match are trained in
            full, unless their layer is adapted.

    Raises:
        ConfigError: if targets or train is not a valid regular expression.

    Example:
        >>> from tfzoo import build
        >>> model = build("bert_tiny", task="classification", labels=["bad", "good"], vocab_size=1000)
        >>> method = LoRA(rank=4)
        >>> method.prepare(model)
        >>> method.report(model)
        'lora: 4 adapters of rank 4 (2 query, 2 value), 4,096 weights; 20,866 are trained, 590,592 are frozen'
    """

    name, learning_rate, pretrained = "lora", 5e-4, True
    about = "train the head and low-rank adapters for frozen projections; requires --init."

    def __init__(self, rank=8, alpha=8.0, adapter_dropout=0.0, targets=TARGETS, train=TRAIN):
        self.settings_of_adapter = {"rank": rank, "alpha": alpha, "adapter_dropout": adapter_dropout}
        self.targets, self.train = compiled("targets", targets), compiled("train", train)

    @property
    def settings(self):
        return {**self.settings_of_adapter, "targets": self.targets.pattern, "train": self.train.pattern}

    def prepare(self, model):
        """Add the adapters, or keep existing ones with the same settings, and freeze the rest (see `Method.prepare`).

        Raises:
            ConfigError: if `targets` matches no Linear layer or matches the token table; if rank is below 1 or exceeds
                the smaller dimension of a kernel; if alpha or adapter_dropout is out of range; or if the model already
                has different adapters.
        """
        body = model.body
        wanted = {path: self.settings_of_adapter for path in body.linears if self.targets.search(path)}
        self._check(body, wanted)
        if not body.adapters:
            body.add_adapters(wanted)
        elif body.adapters != wanted:
            raise ConfigError(f"the model already has different adapters ({len(body.adapters)}, such as "
                              f"{next(iter(body.adapters))}): merge them first, or pass their rank, alpha, "
                              "adapter_dropout and targets")
        freeze(model, lambda path: ADAPTERS.search(path) or (
            self.train.search(path) and path.rpartition("/")[0] not in wanted))

    def _check(self, body, wanted):
        table = body.embeddings.token.path
        if self.targets.search(table) and not self.targets.search(""):  # a pattern that matches everything is fine
            raise ConfigError(f"targets is {self.targets.pattern!r}, which matches {table}, a token table that a head "
                              f"may share; it must match only projections, such as {', '.join(list(body.linears)[:4])}")
        if not wanted:
            raise ConfigError(f"targets is {self.targets.pattern!r}, which matches no projection of the body; "
                              f"choose from {', '.join(list(body.linears)[:6])} ...")

    def merge(self, model):
        model.body.merge_adapters()
        super().merge(model)

    def report(self, model):
        adapters = model.body.adapters
        kinds = collections.Counter(path.rpartition("/")[2] for path in adapters)
        added = count_weights(weight for weight in model.weights if ADAPTERS.search(weight.path))
        trained, frozen = (count_weights(weights) for weights in split(model))
        return (f"lora: {len(adapters)} adapters of rank {self.settings_of_adapter['rank']} "
                f"({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}), {added:,} weights; "
                f"{trained:,} are trained, {frozen:,} are frozen")
