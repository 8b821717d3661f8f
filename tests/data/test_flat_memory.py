"""Reading and batching a file of 200 MB takes only a fraction of its size in memory."""
import json
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import CHECKOUT

MEGABYTES = 200


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("words, share", [
    (["--task=causal_lm", "--document=file"], 0.4),
    (["--task=masked_lm", "--document=paragraph", "--eval_fraction=0.05"], 0.5)])
def test_memory_stays_flat(tmp_path, words, share):
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"etaoinshrdlu    ", np.uint8)
    (tmp_path / "text.txt").write_bytes(b"\n\n".join(rng.choice(letters, rng.integers(100, 900)).tobytes().strip()
                                                     for _ in range(2000)))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.corpus", f"--megabytes={MEGABYTES}", f"--text={tmp_path / 'text.txt'}",
         "--steps=0", f"--folder={tmp_path}", *words], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    row = json.loads(done.stdout.splitlines()[-1])[1]
    assert row["text_bytes"] == MEGABYTES * 10 ** 6 and row["tokens"] > 0.95 * row["text_bytes"]
    assert row["peak_bytes"] < share * row["text_bytes"], row
