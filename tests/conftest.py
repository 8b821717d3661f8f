"""Quiet TensorFlow before any test imports it."""
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# Corpora of tests are not the user's; what `builtin:python` reads is kept where it is, as reading it takes long.
os.environ.setdefault("TFZOO_CACHE", os.path.join(tempfile.gettempdir(), "tfzoo-tests"))
