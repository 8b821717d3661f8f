"""Measurements of tfzoo, beside its peers; each is run as `python -m benchmarks.NAME`."""
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the processes that they start begin with it
