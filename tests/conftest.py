"""Set up the environment of the tests before any of them imports TensorFlow."""
import atexit
import gc
import os
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # 2 would warn about each entry of the cache below
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# Tests do not use the user's cache of corpora. This one is kept between runs, since reading `builtin:python` is slow.
os.environ.setdefault("TFZOO_CACHE", os.path.join(tempfile.gettempdir(), "tfzoo-tests"))
if "TF_XLA_FLAGS" not in os.environ:  # the workers and scripts started by tests compile each kernel only once
    compiled = tempfile.mkdtemp(prefix="tfzoo-tests-xla-")
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={compiled}"
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)


def _are_fast(config):
    return config.getoption("markexpr") == "not slow"


def pytest_configure(config):
    """Speed up the fast tests, which run small models in two processes; the slow tests run as they would for a user.

    Unoptimized kernels compile in a third of the time, and small operations gain nothing from several threads.
    """
    if _are_fast(config):
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
            os.environ.setdefault(name, "1")


def pytest_collection_finish(session):
    """Exclude imported objects from garbage collection, which would otherwise scan TensorFlow's objects repeatedly."""
    if _are_fast(session.config):
        gc.freeze()
        gc.set_threshold(100_000, 20, 20)
