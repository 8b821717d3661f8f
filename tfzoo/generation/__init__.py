"""Text generation with a key/value cache."""
from tfzoo.generation.decode import Generator
from tfzoo.generation.sampling import Sampling

__all__ = ["Generator", "Sampling"]
