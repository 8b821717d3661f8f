"""Readers for rows, plain text and pre-split sentences, optionally gzipped, in constant memory."""
from tfzoo.data.readers.conll import SENTENCE_ENDINGS, read_sentences
from tfzoo.data.readers.rows import (DOCUMENTS, ENDINGS, Blocks, Lines, ending_of, find_ending, hash_content,
                                     read_documents, read_rows, whole_documents)

__all__ = ["DOCUMENTS", "ENDINGS", "SENTENCE_ENDINGS", "Blocks", "Lines", "ending_of", "find_ending", "hash_content",
           "read_documents", "read_rows", "read_sentences", "whole_documents"]
