"""Quiet TensorFlow before any test imports it, and what the tests' processes share."""
import atexit
import os
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # 2 would report each entry of the cache below, as it is no text
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# Corpora of tests are not the user's; what `builtin:python` reads is kept where it is, as reading it takes long.
os.environ.setdefault("TFZOO_CACHE", os.path.join(tempfile.gettempdir(), "tfzoo-tests"))
if "TF_XLA_FLAGS" not in os.environ:  # the workers and the scripts that tests start compile each kernel once in all
    compiled = tempfile.mkdtemp(prefix="tfzoo-tests-xla-")
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={compiled}"
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)


def pytest_configure(config):
    """Let the fast tests compile without optimization, in half of the time; the slow ones compile as a user does."""
    if config.getoption("markexpr") == "not slow":
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
