"""The model families, one module each, written to read like the specifications in the papers."""
