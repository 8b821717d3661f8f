"""Position information in attention: rotary embeddings for queries and keys, and relative biases for scores.

Rotary embeddings follow RoFormer (Su et al. 2021, arXiv:2104.09864), but pair the two halves of each head, as in Llama.
Relative position biases follow T5 (Raffel et al. 2020, arXiv:1910.10683, section 2.1).
"""
import math

import keras
import numpy as np
from keras import ops

from tfzoo.errors import ConfigError, shown
from tfzoo.layers.configured import Configured, arguments
from tfzoo.layers.initializers import truncated_normal

SCALINGS = {  # rope_type -> required settings
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": {"factor", "original_max_position_embeddings"}}
YARN = {"beta_fast": 32, "beta_slow": 1, "attention_factor": None, "mscale": None, "mscale_all_dim": None,
        "truncate": True}


def check_scaling(scaling):
    """Raise ConfigError if `scaling` for rotary positions is invalid (see `rotary_frequencies`)."""
    kind = scaling.get("rope_type") if scaling else None
    if not scaling or kind == "default":
        return
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise ConfigError(f"rope_scaling must have one of the rope_types default, {', '.join(SCALINGS)}, got "
                          f"{shown(scaling)}")
    missing = SCALINGS[kind] - scaling.keys()
    strange = scaling.keys() - SCALINGS[kind] - ({*YARN, "rope_type"} if kind == "yarn" else {"rope_type"})
    wrong = [key for key in {*SCALINGS[kind], *YARN} & scaling.keys() if not _is_right(key, scaling[key])]
    if missing or strange or wrong:
        raise ConfigError(f"rope_scaling with rope_type {kind} requires {', '.join(sorted(SCALINGS[kind]))} (numbers "
                          f"above 0) and no unknown keys, got {shown(scaling, 120)}")


def _is_right(key, value):
    if key == "truncate":
        return isinstance(value, bool)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9
    return number or (value is None and YARN.get(key, 0) is None)


def rotary_frequencies(width, theta, scaling=None):
    """Return the frequencies for rotary positions, and the factor by which rotated heads are multiplied.

    Args:
        width: int, head width K, even.
        theta: float, the base of the frequencies.
        scaling: dict or None. The key `rope_type` is "linear" (Chen et al. 2023, arXiv:2306.15595), "llama3" (as in
            Llama 3.1), "yarn" (Peng et al. 2023, arXiv:2309.00071) or "default", which is the same as None; the other
            keys are the settings for that type, named as in transformers' config.json.

    Returns:
        (frequencies, factor): float32 [K / 2], radians per position for each pair of dimensions; and float.

    Raises:
        ConfigError: if rope_type or a setting is unknown, a setting is missing, or a value is out of range.
    """
    check_scaling(scaling)
    plain = (1.0 / theta ** (np.arange(0, width, 2, dtype=np.float32) / width)).astype(np.float32)
    kind = scaling.get("rope_type") if scaling else "default"
    if kind == "linear":
        return plain / np.float32(scaling["factor"]), 1.0
    if kind == "llama3":
        return _llama3(plain, scaling), 1.0
    if kind == "yarn":
        return _yarn(plain, width, theta=theta, scaling={**YARN, **scaling})
    return plain, 1.0


def _llama3(plain, scaling):
    # Keep short wavelengths, stretch long ones by the factor, and interpolate in between.
    lengths = 2 * math.pi / plain
    low, high, seen = (scaling[key] for key in ("low_freq_factor", "high_freq_factor",
                                                "original_max_position_embeddings"))
    share = np.clip((seen / lengths - low) / (high - low), 0.0, 1.0)
    return ((1 - share) * plain / scaling["factor"] + share * plain).astype(np.float32)


def _yarn(plain, width, theta, scaling):
    def place_of(turns):
        return width * math.log(scaling["original_max_position_embeddings"] / (turns * 2 * math.pi)) / (
            2 * math.log(theta))

    def size_of(scale=1.0):
        return 1.0 if scaling["factor"] <= 1 else 0.1 * scale * math.log(scaling["factor"]) + 1.0

    low, high = place_of(scaling["beta_fast"]), place_of(scaling["beta_slow"])
    if scaling["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    ramp = np.clip((np.arange(width // 2) - low) / max(high - low, 0.001), 0, 1)
    factor = scaling["attention_factor"]
    if factor is None:
        factor = size_of(scaling["mscale"]) / size_of(scaling["mscale_all_dim"]) \
            if scaling["mscale"] and scaling["mscale_all_dim"] else size_of()
    return (plain / scaling["factor"] * ramp + plain * (1 - ramp)).astype(np.float32), factor


def rotary_table(positions, width, theta, scaling=None):
    """Return (cosines, sines), each float32 [B or 1, 1, T, K], for `positions`, int32 [B, T] or [1, T]."""
    frequencies, factor = rotary_frequencies(width, theta, scaling)
    angles = ops.cast(positions, "float32")[:, None, :, None] * np.concatenate([frequencies, frequencies])
    return ops.cos(angles) * factor, ops.sin(angles) * factor


@keras.saving.register_keras_serializable(package="tfzoo")
class RelativePositions(Configured):
    """Look up relative position biases: for each head, one learned value per bucket of query-key distances.

    In each direction, half of the buckets cover a single distance each, and the rest cover increasingly wide ranges of
    distances, up to max_distance.

    Args:
        num_heads: int.
        bidirectional: bool, whether to reserve half of the buckets for keys after the query; if False, all of these
            keys share the bucket for distance 0.
        buckets, max_distance: int.
        initializer_range: float, standard deviation of the table's initial values.

    Call arguments:
        rows: int32 [T], the column indices of the queries in the batch.
        columns: int32 [S], the column indices of the keys in the batch.

    Returns:
        float32 [1, H, T, S].
    """

    def __init__(self, num_heads, bidirectional, buckets=32, max_distance=128, initializer_range=0.02, **layer):
        super().__init__(**layer)
        self.config = arguments(locals())

    def build(self, input_shape=None):
        config = self.config
        self.table = self.add_weight(name="table", shape=(config["buckets"], config["num_heads"]), autocast=False,
                                     initializer=truncated_normal(config["initializer_range"], "table"))
        self.built = True

    def buckets_of(self, distances):
        """Return the bucket numbers, int32, for distances (key column minus query column)."""
        count, found = self.config["buckets"], 0
        if self.config["bidirectional"]:
            count //= 2
            found = ops.cast(distances > 0, "int32") * count
            distances = ops.abs(distances)
        else:
            distances = ops.maximum(-distances, 0)
        exact = count // 2
        scale = (count - exact) / math.log(self.config["max_distance"] / exact)
        logarithms = ops.log(ops.cast(ops.maximum(distances, 1), "float32") / exact)
        wide = exact + ops.cast(logarithms * scale, "int32")
        return found + ops.where(distances < exact, distances, ops.minimum(wide, count - 1))

    def call(self, rows, columns):
        buckets = self.buckets_of(columns[None, :] - rows[:, None])
        return ops.transpose(ops.take(self.table, buckets, axis=0), (2, 0, 1))[None]
