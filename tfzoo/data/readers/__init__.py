"""Readers for rows, plain text and pre-split sentences, optionally gzipped, in constant memory."""
from tfzoo.data.readers.lines import (DOCUMENTS, Blocks, Lines, ending_of, find_ending, hash_content, read_documents,
                                      whole_documents)
from tfzoo.data.readers.rows import read_rows
from tfzoo.data.readers.schema import ENDINGS, LABELLED, TEXTS, Schema

__all__ = ["DOCUMENTS", "ENDINGS", "LABELLED", "TEXTS", "Blocks", "Lines", "Schema", "ending_of", "find_ending",
           "hash_content", "read_documents", "read_rows", "whole_documents"]
