"""An encoder stack, and a causal decoder stack that attends to it (Vaswani et al. 2017, arXiv:1706.03762)."""
import keras
from keras import ops

from tfzoo.layers import Block, Dropout, Embeddings
from tfzoo.layers.norm import make_norm
from tfzoo.layers.positions import RelativePositions
from tfzoo.models.masks import in_order, visible


@keras.saving.register_keras_serializable(package="tfzoo")
class EncoderDecoder(keras.Model):
    """Encode a source text in both directions, and a target text from left to right in sight of it.

    Args:
        vocab_size, num_layers (of each stack), hidden_dim, num_heads, ffn_dim, max_length: int.
        activation, dropout, epsilon, initializer_range, norm_first: see Encoder; with norm_first each stack ends in a
            norm. initializer_range 0: by the fan-in of each projection, and 1 for the token table (T5's).
        positions: "sinusoidal", "learned", or "relative" with buckets and max_distance: int, see RelativePositions.
        norm, use_bias, head_dim, scaled: see Block.
        scale_embeddings: bool, multiply the token embedding by sqrt(hidden_dim).
        tied: bool, whether the head is the token table; then with scaled_logits: bool, what it projects is divided by
            sqrt(hidden_dim).

    Call arguments:
        inputs: dict of int32: encoder_token_ids [B, S], decoder_token_ids [B, T], and optionally encoder_padding_mask
            [B, S], decoder_padding_mask [B, T].
        cache: from `init_cache` or the call before, which holds the encoder's result too: encoder_token_ids is not
            needed then; cache_index: integer scalar, the column of the first decoder token.
        return_intermediates: bool, without a cache.

    Returns:
        dict: sequence float [B, T, D], of the decoder; encoder_sequence [B, S, D] without a cache, cache with one; with
        intermediates encoder_hidden_states and hidden_states (L + 1 each, the embeddings first).
    """

    def __init__(self, vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length=1024, activation="relu",
                 dropout=0.1, epsilon=1e-6, initializer_range=0.02, positions="sinusoidal", norm_first=False,
                 norm="layer", use_bias=True, head_dim=0, scaled=True, scale_embeddings=True, buckets=32,
                 max_distance=128, tied=True, scaled_logits=False, **model):
        super().__init__(**model)
        self.config = {"vocab_size": vocab_size, "num_layers": num_layers, "hidden_dim": hidden_dim,
                       "num_heads": num_heads, "ffn_dim": ffn_dim, "max_length": max_length, "activation": activation,
                       "dropout": dropout, "epsilon": epsilon, "initializer_range": initializer_range,
                       "positions": positions, "norm_first": norm_first, "norm": norm, "use_bias": use_bias,
                       "head_dim": head_dim, "scaled": scaled, "scale_embeddings": scale_embeddings,
                       "buckets": buckets, "max_distance": max_distance, "tied": tied,
                       "scaled_logits": scaled_logits}
        policy, relative = self.dtype_policy, positions == "relative"
        self.embeddings = Embeddings(vocab_size, hidden_dim, max_length, 0, "none" if relative else positions, False,
                                     scale_embeddings, dropout, epsilon, initializer_range or 1.0, initializer_range,
                                     name="embeddings", dtype=policy)

        def stack(name, cross):
            return [Block(num_heads, hidden_dim, ffn_dim, activation, norm_first, dropout, epsilon, use_bias,
                          initializer_range, cross, 0, head_dim, norm, scaled, name=f"{name}_block_{number:02d}",
                          dtype=policy) for number in range(num_layers)]

        def made(name, kind):
            if kind == "relative":
                return RelativePositions(num_heads, name == "encoder", buckets, max_distance,
                                         initializer_range or hidden_dim ** -0.5, name=f"{name}_relative",
                                         dtype=policy) if relative else None
            if kind == "norm":
                return make_norm(norm, epsilon, f"{name}_norm", policy) if norm_first else None
            return Dropout(dropout, name=f"{name}_dropout", dtype=policy) if relative else None  # T5 has one at the end

        self.encoder_blocks, self.decoder_blocks = stack("encoder", False), stack("decoder", True)
        self.encoder_relative, self.encoder_norm, self.encoder_dropout = (
            made("encoder", kind) for kind in ("relative", "norm", "dropout"))
        self.decoder_relative, self.decoder_norm, self.decoder_dropout = (
            made("decoder", kind) for kind in ("relative", "norm", "dropout"))
        for child in (self.embeddings, *self.encoder_blocks, *self.decoder_blocks, self.encoder_relative,
                      self.decoder_relative, self.encoder_norm, self.decoder_norm, self.encoder_dropout,
                      self.decoder_dropout):
            if child is not None:
                child.build((None, None, hidden_dim))
        self.built = True

    def _end(self, hidden, name, training):
        for child in (getattr(self, f"{name}_norm"), getattr(self, f"{name}_dropout")):
            hidden = hidden if child is None else child(hidden, training=training)
        return hidden

    def encode(self, token_ids, padding_mask=None, training=None):
        """Return the states of a source int32 [B, S] and its padding mask: L + 1 float [B, S, D], then the result."""
        mask = visible({"token_ids": token_ids, "padding_mask": padding_mask})
        columns, bias = ops.arange(ops.shape(token_ids)[1]), None
        if self.encoder_relative:
            bias = self.encoder_relative(columns, columns)
        states = [self.embeddings(token_ids, training=training)]
        for block in self.encoder_blocks:
            states.append(block(states[-1], visible=mask, bias=bias, training=training)[0])
        return [*states, self._end(states[-1], "encoder", training)]

    def init_cache(self, inputs, length):
        """Encode the source and return the cache to decode up to `length` columns.

        Args:
            inputs: dict with encoder_token_ids int32 [B, S] and optionally encoder_padding_mask.
            length: int.

        Returns:
            dict: blocks, a list of L dicts of key and value [B, H, length, K]; source, likewise [B, H, S, K]; mask.
        """
        token_ids, mask = inputs["encoder_token_ids"], inputs.get("encoder_padding_mask")
        encoded = self.encode(token_ids, mask)[-1]
        config = self.config
        width = config["head_dim"] or config["hidden_dim"] // config["num_heads"]
        shape = (ops.shape(token_ids)[0], config["num_heads"], length, width)
        return {"blocks": [{name: ops.zeros(shape, self.compute_dtype) for name in ("key", "value")}
                           for _ in self.decoder_blocks],
                "source": [block.cross_attention.project_source(encoded) for block in self.decoder_blocks],
                "mask": ops.ones_like(token_ids) if mask is None else mask}

    def call(self, inputs, cache=None, cache_index=None, return_intermediates=False, training=None):
        token_ids, outputs, encoded, positions = inputs["decoder_token_ids"], {}, None, None
        rows = columns = ops.arange(ops.shape(token_ids)[1])
        if cache is None:
            states = self.encode(inputs["encoder_token_ids"], inputs.get("encoder_padding_mask"), training)
            outputs["encoder_sequence"] = encoded = states[-1]
            mask = visible({"token_ids": token_ids, "padding_mask": inputs.get("decoder_padding_mask")}, causal=True)
            source_mask = visible({"token_ids": None, "padding_mask": inputs.get("encoder_padding_mask")})
        else:
            rows, columns = cache_index + rows, ops.arange(ops.shape(cache["blocks"][0]["key"])[2])
            mask = in_order(rows, columns)
            source_mask = visible({"token_ids": None, "padding_mask": cache["mask"]})
            positions = ops.broadcast_to(rows[None], ops.shape(token_ids))
        bias = self.decoder_relative(rows, columns) if self.decoder_relative else None
        hidden, written = self.embeddings(token_ids, position_ids=positions, training=training), []
        decoded = [hidden]
        for number, block in enumerate(self.decoder_blocks):
            hidden, seen, _ = block(
                hidden, visible=mask, bias=bias, source=encoded, source_visible=source_mask, cache_index=cache_index,
                cache=None if cache is None else cache["blocks"][number],
                source_cache=None if cache is None else cache["source"][number], training=training)
            written.append(seen)
            decoded.append(hidden)
        outputs["sequence"] = self._end(hidden, "decoder", training)
        if cache is not None:
            outputs["cache"] = {**cache, "blocks": written}
        elif return_intermediates:
            outputs.update(encoder_hidden_states=states[:-1], hidden_states=decoded)
        return outputs

    def get_config(self):
        return {**self.config, "name": self.name, "dtype": keras.saving.serialize_keras_object(self.dtype_policy)}
