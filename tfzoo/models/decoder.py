"""Causal decoder blocks on top of embeddings, as in GPT-2 (Radford et al. 2019) and Llama (arXiv:2302.13971)."""
import keras
from keras import ops

from tfzoo.errors import ConfigError
from tfzoo.layers import NO_TAPS, Block, Cache, Embeddings
from tfzoo.layers.configured import arguments
from tfzoo.layers.norm import make_norm
from tfzoo.layers.positions import check_scaling, rotary_table
from tfzoo.models.body import Body, Traits, advanced, begun, check_columns, kept, open_taps, placed
from tfzoo.models.masks import visible
from tfzoo.models.stack import Stack


@keras.saving.register_keras_serializable(package="tfzoo")
class Decoder(Body):
    """Encode texts causally: each position attends only to itself and earlier positions.

    Args:
        vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length: int.
        activation, dropout, epsilon, initializer_range, norm_first: see Encoder.
        position_range: float, standard deviation of the initial position embeddings.
        positions: "learned" or "rotary".
        rope_theta, rope_scaling: float, and dict or None, settings for rotary positions (see `rotary_frequencies`).
        num_kv_heads, head_dim, qkv_bias: see Attention.
        use_bias: bool, add a bias to every projection.
        norm: "layer" or "rms".
        window: int, size of the sliding window: each position attends to itself and the window - 1 positions before it
            (Jiang et al. 2023, Mistral, arXiv:2310.06825); 0 for no limit.
        tied: bool, tie the language-modeling head to the token embeddings.

    For call arguments and return values, see Body.
    """

    def __init__(self, vocab_size, num_layers, hidden_dim, num_heads, ffn_dim, max_length=1024, activation="gelu_tanh",
                 dropout=0.1, epsilon=1e-5, initializer_range=0.02, position_range=0.01, norm_first=True,
                 positions="learned", rope_theta=10000.0, rope_scaling=None, num_kv_heads=0, head_dim=0,
                 qkv_bias=False, use_bias=True, norm="layer", window=0, tied=True, **model):
        super().__init__(**model)
        self.config = arguments(locals())
        if positions not in ("learned", "rotary"):
            raise ConfigError(f"positions must be learned or rotary, got {positions!r}")
        check_scaling(rope_scaling)
        self.head_dim = head_dim or hidden_dim // num_heads
        if positions == "rotary" and self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary positions, got {self.head_dim}")
        policy = self.dtype_policy
        self.embeddings = Embeddings(
            vocab_size, hidden_dim, max_length, positions="learned" if positions == "learned" else "none",
            dropout=dropout, epsilon=epsilon, initializer_range=initializer_range, position_range=position_range,
            name="embeddings", dtype=policy)
        self.blocks = [Block(num_heads, hidden_dim, ffn_dim, activation=activation, norm_first=norm_first,
                             dropout=dropout, epsilon=epsilon, use_bias=use_bias, initializer_range=initializer_range,
                             num_kv_heads=num_kv_heads, head_dim=head_dim, norm=norm, qkv_bias=qkv_bias,
                             name=f"block_{number:02d}", dtype=policy)
                       for number in range(num_layers)]
        self.norm = make_norm(norm, epsilon, name="norm", dtype=policy) if norm_first else None
        for child in (self.embeddings, *self.blocks, self.norm):
            if child is not None:
                child.build((None, None, hidden_dim))
        self.stack = Stack(self.blocks, num_layers, self.norm)
        self.built = True

    @classmethod
    def traits_of(cls, config):
        return Traits(causal=True, cached=True)

    def _decode(self, token_ids, *, visible, position_ids, embedded=None, caches=None, read=None, taps, training=None):
        hidden = self.embeddings(token_ids, position_ids=position_ids, embedded=embedded, training=training)
        rotary = None
        if self.config["positions"] == "rotary":
            positions = ops.arange(ops.shape(hidden)[1])[None] if position_ids is None else position_ids
            rotary = rotary_table(positions, self.head_dim, theta=self.config["rope_theta"],
                                  scaling=self.config["rope_scaling"])
        return self.stack(hidden, visible=visible, rotary=rotary, caches=caches, read=read, taps=taps,
                          training=training)

    def call(self, inputs, *, read=None, embedded=None, keep=(), training=None):
        taps = open_taps(keep)
        hidden = self._decode(
            inputs.get("token_ids"), visible=visible(inputs, embedded, causal=True, window=self.config["window"]),
            position_ids=inputs.get("position_ids"), embedded=embedded, read=read, taps=taps, training=training)
        return {"sequence" if read is None else "read": hidden, **kept(taps, self.stack.names())}

    def start(self, inputs, length):
        token_ids, caches = inputs["token_ids"], [Cache(length) for _ in self.blocks]
        real, prompt, state = begun(token_ids, inputs.get("padding_mask"), length)
        hidden = self._decode(
            token_ids, visible=visible({**inputs, "padding_mask": real}, causal=True, window=self.config["window"]),
            caches=caches, taps=NO_TAPS, **prompt)
        return {"sequence": hidden}, advanced(state, caches, 0)

    def step(self, token_ids, state, branches=None):
        count, length = ops.shape(token_ids)[1], ops.shape(state["real"])[1]
        column = check_columns(state["column"], count, length)
        caches = [Cache(length, keys, column) for keys in state["keys"]]
        position_ids, _, _, mask = placed(state, count, branches, self.config["window"])
        hidden = self._decode(token_ids, visible=mask, position_ids=position_ids, caches=caches, taps=NO_TAPS)
        return {"sequence": hidden}, advanced(state, caches, count, branches)
