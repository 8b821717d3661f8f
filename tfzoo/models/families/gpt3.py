"""GPT-3 (Brown et al. 2020, arXiv:2005.14165), in the sizes listed in table 2.1: GPT-2's blocks with twice the context.

Attention is dense in every layer; in the paper, every second layer has banded attention. In two rows of the table, the
number of heads times the head width does not equal the model width. The 1.3B model has 16 heads of width 128 here
instead of 24, because only 16 heads give 1.3 billion weights; the 13B model follows the table (40 heads of width 128
for a model width of 5140). No weights were released.
"""
from tfzoo.models.decoder import Decoder
from tfzoo.models.family import Family

# Layers, width, heads, head width.
SHAPES = {"125m": (12, 768, 12, 64), "350m": (24, 1024, 16, 64), "760m": (24, 1536, 16, 96),
          "1.3b": (24, 2048, 16, 128), "2.7b": (32, 2560, 32, 80), "6.7b": (32, 4096, 32, 128),
          "13b": (40, 5140, 40, 128), "175b": (96, 12288, 96, 128)}
SIZES = {f"gpt3_{size}": {"vocab_size": 50257, "num_layers": layers, "hidden_dim": width, "num_heads": heads,
                          "ffn_dim": 4 * width, "max_length": 2048, "head_dim": head}
         for size, (layers, width, heads, head) in SHAPES.items()}
FAMILY = Family("gpt3", SIZES, Decoder)
