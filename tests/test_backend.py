"""The package and the scripts refuse Keras backends other than TensorFlow with a one-line message."""
import json
import os
import subprocess
import sys

import pytest

from tests.helpers import CHECKOUT

LINE = "but tfzoo requires TensorFlow: set KERAS_BACKEND=tensorflow before importing Keras\n"


@pytest.mark.parametrize("backend, says", [("jax", "jax"), ("nonsense", "nonsense"),
                                           (None, "the one set in keras.json")])
@pytest.mark.parametrize("words", [["-c", "import tfzoo"], ["-m", "experiments.models"]])
def test_another_backend_is_refused(words, backend, says, tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "numpy" if backend else "jax"}))
    environment = {**os.environ, "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": backend or ""}
    done = subprocess.run([sys.executable, *words], cwd=CHECKOUT, capture_output=True, text=True, env=environment)
    begin = "models: " if "-m" in words else "ImportError: "
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.endswith(
        f"{begin}the Keras backend is {says}, {LINE}")
    assert "-c" in words or done.stderr.count("\n") == 1
