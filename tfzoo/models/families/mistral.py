"""Mistral 7B (Jiang et al. 2023, arXiv:2310.06825): Llama's blocks; v0.1 has a sliding window of 4,096 tokens."""
from tfzoo.models.decoder import Decoder
from tfzoo.models.families import llama
from tfzoo.models.family import Family
from tfzoo.models.reference import preset_of

SHAPE = (32, 4096, 32, 8, 14336)
SIZES = llama.sizes_of("mistral", {
    "tiny": (2, 128, 4, 2, 352, {"vocab_size": 32000, "window": 256}),
    "7b_v0.1": (*SHAPE, {"vocab_size": 32000, "window": 4096}),
    "7b_v0.3": (*SHAPE, {"vocab_size": 32768, "rope_theta": 1000000.0})}, max_length=32768, tied=False)
ORIGINS = {"mistral_": ("hf:mistralai/Mistral-7B-*", "Apache-2.0")}

REFERENCE = llama.reference_of(
    "Mistral", "mistral", arguments={**llama.REFERENCE.arguments, "window": "sliding_window"},
    defaults={**llama.REFERENCE.defaults, "intermediate_size": 14336, "num_key_value_heads": 8,
              "max_position_embeddings": 131072, "sliding_window": 4096}, fixed={})
PRESET = preset_of("MistralBackbone", block=llama.PRESET_BLOCK, names=llama.PRESET_NAMES)
FAMILY = Family("mistral", SIZES, Decoder, reference=REFERENCE, preset=PRESET, origins=ORIGINS)
