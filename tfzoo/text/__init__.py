"""Tokenizers that produce the same ids in training and serving."""
from tfzoo.text.load import learn_tokenizer, load_tokenizer
from tfzoo.text.tokenizer import EncodedWords, Tokenizer
from tfzoo.text.words import SplitWords, split_words, split_words_in_graph

__all__ = ["EncodedWords", "SplitWords", "Tokenizer", "learn_tokenizer", "load_tokenizer", "split_words",
           "split_words_in_graph"]
