"""The interface that all architectures share: call arguments, outputs, cached decoding and low-rank adapters."""
import dataclasses
import typing

import keras
import tensorflow as tf
from keras import ops

from tfzoo.errors import ConfigError, shown
from tfzoo.layers import Linear, Taps
from tfzoo.models.masks import in_order


ADAPTER = ("rank", "alpha", "adapter_dropout")  # a low-rank adapter's settings (see Linear)


def check_columns(column, count, length):
    """Return `column`; raise the error documented in `Body.step` if `column + count` exceeds `length`."""
    if any(map(tf.is_symbolic_tensor, (column, count, length))):
        with tf.control_dependencies([
                tf.debugging.assert_less_equal(column + count, length, f"start reserved {length} columns")]):
            return tf.identity(column)  # so that nothing is written, which would fail with another message
    if int(column) + count > length:
        raise ConfigError(f"got {int(column) + count} columns, but start reserved only {length}; call start with a "
                          "larger length")
    return column


def begun(token_ids, mask, length):
    """Return what a body needs to `start` decoding.

    Args:
        token_ids: int32 [B, T], the prompts.
        mask: int [B, T], 1 for real tokens, or None.
        length: int or int32 scalar tensor, the number of columns to reserve.

    Returns:
        (int32 [B, T], dict, dict): the mask; the `position_ids` and the last column to `read` of the prompts; and the
        state after them, to which the body adds `keys`.

    Raises:
        ConfigError: if the prompts have more columns.
    """
    batch, columns = ops.shape(token_ids)
    check_columns(0, columns, length)
    real = ops.ones_like(token_ids) if mask is None else ops.cast(mask, "int32")
    prompt = {"position_ids": ops.maximum(ops.cumsum(real, axis=1) - 1, 0),
              "read": ops.full((batch, 1), columns - 1, dtype="int32")}
    after = ops.ones((batch, length - columns), dtype="int32")
    return real, prompt, {"real": ops.concatenate([real, after], axis=1), "position": ops.sum(real, axis=1),
                          "column": ops.convert_to_tensor(columns, "int32")}


class Branches(typing.NamedTuple):
    """How n new columns continue a tree of texts, such as the beams of a row, instead of one text.

    Attributes:
        visible: bool [B, n, S], which columns of the cache each new column attends to, itself included.
        row: int32 scalar, the column in its text of each new column; they are all the same.
        columns: int32 [S], the column in its text of each column of the cache.
    """

    visible: object
    row: object
    columns: object


def advanced(state, caches, count, branches=None):
    """Return the state of decoding after `count` more columns, given the Caches that hold their keys."""
    return {**state, "keys": [cache.keys for cache in caches], "column": state["column"] + count,
            "position": state["position"] + (count if branches is None else 1)}


def placed(state, count, branches, window=0):
    """Return where the next `count` columns stand and what they attend to.

    Args:
        state: see `Body.step`.
        count: int or int32 scalar.
        branches: Branches or None.
        window: int, the sliding window; 0 for no limit.

    Returns:
        (int32 [B, n], int32 [n], int32 [S], bool broadcastable to [B, H, n, S]): the position ids and the columns of
        the queries, the columns of the keys, and the mask.
    """
    if branches is None:
        rows, columns = state["column"] + ops.arange(count), ops.arange(ops.shape(state["real"])[1])
        mask = in_order(rows, columns, window) & ops.cast(state["real"], "bool")[:, None, None, :]
        return state["position"][:, None] + ops.arange(count)[None], rows, columns, mask
    rows = ops.zeros((count,), "int32") + branches.row
    mask = branches.visible[:, None] & in_order(rows, branches.columns, window)
    return state["position"][:, None] + ops.zeros((1, count), "int32"), rows, branches.columns, mask


@dataclasses.dataclass(frozen=True)
class Traits:
    """Capabilities of a body, so that callers need not depend on its class.

    Attributes:
        causal: bool, whether each position attends only to itself and earlier positions.
        cached: bool, whether it can decode with a key/value cache: `start`, `step` and `reorder`.
        pooled: bool, whether it also returns `pooled`, a single vector for the whole text.
        source: bool, whether it also takes a source text (encoder-decoder).
    """

    causal: bool
    cached: bool
    pooled: bool = False
    source: bool = False


def check_inputs(body, inputs, embedded=None, several=False):
    """Raise a one-line ConfigError for inputs that would otherwise fail deep inside the layers.

    Args:
        body: Body.
        inputs, embedded: see Body's call arguments.
        several: bool, whether inputs may be [B, N, T], several texts per row.
    """
    if not isinstance(inputs, dict):
        raise ConfigError(f"inputs must be a dict of {', '.join(body.input_names)}, got a {type(inputs).__name__}")
    for side in ("encoder_", "decoder_") if body.traits.source else ("",):
        given = embedded.get(side[:-1]) if isinstance(embedded, dict) else embedded
        if given is not None:
            continue
        name = f"{side}token_ids"
        length = _length_of(name, inputs.get(name), inputs, several)
        most = body.config["max_length"] if body.config["positions"] in ("learned", "sinusoidal") else None
        if length and most and length > most and inputs.get("position_ids") is None:
            raise ConfigError(f"{name} has {length} columns, but the model has only {most} positions (max_length); "
                              "truncate the texts or build the model with a larger max_length")
        for other in (f"{side}padding_mask", *(() if side else ("segment_ids", "position_ids", "document_ids"))):
            columns = getattr(inputs.get(other), "shape", ())[-1:]
            if length and columns and columns[0] not in (None, length):
                raise ConfigError(f"{other} has {columns[0]} columns, but {name} has {length}; they must be equal")


def _length_of(name, ids, inputs, several):
    # Return the number of token-id columns, None if it is unknown in a graph; raise ConfigError for invalid ids.
    shape, kind = getattr(ids, "shape", None), getattr(ids, "dtype", None)
    if ids is None or shape is None:
        got = f"{name} is a {type(ids).__name__}" if name in inputs else \
            f"inputs contain {', '.join(inputs) or 'nothing'}"
        raise ConfigError(f"{got}; {name} is required and must be an array or tensor of integers [B, T]")
    known = getattr(shape, "rank", len(shape) if isinstance(shape, tuple) else None)
    if known not in (None, 2, 3 if several else 2) or "int" not in keras.backend.standardize_dtype(kind):
        raise ConfigError(f"{name} must be integers of shape [B, T], got shape {list(shape)} and dtype "
                          f"{keras.backend.standardize_dtype(kind)}")
    return shape[-1] if known else None


class DictModel(keras.Model):
    """A model that takes a dict of inputs (see Body and TaskModel) and raises one-line errors for invalid inputs.

    Subclasses define `input_names`: tuple of str, the names of an exported model's inputs.
    """

    def __call__(self, inputs, **options):
        check_inputs(getattr(self, "body", self), inputs, options.get("embedded"), several=hasattr(self, "body"))
        return super().__call__(inputs, **options)

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **options):
        """Export as keras.Model does; by default, the signature has `input_names`, int32 [B, T] or [B, N, T]."""
        if input_signature is None:
            axes = getattr(getattr(self, "task", None), "axes", 2)
            self._called = True  # Keras exports only models that have been called
            input_signature = [{name: keras.InputSpec(dtype="int32", shape=(None,) * axes, name=name)
                                for name in self.input_names}]
        super().export(filepath, format=format, verbose=verbose, input_signature=input_signature, **options)


class Body(DictModel):
    """A model without a head.

    The constructor takes plain values, which are stored by name in `config`, plus `dtype` and `name`. Low-rank adapters
    are added after construction; `get_config` includes them, so models with unmerged adapters can be saved.

    Call arguments:
        inputs: dict of int32 [B, T]: `token_ids` and, optionally, `padding_mask`, `position_ids`, `document_ids` and
            any others that the class documents. An encoder-decoder takes `encoder_token_ids` [B, S],
            `decoder_token_ids` [B, T] and, optionally, `encoder_padding_mask` and `decoder_padding_mask` instead.
        read: int32 [B, P], the positions to return, so that the last block can skip the others; None returns all.
        embedded: float [B, T, E], embeddings to use instead of looking up token_ids (for soft prompts or adversarial
            training); token_ids may then be omitted. None looks up token_ids.
        keep: iterable of str, names of intermediate results to return, such as "embeddings", "block_03" or
            "block_03/attention/probabilities".
        training: bool.

    Returns:
        dict with "sequence" float [B, T, D] or, with `read`, "read" float [B, P, D]; "pooled" float [B, D] if the body
        has a pooler; and an entry for each name in `keep`.

    Raises:
        ConfigError: if `keep` contains a name that this body does not have.
    """

    @classmethod
    def traits_of(cls, config):
        """Return the Traits of a body with this config (dict)."""
        raise NotImplementedError(f"{cls.__name__} does not implement traits_of")

    @classmethod
    def pooled_arguments(cls, pooled):
        """Return the constructor arguments that determine whether the body has a pooler.

        Args:
            pooled: bool, whether to have a pooler.

        Returns:
            dict, empty if the class has no such arguments.
        """
        return {}

    @property
    def input_names(self):
        """Return the names of the standard inputs, including segment_ids if the body has segments: tuple of str."""
        sides = ("encoder_", "decoder_") if self.traits.source else ("",)
        segments = ("segment_ids",) if self.config.get("num_segments", 0) > 1 else ()
        return (*(f"{side}{name}" for side in sides for name in ("token_ids", "padding_mask")), *segments)

    @property
    def traits(self):
        """Return this body's Traits."""
        return self.traits_of(self.config)

    def start(self, inputs, length):
        """Start decoding by running the prompts in one pass.

        Args:
            inputs: see `call`; prompts of different lengths must be left-padded (padding_mask).
            length: int or int32 scalar tensor, number of columns to reserve, including the prompts' columns.

        Returns:
            (outputs, state): a dict with "sequence" float [B, 1, D], the hidden states in the last column; and a nested
                structure of tensors for `step`.

        Raises:
            ConfigError: if the prompts are longer than `length`, or this body cannot decode.
        """
        raise ConfigError(f"{self.name} cannot decode; use a decoder or an encoder-decoder")

    def step(self, token_ids, state, branches=None):
        """Decode the next n columns.

        Args:
            token_ids: int32 [B, n].
            state: from `start` or the previous `step`.
            branches: Branches, if the columns continue different texts; None: one text.

        Returns:
            (outputs, state): a dict with "sequence" float [B, n, D], and the new state.

        Raises:
            ConfigError: if there are more columns than `start` reserved. A graph raises
                tf.errors.InvalidArgumentError instead. XLA drops assertions, so compiled code raises nothing, and the
                caller must count the columns.
        """
        raise ConfigError(f"{self.name} cannot decode; use a decoder or an encoder-decoder")

    def reorder(self, state, rows):
        """Return the state for the rows with indices `rows`, int32 [N], for example to continue a beam search."""
        return tf.nest.map_structure(lambda value: value if value.shape.rank == 0 else tf.gather(value, rows), state)

    @property
    def linears(self):
        """Return all projections: dict of path (such as "block_00/attention/query") -> Linear."""
        linears = [layer for layer in self._flatten_layers(include_self=False) if isinstance(layer, Linear)]
        return {linear.path: linear for linear in sorted(linears, key=lambda linear: linear.path)}

    @property
    def adapters(self):
        """Return the low-rank adapters: dict of Linear path -> dict with `rank`, `alpha` and `adapter_dropout`."""
        return {path: linear.adapter for path, linear in self.linears.items() if linear.rank}

    def add_adapters(self, adapters):
        """Add low-rank adapters, which do not change the output until they are trained.

        Args:
            adapters: dict, in the same form as the property `adapters`.

        Raises:
            ConfigError: if a path does not belong to a Linear, a Linear already has an adapter, or a setting is
                invalid.
        """
        linears = self.linears
        if not isinstance(adapters, dict) or not all(isinstance(values, dict) and set(values) == set(ADAPTER)
                                                     for values in adapters.values()):
            raise ConfigError(f"adapters must be a dict of path -> {', '.join(ADAPTER)}, got {shown(adapters)}")
        for path, values in adapters.items():
            if path not in linears:
                raise ConfigError(f"adapters contain the unknown path {shown(path)}; choose from "
                                  f"{', '.join(list(linears)[:6])} ...")
            linears[path].check_adapter(**values)
        for path, values in adapters.items():
            linears[path].add_adapter(**values)

    def merge_adapters(self):
        """Merge all low-rank adapters into their kernels, in float32, and remove them."""
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
    """Return the intermediate results recorded by `taps`; raise ConfigError if a requested name was not found."""
    missing = taps.names - taps.found.keys()
    if missing:
        raise ConfigError(f"keep contains the unknown name {min(missing)!r}; choose from {', '.join(allowed)}")
    return taps.found


def open_taps(keep):
    """Return Taps for the call argument `keep`; raise ConfigError if it is a single string."""
    if isinstance(keep, str):
        raise ConfigError(f"keep must be a list of names, got {keep!r}")
    return Taps(keep)
