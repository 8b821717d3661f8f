"""Keras layers for building Transformers."""
from tfzoo.layers.attention import Attention
from tfzoo.layers.block import Block
from tfzoo.layers.cache import Cache, Keys
from tfzoo.layers.context import blank_weights, initial_weights, training_step
from tfzoo.layers.dropout import Dropout
from tfzoo.layers.embeddings import Embeddings
from tfzoo.layers.feed_forward import FeedForward
from tfzoo.layers.initializers import shapes_only
from tfzoo.layers.linear import Linear
from tfzoo.layers.norm import LayerNorm
from tfzoo.layers.taps import NO_TAPS, Taps

__all__ = ["Attention", "Block", "Cache", "Dropout", "Embeddings", "FeedForward", "Keys", "LayerNorm", "Linear",
           "NO_TAPS", "Taps", "blank_weights", "initial_weights", "shapes_only", "training_step"]
