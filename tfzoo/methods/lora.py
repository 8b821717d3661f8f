"""Low-rank adaptation (Hu et al. 2021, LoRA, arXiv:2106.09685): frozen kernels, to which thin products are added.

What adapters compute is `layers/linear.py`'s, how a body keeps them `models/body.py`'s. The head trains in full, and
with it the pooler, which is fresh wherever the reference counts it into the head (RoBERTa, ELECTRA, DistilBERT).
"""
import collections
import re

from tfzoo.errors import ConfigError
from tfzoo.methods.method import Method, compiled, count_weights, freeze, split

TARGETS = r"attention/(query|value)$"  # searched in the paths of the body's projections; cross-attention's too
TRAIN = r"^(head|pooler)/"  # searched in the paths of variables
ADAPTERS = re.compile(r"/lora_[ab]$")


class LoRA(Method):
    """Train low-rank adapters of some projections, and the head.

    Args:
        rank: int, r.
        alpha: float; what an adapter computes is scaled by alpha / rank.
        adapter_dropout: float, on the adapters' inputs.
        targets: str, a regular expression that is searched in the paths of the body's Linear layers.
        train: str, a regular expression that is searched in the paths of variables: those that train in full, unless
            their layer is adapted.

    Raises:
        ConfigError: for a regular expression that is none.

    Example:
        >>> from tfzoo import build
        >>> model = build("bert_tiny", task="classification", labels=["bad", "good"], vocab_size=1000)
        >>> method = LoRA(rank=4)
        >>> method.prepare(model)
        >>> method.report(model)
        'lora: 4 adapters of rank 4 (2 query, 2 value), 4,096 weights; 20,866 train, 590,592 are frozen'
    """

    name, learning_rate, pretrained = "lora", 5e-4, True
    about = "low-rank adapters of frozen projections train, and the head; needs --init."

    def __init__(self, rank=8, alpha=8.0, adapter_dropout=0.0, targets=TARGETS, train=TRAIN):
        self.settings_of_adapter = {"rank": rank, "alpha": alpha, "adapter_dropout": adapter_dropout}
        self.targets, self.train = compiled("targets", targets), compiled("train", train)

    @property
    def settings(self):
        return {**self.settings_of_adapter, "targets": self.targets.pattern, "train": self.train.pattern}

    def prepare(self, model):
        """See Method.prepare; adapters that are there already, with the same values, go on.

        Raises:
            ConfigError: for targets that match no Linear, or a token table; a rank below 1 or above the smaller side of
                a kernel; a model with other adapters.
        """
        body = model.body
        wanted = {path: self.settings_of_adapter for path in body.linears if self.targets.search(path)}
        self._check(body, wanted)
        if not body.adapters:
            body.add_adapters(wanted)
        elif body.adapters != wanted:
            raise ConfigError(f"the model has other adapters ({len(body.adapters)}, as {next(iter(body.adapters))}): "
                              "merge them first, or name their rank, alpha, adapter_dropout and targets")
        freeze(model, lambda path: ADAPTERS.search(path) or (
            self.train.search(path) and path.rpartition("/")[0] not in wanted))

    def _check(self, body, wanted):
        table = body.embeddings.token.path
        if self.targets.search(table) and not self.targets.search(""):  # all of a model is fine
            raise ConfigError(f"targets is {self.targets.pattern!r}, which names {table}, a token table that a head "
                              f"may share: allowed are projections, as {', '.join(list(body.linears)[:4])}")
        if not wanted:
            raise ConfigError(f"targets is {self.targets.pattern!r}, which matches no projection of the body: allowed "
                              f"are regular expressions for {', '.join(list(body.linears)[:6])} ...")

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
                f"{trained:,} train, {frozen:,} are frozen")
