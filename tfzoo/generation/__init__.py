"""Text from causal language models by cached decoding."""
from tfzoo.generation.generate import Sampling, generate

__all__ = ["Sampling", "generate"]
