"""BERT (Devlin et al. 2018, arXiv:1810.04805) and Google's 24 smaller ones (Turc et al. 2019, arXiv:1908.08962).

The exact GELU by default, as Hugging Face has it; Google's code has the tanh form (`activation="gelu_tanh"`).
"""
from tfzoo.models.encoder import Encoder

WORDS = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768),
         "large": (24, 1024)}
SHAPES = {**WORDS, **{f"l{layers}_h{width}": (layers, width)
                      for layers in (2, 4, 6, 8, 10, 12) for width in (128, 256, 512, 768)}}
SIZES = {f"bert_{size}": {"vocab_size": 30522, "num_layers": layers, "hidden_dim": width, "num_heads": width // 64,
                          "ffn_dim": 4 * width, "max_length": 512}
         for size, (layers, width) in SHAPES.items()}
MODEL = Encoder

# Our path -> the reference's name ({n} the number of the block); kernels are transposed there.
CHECKPOINT_NAMES = {
    "embeddings/token": "embeddings.word_embeddings.weight",
    "embeddings/position": "embeddings.position_embeddings.weight",
    "embeddings/segment": "embeddings.token_type_embeddings.weight",
    "embeddings/norm": "embeddings.LayerNorm",
    "block_{n}/attention/query": "encoder.layer.{n}.attention.self.query",
    "block_{n}/attention/key": "encoder.layer.{n}.attention.self.key",
    "block_{n}/attention/value": "encoder.layer.{n}.attention.self.value",
    "block_{n}/attention/output": "encoder.layer.{n}.attention.output.dense",
    "block_{n}/attention_norm": "encoder.layer.{n}.attention.output.LayerNorm",
    "block_{n}/feed_forward/up": "encoder.layer.{n}.intermediate.dense",
    "block_{n}/feed_forward/down": "encoder.layer.{n}.output.dense",
    "block_{n}/feed_forward_norm": "encoder.layer.{n}.output.LayerNorm",
    "pooler": "pooler.dense",
}
