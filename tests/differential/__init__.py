"""Differential tests: the same random inputs to tfzoo and to a reference implementation in a separate process."""
