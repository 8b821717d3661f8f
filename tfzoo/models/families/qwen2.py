"""Qwen2 and Qwen2.5 (Yang et al. 2024, arXiv:2407.10671, 2412.15115): Llama's blocks with biases for Q, K and V."""
from tfzoo.models.decoder import Decoder
from tfzoo.models.families import llama
from tfzoo.models.family import Family
from tfzoo.models.reference import preset_of

OWN = {"vocab_size": 151936, "tied": True}
SHORT = {**OWN, "max_length": 32768}
LARGE = {"vocab_size": 152064, "tied": False}
COMMON = {"max_length": 131072, "rope_theta": 1000000.0, "epsilon": 1e-6, "qkv_bias": True}
SHAPES = {"0.5b": (24, 896, 14, 2, 4864, OWN), "1.5b": (28, 1536, 12, 2, 8960, OWN),
          "7b": (28, 3584, 28, 4, 18944, LARGE), "72b": (80, 8192, 64, 8, 29568, {**LARGE, "epsilon": 1e-5})}
SIZES = {**llama.sizes_of("qwen2", {"tiny": (2, 128, 4, 2, 352, OWN), **SHAPES}, **COMMON),
         **llama.sizes_of("qwen2.5", {**SHAPES, "0.5b": (24, 896, 14, 2, 4864, SHORT),
                                      "3b": (36, 2048, 16, 2, 11008, SHORT),
                                      "14b": (48, 5120, 40, 8, 13824, {**LARGE, "epsilon": 1e-5}),
                                      "32b": (64, 5120, 40, 8, 27648, {**LARGE, "epsilon": 1e-5})}, **COMMON)}
ORIGINS = {"qwen2_": ("hf:Qwen/Qwen2-*", "Apache-2.0"), "qwen2.5_": ("hf:Qwen/Qwen2.5-*", "Apache-2.0"),
           "qwen2_72b": ("hf:Qwen/Qwen2-72B", "Tongyi Qianwen"), "qwen2.5_72b": ("hf:Qwen/Qwen2.5-72B", "Qwen"),
           "qwen2.5_3b": ("hf:Qwen/Qwen2.5-3B", "Qwen Research")}

REFERENCE = llama.reference_of(
    "Qwen2", "qwen2", "transformer.",
    defaults={**llama.REFERENCE.defaults, "vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32,
              "max_position_embeddings": 32768}, fixed={"use_sliding_window": (False,)})
PRESET = preset_of("QwenBackbone", block=llama.PRESET_BLOCK, names=llama.PRESET_NAMES)
FAMILY = Family("qwen2", SIZES, Decoder, reference=REFERENCE, preset=PRESET, origins=ORIGINS)
