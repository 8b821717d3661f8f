"""A family of models: its sizes, its body class, and its names in other libraries."""
import dataclasses

from tfzoo.models.reference import Preset, Reference

SIZED = ("vocab_size", "num_layers", "hidden_dim", "num_heads", "ffn_dim")  # set by each size, not by the family


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        name: str, such as "bert".
        sizes: dict of model name -> dict of the body's arguments.
        body: type, a subclass of Body.
        reference: Reference, the family in Hugging Face's transformers, or None.
        preset: Preset, the family in keras-nlp, or None.
        origins: dict of model-name prefix -> (source of the original weights, licence). Most models with "tiny" in
            their names were never published, so those names must match a key in full.
    """

    name: str
    sizes: dict
    body: type
    reference: Reference | None = None
    preset: Preset | None = None
    origins: dict = dataclasses.field(default_factory=dict)

    @property
    def common(self):
        """Return the arguments that all sizes share, except those in SIZED: dict."""
        first, *others = self.sizes.values()
        return {key: value for key, value in first.items()
                if key not in SIZED and all(key in other and other[key] == value for other in others)}

    def head_dropout(self, task, rate, given=None):
        """Return the dropout rate to use before the projection in a newly initialized head.

        Args:
            task: str, name of the task.
            rate: float, the body's dropout rate, used if the reference gives the head no rate of its own.
            given: float, the rate that the user set for the whole model, or None to follow the reference.

        Returns:
            float; 0 if the head has no dropout in the reference, even if `given` is set.
        """
        own = self.reference.dropout_of(task)[1] if self.reference else 0.0
        return own if own == 0.0 else next(one for one in (given, own, rate) if one is not None)

    def origin_of(self, name):
        """Return (source, licence) for a model's original weights, or (None, None) if none were published."""
        begins = [begin for begin in self.origins
                  if name.startswith(begin) and (begin == name or "tiny" not in name.split("_"))]
        return self.origins[max(begins, key=len)] if begins else (None, None)
