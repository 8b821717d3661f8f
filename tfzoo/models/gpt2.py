"""GPT-2 (Radford et al. 2019), its four published sizes and two small ones of ours (tiny, mini).

Dropout 0.1 as in the paper's predecessor; the released code, made for inference, has none.
"""
from tfzoo.models.decoder import Decoder

SHAPES = {"tiny": (2, 128, 2), "mini": (4, 256, 4), "124m": (12, 768, 12), "355m": (24, 1024, 16),
          "774m": (36, 1280, 20), "1558m": (48, 1600, 25)}
SIZES = {f"gpt2_{size}": {"vocab_size": 50257, "num_layers": layers, "hidden_dim": width, "num_heads": heads,
                          "ffn_dim": 4 * width, "max_length": 1024}
         for size, (layers, width, heads) in SHAPES.items()}
MODEL = Decoder

# Our path -> the reference's name ({n} the number of the block); kernels are as here, query, key and value are fused.
CHECKPOINT_NAMES = {
    "embeddings/token": "wte.weight",
    "embeddings/position": "wpe.weight",
    "block_{n}/attention_norm": "h.{n}.ln_1",
    "block_{n}/attention/query": "h.{n}.attn.c_attn",
    "block_{n}/attention/key": "h.{n}.attn.c_attn",
    "block_{n}/attention/value": "h.{n}.attn.c_attn",
    "block_{n}/attention/output": "h.{n}.attn.c_proj",
    "block_{n}/feed_forward_norm": "h.{n}.ln_2",
    "block_{n}/feed_forward/up": "h.{n}.mlp.c_fc",
    "block_{n}/feed_forward/down": "h.{n}.mlp.c_proj",
    "norm": "ln_f",
}
