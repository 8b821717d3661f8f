"""Bidirectional encoder blocks on top of embeddings, as in BERT (Devlin et al. 2018, arXiv:1810.04805)."""
import keras
from keras import ops

from tfzoo.layers import Block, Dropout, Embeddings, LayerNorm, Linear
from tfzoo.layers.configured import arguments
from tfzoo.layers.feed_forward import activation_of
from tfzoo.models.body import Body, Traits, kept, open_taps
from tfzoo.models.masks import visible
from tfzoo.models.stack import Stack


@keras.saving.register_keras_serializable(package="tfzoo")
class Encoder(Body):
    """Encode texts bidirectionally: each position attends to all positions.

    Args:
        vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length: int.
        num_segments: int, number of rows in the segment table; 0 for no segments.
        activation: "gelu", "gelu_tanh" or "relu".
        dropout, epsilon, initializer_range: float.
        positions: "learned" or "sinusoidal".
        norm_first: bool, normalize before each sub-layer instead of after it, and add a norm after the last block.
        normalize_embeddings: bool, apply a norm to the embeddings.
        pooler: bool, project the first position and apply pooler_activation.
        pooler_activation: "tanh", "gelu" or "relu".
        pooler_dropout: bool, also apply dropout before the pooler (as in the classifiers of RoBERTa and ELECTRA).
        embedding_dim: int, width of the embeddings, which are then projected to hidden_dim (Lan et al. 2019, ALBERT,
            arXiv:1909.11942); 0 to use hidden_dim without a projection.
        shared_block: bool, apply one block num_layers times (ALBERT).
        position_offset: int, row in the position table for the first token. If positive, padding does not count as a
            position, and all padding uses the row before this one (RoBERTa). The table has position_offset + max_length
            rows.

    For call arguments and return values, see Body. Inputs may also contain segment_ids. With `read`, the pooler uses
    the first position in `read`.
    """

    def __init__(self, vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length=512, num_segments=2,
                 activation="gelu", dropout=0.1, epsilon=1e-12, initializer_range=0.02, positions="learned",
                 norm_first=False, normalize_embeddings=True, pooler=True, pooler_activation="tanh",
                 pooler_dropout=False, embedding_dim=0, shared_block=False, position_offset=0, **model):
        super().__init__(**model)
        self.config = arguments(locals())
        policy = self.dtype_policy
        width = embedding_dim or hidden_dim
        self.embeddings = Embeddings(
            vocab_size, width, max_length + position_offset, num_segments=num_segments, positions=positions,
            normalize=normalize_embeddings, dropout=dropout, epsilon=epsilon, initializer_range=initializer_range,
            position_range=initializer_range, name="embeddings", dtype=policy)
        self.projection = Linear(hidden_dim, True, initializer_range, name="projection", dtype=policy) \
            if embedding_dim else None
        self.blocks = [Block(num_heads, hidden_dim, ffn_dim, activation=activation, norm_first=norm_first,
                             dropout=dropout, epsilon=epsilon, initializer_range=initializer_range,
                             name=f"block_{number:02d}", dtype=policy)
                       for number in range(1 if shared_block else num_layers)]
        self.norm = LayerNorm(epsilon=epsilon, name="norm", dtype=policy) if norm_first else None
        self.pooler = Linear(hidden_dim, True, initializer_range, name="pooler", dtype=policy) if pooler else None
        self.pooler_dropout = Dropout(dropout, name="pooler_dropout", dtype=policy) \
            if pooler and pooler_dropout else None
        self.pooler_activation = activation_of(pooler_activation)
        for child in (self.embeddings, self.projection, *self.blocks, self.norm, self.pooler_dropout, self.pooler):
            if child is not None:
                child.build((None, None, width if child is self.projection else hidden_dim))
        self.stack = Stack(self.blocks, num_layers, self.norm)
        self.built = True

    @classmethod
    def traits_of(cls, config):
        return Traits(causal=False, cached=False, pooled=config["pooler"])

    @classmethod
    def pooled_arguments(cls, pooled):
        return {"pooler": pooled}

    def _positions(self, inputs, embedded):
        # Return the row in the position table for each token, int32 [B, T], or None to use the column numbers.
        offset, positions = self.config["position_offset"], inputs.get("position_ids")
        if not offset:
            return positions
        if positions is not None:
            return positions + offset
        real = inputs.get("padding_mask")
        if real is None:
            real = ops.ones(ops.shape(inputs["token_ids"] if embedded is None else embedded)[:2])
        real = ops.cast(real, "int32")
        return ops.cumsum(real, axis=1) * real + offset - 1

    def call(self, inputs, *, read=None, embedded=None, keep=(), training=None):
        taps = open_taps(keep)
        hidden = self.embeddings(inputs.get("token_ids"), segment_ids=inputs.get("segment_ids"),
                                 position_ids=self._positions(inputs, embedded), embedded=embedded, training=training)
        if self.projection:
            hidden = self.projection(hidden, training=training)
        hidden = self.stack(hidden, visible=visible(inputs), read=read, taps=taps, training=training)
        outputs = {"sequence" if read is None else "read": hidden, **kept(taps, self.stack.names())}
        if self.pooler:
            first = hidden[:, 0]
            first = self.pooler_dropout(first, training=training) if self.pooler_dropout else first
            outputs["pooled"] = self.pooler_activation(self.pooler(first, training=training))
        return outputs
