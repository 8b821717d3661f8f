"""Keras layers that compose into Transformers."""
from tfzoo.layers.attention import Attention
from tfzoo.layers.block import Block, recompute_blocks
from tfzoo.layers.dropout import Dropout, step_randomness
from tfzoo.layers.embeddings import Embeddings
from tfzoo.layers.feed_forward import FeedForward
from tfzoo.layers.initializers import blank_weights, shapes_only
from tfzoo.layers.linear import Linear
from tfzoo.layers.norm import LayerNorm

__all__ = ["Attention", "Block", "Dropout", "Embeddings", "FeedForward", "LayerNorm", "Linear", "blank_weights",
           "recompute_blocks", "shapes_only", "step_randomness"]
