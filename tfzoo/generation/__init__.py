"""Text from causal language models by cached decoding."""
from tfzoo.generation.decode import Generator
from tfzoo.generation.sampling import Sampling

__all__ = ["Generator", "Sampling"]
