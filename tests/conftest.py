"""Quiet TensorFlow before any test imports it, and what the tests' processes share."""
import atexit
import gc
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


def _are_fast(config):
    return config.getoption("markexpr") == "not slow"


def pytest_configure(config):
    """Spare the fast tests, two processes of small models, what costs them time; the slow ones run as a user does.

    Unoptimized kernels compile in a third of the time, and threads of one operation would only wait for each other.
    """
    if _are_fast(config):
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
            os.environ.setdefault(name, "1")


def pytest_collection_finish(session):
    """Leave what was imported to itself: the garbage collector went through TensorFlow's objects time and again."""
    if _are_fast(session.config):
        gc.freeze()
        gc.set_threshold(100_000, 20, 20)
