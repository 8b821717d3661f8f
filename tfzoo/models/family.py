"""A family of models: its sizes, its body, and how others keep it."""
import dataclasses

from tfzoo.models.reference import Preset, Reference

SIZED = ("vocab_size", "num_layers", "hidden_dim", "num_heads", "ffn_dim")  # what a family alone does not have


@dataclasses.dataclass(frozen=True)
class Family:
    """A family.

    Attributes:
        name: str, as "bert".
        sizes: dict of a model's name -> arguments of the body.
        body: type, a subclass of Body.
        reference: Reference in Hugging Face's transformers, or None.
        preset: Preset in keras-nlp, or None.
        origins: dict of the begin of a name -> (where its original weights are, their licence); tiny models are ours,
            but for one whose whole name is there.
    """

    name: str
    sizes: dict
    body: type
    reference: Reference | None = None
    preset: Preset | None = None
    origins: dict = dataclasses.field(default_factory=dict)

    @property
    def common(self):
        """Return the arguments that all sizes have alike: dict."""
        first, *others = self.sizes.values()
        return {key: value for key, value in first.items()
                if key not in SIZED and all(key in other and other[key] == value for other in others)}

    def head_dropout(self, task, rate, given=None):
        """Return the rate before the projection of a fresh head, as the family's reference has it.

        Args:
            task: str; rate: float, the body's.
            given: float, what the user asks for, for all that drops anything; None for the reference's rates.
        """
        rates = self.reference.head_dropouts if self.reference else {}
        own = rates[task][1] if task in rates else 0.0
        return own if own == 0.0 else next(one for one in (given, own, rate) if one is not None)

    def origin_of(self, name):
        """Return (where a model's original weights are, their licence), (None, None) where none were published."""
        begins = [begin for begin in self.origins
                  if name.startswith(begin) and (begin == name or "tiny" not in name.split("_"))]
        return self.origins[max(begins, key=len)] if begins else (None, None)
