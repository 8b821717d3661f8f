"""Loading a large checkpoint takes little more memory than its weights."""
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.helpers import CHECKOUT
from tfzoo.checkpoints.huggingface import Names, shape_of
from tfzoo.layers import shapes_only
from tfzoo.models import build_body, family_of

LOAD = """
import sys, threading, tfzoo

def private():  # excludes pages mapped from the file, which the system can evict
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

tfzoo.build("gpt2_tiny", vocab_size=300)  # the first variables of a process take additional memory
before, peak, done = private(), [0], threading.Event()

def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], private())

thread = threading.Thread(target=watch)
thread.start()
loaded = tfzoo.load(sys.argv[1])
done.set()
thread.join()
print((max(peak[0], private()) - before) / (4 * loaded.model.count_params()))
"""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_checkpoint_of_a_gigabyte_takes_little_more_than_its_weights(tmp_path):
    with shapes_only():
        variables = build_body("gpt2_355m").trainable_variables
        plan = Names(family_of("gpt2").reference, None, "").plan(variables)
    save_file({name: np.zeros(shape_of(parts, turned), np.float32) for name, (parts, turned) in plan.items()},
              tmp_path / "model.safetensors", {"format": "pt"})
    config = {"model_type": "gpt2", "architectures": ["GPT2Model"], "vocab_size": 50257, "n_layer": 24, "n_embd": 1024,
              "n_head": 16, "n_positions": 1024}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0.9 < float(done.stdout) < 1.3, done.stdout
