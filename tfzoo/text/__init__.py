"""Tokenizers that give the same ids in training and serving."""
from tfzoo.text.load import learn_tokenizer, load_tokenizer
from tfzoo.text.tokenizer import Tokenizer

__all__ = ["Tokenizer", "learn_tokenizer", "load_tokenizer"]
