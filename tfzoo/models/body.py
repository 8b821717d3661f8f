"""The contract of every architecture: what a body takes, gives, and how it decodes."""
import dataclasses

import keras
import tensorflow as tf

from tfzoo.errors import ConfigError, shown
from tfzoo.layers import Linear, Taps


ADAPTER = ("rank", "alpha", "adapter_dropout")  # the values of a low-rank adapter, see Linear


def check_columns(column, count, length):
    """Refuse to decode `count` columns from `column` on where there are `length`; see the errors of Body.step."""
    if tf.is_symbolic_tensor(column):
        tf.debugging.assert_less_equal(column + count, length, f"columns beyond the {length} of start")
    elif int(column) + count > length:
        raise ConfigError(f"{int(column) + count} columns: allowed are the {length} that start was given; start with a "
                          "greater length")


@dataclasses.dataclass(frozen=True)
class Traits:
    """What a body is, for those who need not know which.

    Attributes:
        causal: bool, each position sees itself and what stands before it alone.
        cached: bool, it decodes: `start`, `step` and `reorder`.
        pooled: bool, it gives a vector of the whole text, `pooled`.
        source: bool, it reads a source text beside its own.
    """

    causal: bool
    cached: bool
    pooled: bool = False
    source: bool = False


class Body(keras.Model):
    """A model without a head.

    Its constructor takes plain values, which `config` keeps by name, and `dtype` and `name`. Low-rank adapters are
    added to a body that is there; `get_config` has them, so that a file keeps an unmerged model.

    Call arguments:
        inputs: dict of int32 [B, T]: token_ids, and optionally padding_mask, position_ids, document_ids and what else
            the class names; of encoder-decoders encoder_token_ids [B, S], decoder_token_ids [B, T] and their masks.
        read: int32 [B, P], the only positions that are needed: nothing else is computed that only others need.
            None: all.
        embedded: float [B, T, E], what stands in for the rows of the token table (prompts, adversarial steps); then
            token_ids may be missing. None looks them up.
        keep: iterable of str, intermediates to return: "embeddings", "block_03", "block_03/attention/probabilities".
        training: bool.

    Returns:
        dict: sequence float [B, T, D], or with `read` read [B, P, D]; pooled [B, D] where the body is pooled; and each
        of `keep` by its name.

    Raises:
        ConfigError: for a name in `keep` that the body has not.
    """

    @classmethod
    def traits_of(cls, config):
        """Return the Traits of a body with this config."""
        raise NotImplementedError(f"{cls.__name__} has no traits")

    @classmethod
    def pooled_arguments(cls, pooled):
        """Return the arguments with which a body has a pooler, or has none: dict; empty where it never has one."""
        return {}

    @property
    def traits(self):
        """Return this body's Traits."""
        return self.traits_of(self.config)

    def start(self, inputs, length):
        """Begin to decode: run the prompts in one pass.

        Args:
            inputs: as `call`, prompts of different lengths padded on the left (padding_mask).
            length: int, columns in all, at least those of the prompts.

        Returns:
            (dict with sequence float [B, 1, D], of each row's last column; state, a nest of tensors).

        Raises:
            ConfigError: for a length that the prompts exceed, or a body that does not decode.
        """
        raise ConfigError(f"{self.name} does not decode: allowed are decoders and encoder-decoders")

    def step(self, token_ids, state):
        """Decode the next columns.

        Args:
            token_ids: int32 [B, n].
            state: of `start` or the step before.

        Returns:
            (dict with sequence float [B, n, D], state).

        Raises:
            ConfigError: beyond the length of `start`; in a graph tf.errors.InvalidArgumentError, but where XLA has
                compiled it, which knows no such errors: there the caller keeps count.
        """
        raise ConfigError(f"{self.name} does not decode: allowed are decoders and encoder-decoders")

    def reorder(self, state, rows):
        """Return a state whose rows are those of these numbers, int32 [N], as a beam search needs it."""
        return tf.nest.map_structure(lambda value: value if value.shape.rank == 0 else tf.gather(value, rows), state)

    @property
    def linears(self):
        """Return the projections of all parts: dict of path, as "block_00/attention/query" -> Linear."""
        linears = [layer for layer in self._flatten_layers(include_self=False) if isinstance(layer, Linear)]
        return {linear.path: linear for linear in sorted(linears, key=lambda linear: linear.path)}

    @property
    def adapters(self):
        """Return the low-rank adapters: dict of the path of a Linear -> dict of rank, alpha and adapter_dropout."""
        return {path: linear.adapter for path, linear in self.linears.items() if linear.rank}

    def add_adapters(self, adapters):
        """Add low-rank adapters, which change no output yet.

        Args:
            adapters: dict, as `adapters` gives it.

        Raises:
            ConfigError: for a path that is no Linear's, one that has an adapter, or values that are none.
        """
        linears = self.linears
        if not isinstance(adapters, dict) or not all(isinstance(values, dict) and set(values) == set(ADAPTER)
                                                     for values in adapters.values()):
            raise ConfigError(f"adapters are {shown(adapters)}: allowed is a dict of path -> {', '.join(ADAPTER)}")
        for path, values in adapters.items():
            if path not in linears:
                raise ConfigError(f"adapters have {shown(path)}: allowed are {', '.join(list(linears)[:6])} ...")
            linears[path].check_adapter(**values)
        for path, values in adapters.items():
            linears[path].add_adapter(**values)

    def merge_adapters(self):
        """Add all low-rank adapters to their kernels, in float32, and remove them."""
        for linear in self.linears.values():
            linear.merge_adapter()

    def get_config(self):
        adapters = {"adapters": self.adapters} if self.adapters else {}
        return {**self.config, **adapters, "name": self.name,
                "dtype": keras.saving.serialize_keras_object(self.dtype_policy)}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        adapters = config.pop("adapters", {})
        body = cls(**config)
        body.add_adapters(adapters)
        return body


def kept(taps, allowed):
    """Return what Taps have found, or raise ConfigError where a name found nothing."""
    missing = taps.names - taps.found.keys()
    if missing:
        raise ConfigError(f"keep has {min(missing)!r}: allowed are {', '.join(allowed)}")
    return taps.found


def open_taps(keep):
    """Return the Taps of the argument `keep`."""
    if isinstance(keep, str):
        raise ConfigError(f"keep is {keep!r}: allowed is a list of names")
    return Taps(keep)
