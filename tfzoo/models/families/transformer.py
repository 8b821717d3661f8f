"""The Transformer (Vaswani et al. 2017, arXiv:1706.03762): base and big from its table 3, and tfzoo's own tiny size.

The encoder, the decoder and the output projection share one token table (section 3.4). The norms use tensor2tensor's
epsilon.
"""
from tfzoo.models.encoder_decoder import EncoderDecoder
from tfzoo.models.family import Family

SHAPES = {"tiny": (2, 128, 2, 0.1), "base": (6, 512, 8, 0.1), "big": (6, 1024, 16, 0.3)}
SIZES = {f"transformer_{size}": {"vocab_size": 37000, "num_layers": layers, "hidden_dim": width, "num_heads": heads,
                                 "ffn_dim": 4 * width, "max_length": 1024, "dropout": dropout}
         for size, (layers, width, heads, dropout) in SHAPES.items()}
FAMILY = Family("transformer", SIZES, EncoderDecoder)
