"""Text generation with a key/value cache."""
from tfzoo.generation.generator import Generated, Generator
from tfzoo.records.options import Options

__all__ = ["Generated", "Generator", "Options"]
