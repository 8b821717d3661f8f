"""A stack of encoder blocks over embeddings, as in BERT (Devlin et al. 2018, arXiv:1810.04805)."""
import keras
from keras import ops

from tfzoo.layers import Block, Embeddings, LayerNorm, Linear
from tfzoo.models.masks import visible


@keras.saving.register_keras_serializable(package="tfzoo")
class Encoder(keras.Model):
    """Encode texts in both directions.

    Args:
        vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length: int.
        num_segments: int, 0 for none.
        activation: "gelu", "gelu_tanh" or "relu".
        dropout, epsilon, initializer_range: float.
        positions: "learned" or "sinusoidal".
        norm_first: bool; then a final norm follows the blocks.
        normalize_embeddings: bool.
        pooler: bool, a tanh projection of the first position.

    Call arguments:
        inputs: dict of int32 [B, T]: token_ids, and optionally padding_mask, segment_ids, position_ids, document_ids.
        positions: int32 [B, P], compute the last block only there (a pooler takes the first); None: everywhere.
        return_intermediates: bool.

    Returns:
        dict: sequence float [B, T, D], or with positions read [B, P, D]; pooled [B, D] with a pooler; with
        intermediates hidden_states (L + 1 of [B, T, D], the embeddings first) and attentions (L of [B, H, T, T]).
    """

    def __init__(self, vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length=512, num_segments=2,
                 activation="gelu", dropout=0.1, epsilon=1e-12, initializer_range=0.02, positions="learned",
                 norm_first=False, normalize_embeddings=True, pooler=True, **model):
        super().__init__(**model)
        self.config = {"vocab_size": vocab_size, "num_layers": num_layers, "hidden_dim": hidden_dim,
                       "num_heads": num_heads, "ffn_dim": ffn_dim, "max_length": max_length,
                       "num_segments": num_segments, "activation": activation, "dropout": dropout, "epsilon": epsilon,
                       "initializer_range": initializer_range, "positions": positions, "norm_first": norm_first,
                       "normalize_embeddings": normalize_embeddings, "pooler": pooler}
        policy = self.dtype_policy
        self.embeddings = Embeddings(vocab_size, hidden_dim, max_length, num_segments, positions, normalize_embeddings,
                                     False, dropout, epsilon, initializer_range, initializer_range,
                                     name="embeddings", dtype=policy)
        self.blocks = [Block(num_heads, hidden_dim, ffn_dim, activation, norm_first, dropout, epsilon, True,
                             initializer_range, name=f"block_{number:02d}", dtype=policy)
                       for number in range(num_layers)]
        self.norm = LayerNorm(epsilon=epsilon, name="norm", dtype=policy) if norm_first else None
        self.pooler = Linear(hidden_dim, True, initializer_range, name="pooler", dtype=policy) if pooler else None
        for child in (self.embeddings, *self.blocks, self.norm, self.pooler):
            if child is not None:
                child.build((None, None, hidden_dim))
        self.built = True

    def call(self, inputs, positions=None, training=None, return_intermediates=False):
        token_ids = inputs["token_ids"]
        mask = visible(inputs)
        hidden = self.embeddings(token_ids, segment_ids=inputs.get("segment_ids"),
                                 position_ids=inputs.get("position_ids"), training=training)
        states, attentions = [hidden], []
        for number, block in enumerate(self.blocks, 1):
            hidden, _, probabilities = block(hidden, visible=mask, return_probabilities=return_intermediates,
                                             positions=positions if number == len(self.blocks) else None,
                                             training=training)
            states.append(hidden)
            attentions.append(probabilities)
        if self.norm:
            hidden = self.norm(hidden, training=training)
        outputs = {"sequence" if positions is None else "read": hidden}
        if self.pooler:
            outputs["pooled"] = ops.tanh(self.pooler(hidden[:, 0]))
        if return_intermediates:
            outputs.update(hidden_states=states, attentions=attentions)
        return outputs

    def get_config(self):
        return {**self.config, "name": self.name, "dtype": keras.saving.serialize_keras_object(self.dtype_policy)}
