"""The model families, one file each, written to read like the specification in the paper."""
