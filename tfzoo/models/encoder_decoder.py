"""An encoder stack, and a causal decoder stack that attends to it (Vaswani et al. 2017, arXiv:1706.03762)."""
import keras
from keras import ops

from tfzoo.layers import Block, Embeddings, LayerNorm
from tfzoo.models.masks import visible


@keras.saving.register_keras_serializable(package="tfzoo")
class EncoderDecoder(keras.Model):
    """Encode a source text in both directions, and a target text from left to right in sight of it.

    Args:
        vocab_size, num_layers (of each stack), hidden_dim, num_heads, ffn_dim, max_length: int.
        activation, dropout, epsilon, initializer_range, norm_first: see Encoder; with norm_first each stack ends in a
            norm.
        positions: "sinusoidal" or "learned".

    Call arguments:
        inputs: dict of int32: encoder_token_ids [B, S], decoder_token_ids [B, T], and optionally encoder_padding_mask
            [B, S], decoder_padding_mask [B, T].
        cache: from `init_cache` or the call before, which holds the encoder's result too: encoder_token_ids is not
            needed then; cache_index: integer scalar, the column of the first decoder token.

    Returns:
        dict: sequence float [B, T, D], of the decoder; encoder_sequence [B, S, D] without a cache, cache with one.
    """

    def __init__(self, vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length=1024, activation="relu",
                 dropout=0.1, epsilon=1e-6, initializer_range=0.02, positions="sinusoidal", norm_first=False, **model):
        super().__init__(**model)
        self.config = {"vocab_size": vocab_size, "num_layers": num_layers, "hidden_dim": hidden_dim,
                       "num_heads": num_heads, "ffn_dim": ffn_dim, "max_length": max_length, "activation": activation,
                       "dropout": dropout, "epsilon": epsilon, "initializer_range": initializer_range,
                       "positions": positions, "norm_first": norm_first}
        policy = self.dtype_policy
        self.embeddings = Embeddings(vocab_size, hidden_dim, max_length, 0, positions, False, True, dropout, epsilon,
                                     initializer_range, initializer_range, name="embeddings", dtype=policy)

        def stack(name, cross):
            return [Block(num_heads, hidden_dim, ffn_dim, activation, norm_first, dropout, epsilon, True,
                          initializer_range, cross, name=f"{name}_block_{number:02d}", dtype=policy)
                    for number in range(num_layers)]

        def norm(name):
            return LayerNorm(epsilon=epsilon, name=name, dtype=policy) if norm_first else None

        self.encoder_blocks, self.decoder_blocks = stack("encoder", False), stack("decoder", True)
        self.encoder_norm, self.decoder_norm = norm("encoder_norm"), norm("decoder_norm")
        for child in (self.embeddings, *self.encoder_blocks, *self.decoder_blocks, self.encoder_norm,
                      self.decoder_norm):
            if child is not None:
                child.build((None, None, hidden_dim))
        self.built = True

    def encode(self, token_ids, padding_mask=None, training=None):
        """Return float [B, S, D] of a source int32 [B, S] and its padding mask."""
        mask = visible({"token_ids": token_ids, "padding_mask": padding_mask})
        hidden = self.embeddings(token_ids, training=training)
        for block in self.encoder_blocks:
            hidden = block(hidden, visible=mask, training=training)[0]
        return self.encoder_norm(hidden) if self.encoder_norm else hidden

    def init_cache(self, inputs, length):
        """Encode the source and return the cache to decode up to `length` columns.

        Args:
            inputs: dict with encoder_token_ids int32 [B, S] and optionally encoder_padding_mask.
            length: int.

        Returns:
            dict: blocks, a list of L dicts of key and value [B, H, length, K]; source, likewise [B, H, S, K]; mask.
        """
        token_ids, mask = inputs["encoder_token_ids"], inputs.get("encoder_padding_mask")
        encoded = self.encode(token_ids, mask)
        config = self.config
        shape = (ops.shape(token_ids)[0], config["num_heads"], length, config["hidden_dim"] // config["num_heads"])
        return {"blocks": [{name: ops.zeros(shape, self.compute_dtype) for name in ("key", "value")}
                           for _ in self.decoder_blocks],
                "source": [block.cross_attention.project_source(encoded) for block in self.decoder_blocks],
                "mask": ops.ones_like(token_ids) if mask is None else mask}

    def call(self, inputs, cache=None, cache_index=None, training=None):
        token_ids, outputs, encoded, positions = inputs["decoder_token_ids"], {}, None, None
        if cache is None:
            encoded = self.encode(inputs["encoder_token_ids"], inputs.get("encoder_padding_mask"), training)
            outputs["encoder_sequence"] = encoded
            mask = visible({"token_ids": token_ids, "padding_mask": inputs.get("decoder_padding_mask")}, causal=True)
            source_mask = visible({"token_ids": None, "padding_mask": inputs.get("encoder_padding_mask")})
        else:
            rows, columns = cache_index + ops.arange(ops.shape(token_ids)[1]), ops.shape(cache["blocks"][0]["key"])[2]
            mask = (rows[:, None] >= ops.arange(columns)[None, :])[None, None]
            source_mask = visible({"token_ids": None, "padding_mask": cache["mask"]})
            positions = ops.broadcast_to(rows[None], ops.shape(token_ids))
        hidden, written = self.embeddings(token_ids, position_ids=positions, training=training), []
        for number, block in enumerate(self.decoder_blocks):
            hidden, seen, _ = block(
                hidden, visible=mask, source=encoded, source_visible=source_mask, cache_index=cache_index,
                cache=None if cache is None else cache["blocks"][number],
                source_cache=None if cache is None else cache["source"][number], training=training)
            written.append(seen)
        outputs["sequence"] = self.decoder_norm(hidden) if self.decoder_norm else hidden
        if cache is not None:
            outputs["cache"] = {**cache, "blocks": written}
        return outputs

    def get_config(self):
        return {**self.config, "name": self.name, "dtype": keras.saving.serialize_keras_object(self.dtype_policy)}
