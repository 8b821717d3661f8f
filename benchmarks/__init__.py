"""Benchmarks of tfzoo and its peers; run each as `python -m benchmarks.NAME`."""
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # inherited by worker processes
