"""The model families, one file each, which reads like the paper's specification."""
