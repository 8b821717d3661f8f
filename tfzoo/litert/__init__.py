"""Run LiteRT files that were exported with `--format=litert`. This package does not need TensorFlow."""
