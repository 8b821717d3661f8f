"""Differential tests, which compare tfzoo on random inputs with reference implementations in a separate process."""
