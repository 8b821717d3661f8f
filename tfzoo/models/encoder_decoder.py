"""An encoder and a causal decoder that attends to it (Vaswani et al. 2017, arXiv:1706.03762; T5, arXiv:1910.10683)."""
import keras
from keras import ops

from tfzoo.layers import NO_TAPS, Block, Cache, Dropout, Embeddings
from tfzoo.layers.configured import arguments
from tfzoo.layers.norm import make_norm
from tfzoo.layers.positions import RelativePositions
from tfzoo.models.body import Body, Traits, advanced, begun, check_columns, kept, open_taps, placed
from tfzoo.models.masks import in_order, visible
from tfzoo.models.stack import Stack


@keras.saving.register_keras_serializable(package="tfzoo")
class EncoderDecoder(Body):
    """Encode a source text bidirectionally and a target text causally, with cross-attention to the source.

    Args:
        vocab_size, num_layers (per stack), hidden_dim, num_heads, ffn_dim, max_length: int.
        activation, dropout, epsilon, initializer_range, norm_first: see Encoder. With norm_first, each stack ends with
            a norm. An initializer_range of 0 means 1 / sqrt(fan-in) for projections and 1 for the token table (T5).
        positions: "sinusoidal", "learned" or "relative".
        buckets, max_distance: int, settings for relative positions (see RelativePositions).
        norm, use_bias, head_dim, scaled: see Block.
        scale_embeddings: bool, multiply the token embeddings by sqrt(hidden_dim).
        tied: bool, tie the head to the token embeddings.
        scaled_logits: bool, divide the input to a tied head by sqrt(hidden_dim).

    For call arguments, see Body. `embedded` is a dict with "encoder", "decoder" or both as keys, `read` selects decoder
    positions, and names in `keep` start with "encoder_" or "decoder_".

    Returns:
        dict with the decoder's outputs (see Body) and "encoder_sequence" float [B, S, D].
    """

    def __init__(self, vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length=1024, activation="relu",
                 dropout=0.1, epsilon=1e-6, initializer_range=0.02, positions="sinusoidal", norm_first=False,
                 norm="layer", use_bias=True, head_dim=0, scaled=True, scale_embeddings=True, buckets=32,
                 max_distance=128, tied=True, scaled_logits=False, **model):
        super().__init__(**model)
        self.config = arguments(locals())
        policy, relative = self.dtype_policy, positions == "relative"
        self.embeddings = Embeddings(
            vocab_size, hidden_dim, max_length, positions="none" if relative else positions, scale=scale_embeddings,
            dropout=dropout, epsilon=epsilon, initializer_range=initializer_range or 1.0,
            position_range=initializer_range, name="embeddings", dtype=policy)

        def blocks(name, cross):
            return [Block(num_heads, hidden_dim, ffn_dim, activation=activation, norm_first=norm_first,
                          dropout=dropout, epsilon=epsilon, use_bias=use_bias, initializer_range=initializer_range,
                          cross_attention=cross, head_dim=head_dim, norm=norm, scaled=scaled,
                          name=f"{name}_block_{number:02d}", dtype=policy) for number in range(num_layers)]

        def made(name, kind):
            if kind == "relative":
                return RelativePositions(num_heads, bidirectional=name == "encoder", buckets=buckets,
                                         max_distance=max_distance,
                                         initializer_range=initializer_range or hidden_dim ** -0.5,
                                         name=f"{name}_relative", dtype=policy) if relative else None
            if kind == "norm":
                return make_norm(norm, epsilon, name=f"{name}_norm", dtype=policy) if norm_first else None
            return Dropout(dropout, name=f"{name}_dropout", dtype=policy) if relative else None  # T5's final dropout

        self.encoder_blocks, self.decoder_blocks = blocks("encoder", False), blocks("decoder", True)
        self.encoder_relative, self.encoder_norm, self.encoder_dropout = (
            made("encoder", kind) for kind in ("relative", "norm", "dropout"))
        self.decoder_relative, self.decoder_norm, self.decoder_dropout = (
            made("decoder", kind) for kind in ("relative", "norm", "dropout"))
        for child in (self.embeddings, *self.encoder_blocks, *self.decoder_blocks, self.encoder_relative,
                      self.decoder_relative, self.encoder_norm, self.decoder_norm, self.encoder_dropout,
                      self.decoder_dropout):
            if child is not None:
                child.build((None, None, hidden_dim))
        self.encoder_stack = Stack(self.encoder_blocks, num_layers, norm=self.encoder_norm,
                                   dropout=self.encoder_dropout, prefix="encoder_")
        self.decoder_stack = Stack(self.decoder_blocks, num_layers, norm=self.decoder_norm,
                                   dropout=self.decoder_dropout, prefix="decoder_")
        self.built = True

    @classmethod
    def traits_of(cls, config):
        return Traits(causal=True, cached=True, source=True)

    def _encode(self, inputs, *, embedded=None, taps=NO_TAPS, training=None):
        hidden = self.embeddings(inputs.get("encoder_token_ids"), embedded=embedded, training=training)
        columns, bias = ops.arange(ops.shape(hidden)[1]), None
        if self.encoder_relative:
            bias = self.encoder_relative(columns, columns)
        return self.encoder_stack(hidden, visible=_padding(inputs.get("encoder_padding_mask")), bias=bias, taps=taps,
                                  training=training)

    def _decode(self, token_ids, *, rows, columns, position_ids=None, mask, embedded=None, source, source_mask,
                caches=None, read=None, taps=NO_TAPS, training=None):
        # rows int32 [T] and columns int32 [S] are the columns of the queries and keys, which determine the relative
        # bias.
        bias = self.decoder_relative(rows, columns) if self.decoder_relative else None
        hidden = self.embeddings(token_ids, position_ids=position_ids, embedded=embedded, training=training)
        return self.decoder_stack(hidden, visible=mask, bias=bias, source=source,
                                  source_visible=_padding(source_mask), caches=caches, read=read, taps=taps,
                                  training=training)

    def call(self, inputs, *, read=None, embedded=None, keep=(), training=None):
        taps, embedded = open_taps(keep), embedded or {}
        encoded = self._encode(inputs, embedded=embedded.get("encoder"), taps=taps, training=training)
        token_ids, given = inputs.get("decoder_token_ids"), embedded.get("decoder")
        columns = ops.arange(ops.shape(token_ids if given is None else given)[1])
        hidden = self._decode(token_ids, rows=columns, columns=columns,
                              mask=_causal(columns, inputs.get("decoder_padding_mask")),
                              embedded=given, source=encoded, source_mask=inputs.get("encoder_padding_mask"), read=read,
                              taps=taps, training=training)
        names = [*self.encoder_stack.names(), *self.decoder_stack.names()]
        return {"sequence" if read is None else "read": hidden, "encoder_sequence": encoded, **kept(taps, names)}

    def start(self, inputs, length):
        """Encode the source, then decode `decoder_token_ids`, a start token or a longer prompt. See `Body.start`."""
        token_ids, caches = inputs["decoder_token_ids"], [Cache(length) for _ in self.decoder_blocks]
        encoded, mask = self._encode(inputs), inputs.get("encoder_padding_mask")
        real, prompt, state = begun(token_ids, inputs.get("decoder_padding_mask"), length)
        source = {"source": [block.cross_attention.project_source(encoded) for block in self.decoder_blocks],
                  "source_mask": ops.ones(ops.shape(encoded)[:2], "int32") if mask is None else mask}
        columns = ops.arange(ops.shape(token_ids)[1])
        hidden = self._decode(token_ids, rows=columns, columns=columns, mask=_causal(columns, real), caches=caches,
                              **prompt, **source)
        return {"sequence": hidden}, advanced({**state, **source}, caches, 0)

    def step(self, token_ids, state, branches=None):
        count, length = ops.shape(token_ids)[1], ops.shape(state["real"])[1]
        column = check_columns(state["column"], count, length)
        caches = [Cache(length, keys, column) for keys in state["keys"]]
        position_ids, rows, columns, mask = placed(state, count, branches)
        hidden = self._decode(token_ids, rows=rows, columns=columns, position_ids=position_ids, mask=mask,
                              source=state["source"], source_mask=state["source_mask"], caches=caches)
        return {"sequence": hidden}, advanced(state, caches, count, branches)


def _padding(mask):
    return visible({"padding_mask": mask})


def _causal(columns, mask):
    order = in_order(columns, columns)
    return order if mask is None else order & _padding(mask)
