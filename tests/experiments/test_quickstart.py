"""The last line of the quickstart, from a handful of steps."""
import json
import subprocess
import sys

import pytest

from tests.helpers import CHECKOUT


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_short_quickstart_names_its_folders_and_scores(tmp_path):
    command = [sys.executable, "-m", "experiments.quickstart", "--share=0.005", f"--output_dir={tmp_path / 'q'}"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert "SavedModel" in done.stdout and "three commands" in done.stdout
    for name in ("bert", "finetuned", "scratch", "tagged", "gpt", "exported"):
        assert (tmp_path / "q" / name).is_dir() and results[name].startswith(str(tmp_path / "q" / name))
    assert results["curves"] == str(tmp_path / "q" / "curves.png")
    assert "def/" in done.stdout and 0 < results["tagging_accuracy"] < 1
    assert (tmp_path / "q" / "curves.png").read_bytes().startswith(b"\x89PNG")
    # The TF-IDF baseline does not depend on the steps: the task is learnable, but the baseline does not solve it.
    assert 0.6 < results["bag_of_words_accuracy"] < 0.8
    again = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert again.returncode == 0 and "is finished" in again.stderr
