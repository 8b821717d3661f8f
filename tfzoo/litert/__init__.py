"""Run LiteRT files that `experiments.export --format=litert` wrote; this package does not need TensorFlow.

It needs numpy, ai-edge-litert and the package of the tokenizer, tokenizers or sentencepiece:

    pip install --no-deps tfzoo
    pip install numpy ai-edge-litert tokenizers
"""
from tfzoo.litert.model import File, load

__all__ = ["File", "load"]
