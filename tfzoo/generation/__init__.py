"""Text from causal language models by cached decoding."""
from tfzoo.generation.generator import Generator
from tfzoo.generation.sampling import Sampling

__all__ = ["Generator", "Sampling"]
