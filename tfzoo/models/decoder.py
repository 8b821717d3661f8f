"""A stack of causal blocks over embeddings, as in GPT-2 (Radford et al. 2019) and Llama (arXiv:2302.13971)."""
import keras
from keras import ops

from tfzoo.errors import ConfigError
from tfzoo.layers import Block, Embeddings
from tfzoo.layers.norm import make_norm
from tfzoo.layers.positions import check_scaling, rotary_table
from tfzoo.models.masks import in_order, visible


@keras.saving.register_keras_serializable(package="tfzoo")
class Decoder(keras.Model):
    """Encode each position from itself and what stands before it.

    Args:
        vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length: int.
        activation, dropout, epsilon, initializer_range, norm_first: see Encoder.
        position_range: float, standard deviation of the position table's initializer.
        positions: "learned", or "rotary" with rope_theta: float and rope_scaling: dict, see rotary_frequencies.
        num_kv_heads, head_dim, qkv_bias: see Attention. use_bias: bool, on all projections. norm: "layer" or "rms".
        window: int, each position sees itself and the window - 1 before it (Jiang et al. 2023, Mistral,
            arXiv:2310.06825); 0 is all.
        tied: bool, whether a language model's head is the token table.

    Call arguments:
        inputs: dict of int32 [B, T]: token_ids, and optionally padding_mask, position_ids, document_ids.
        cache: from `init_cache` or the call before; cache_index: integer scalar, the column of the first token.
            With a cache, padding_mask is [B, S] over the columns of the cache.
        positions: int32 [B, P], compute the last block only there; None: everywhere.
        return_intermediates: bool.

    Returns:
        dict: sequence float [B, T, D], or with positions read [B, P, D]; cache; with intermediates hidden_states
        (L + 1 of [B, T, D]: the embeddings, then each block's result) and attentions (L of [B, H, T, S]).
    """

    def __init__(self, vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length=1024, activation="gelu_tanh",
                 dropout=0.1, epsilon=1e-5, initializer_range=0.02, position_range=0.01, norm_first=True,
                 positions="learned", rope_theta=10000.0, rope_scaling=None, num_kv_heads=0, head_dim=0,
                 qkv_bias=False, use_bias=True, norm="layer", window=0, tied=True, **model):
        super().__init__(**model)
        self.config = {"vocab_size": vocab_size, "num_layers": num_layers, "hidden_dim": hidden_dim,
                       "num_heads": num_heads, "ffn_dim": ffn_dim, "max_length": max_length, "activation": activation,
                       "dropout": dropout, "epsilon": epsilon, "initializer_range": initializer_range,
                       "position_range": position_range, "norm_first": norm_first, "positions": positions,
                       "rope_theta": rope_theta, "rope_scaling": rope_scaling, "num_kv_heads": num_kv_heads,
                       "head_dim": head_dim, "qkv_bias": qkv_bias, "use_bias": use_bias, "norm": norm,
                       "window": window, "tied": tied}
        if positions not in ("learned", "rotary"):
            raise ConfigError(f"positions is {positions!r}: allowed are learned, rotary")
        check_scaling(rope_scaling)
        self.head_dim = head_dim or hidden_dim // num_heads
        if positions == "rotary" and self.head_dim % 2:
            raise ConfigError(f"heads are {self.head_dim} wide: rotary positions need an even width")
        policy = self.dtype_policy
        self.embeddings = Embeddings(vocab_size, hidden_dim, max_length, 0,
                                     "learned" if positions == "learned" else "none", False, False, dropout, epsilon,
                                     initializer_range, position_range,
                                     name="embeddings", dtype=policy)
        self.blocks = [Block(num_heads, hidden_dim, ffn_dim, activation, norm_first, dropout, epsilon, use_bias,
                             initializer_range, False, num_kv_heads, head_dim, norm, True, qkv_bias,
                             name=f"block_{number:02d}", dtype=policy)
                       for number in range(num_layers)]
        self.norm = make_norm(norm, epsilon, "norm", policy) if norm_first else None
        for child in (self.embeddings, *self.blocks, self.norm):
            if child is not None:
                child.build((None, None, hidden_dim))
        self.built = True

    def init_cache(self, batch_size, length):
        """Return an empty cache: a list of L dicts of key and value, float [B, G, length, K]."""
        shape = (batch_size, self.config["num_kv_heads"] or self.config["num_heads"], length, self.head_dim)
        return [{name: ops.zeros(shape, self.compute_dtype) for name in ("key", "value")} for _ in self.blocks]

    def _cached(self, inputs, cache, cache_index):
        length, columns = ops.shape(inputs["token_ids"])[1], ops.shape(cache[0]["key"])[2]
        rows = cache_index + ops.arange(length)
        mask = in_order(rows, ops.arange(columns), self.config["window"])
        if inputs.get("padding_mask") is not None:
            mask = mask & ops.cast(inputs["padding_mask"], "bool")[:, None, None, :]
        positions = inputs.get("position_ids")
        return mask, ops.broadcast_to(rows[None], ops.shape(inputs["token_ids"])) if positions is None else positions

    def call(self, inputs, cache=None, cache_index=None, positions=None, return_intermediates=False, training=None):
        if cache is None:
            mask, places = visible(inputs, causal=True, window=self.config["window"]), inputs.get("position_ids")
        else:
            mask, places = self._cached(inputs, cache, cache_index)
        rotary = None
        if self.config["positions"] == "rotary":
            places = ops.arange(ops.shape(inputs["token_ids"])[1])[None] if places is None else places
            rotary = rotary_table(places, self.head_dim, self.config["rope_theta"], self.config["rope_scaling"])
        hidden = self.embeddings(inputs["token_ids"], position_ids=places, training=training)
        states, attentions, written = [hidden], [], []
        for number, block in enumerate(self.blocks):
            hidden, seen, probabilities = block(
                hidden, visible=mask, rotary=rotary, cache=None if cache is None else cache[number],
                cache_index=cache_index, return_probabilities=return_intermediates,
                positions=positions if number + 1 == len(self.blocks) else None, training=training)
            states.append(hidden)
            attentions.append(probabilities)
            written.append(seen)
        hidden = self.norm(hidden, training=training) if self.norm else hidden
        outputs = {"sequence" if positions is None else "read": hidden}
        if cache is not None:
            outputs["cache"] = written
        if return_intermediates:
            outputs.update(hidden_states=states, attentions=attentions)
        return outputs

    def get_config(self):
        return {**self.config, "name": self.name, "dtype": keras.saving.serialize_keras_object(self.dtype_policy)}
