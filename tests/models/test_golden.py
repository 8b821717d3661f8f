"""Compare every hidden state of BERT and GPT-2 with those of transformers (tests/golden/make_golden.py)."""
import json
import pathlib

import numpy as np
import pytest

from tests.helpers import assign_reference
from tfzoo.models import build_body, family_of

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize("family, name, prefix",
                         [("bert", "bert_tiny", "bert."), ("gpt2", "gpt2_tiny", "transformer.")])
def test_hidden_states_equal_the_reference(family, name, prefix):
    golden = np.load(GOLDEN / f"{family}.npz")
    overrides = json.loads(str(golden["about"]))["config"]
    if family == "bert":
        overrides["pooler"] = False
    body = build_body(name, **overrides)
    weights = {key[len("weight:" + prefix):]: golden[key] for key in golden if key.startswith("weight:" + prefix)}
    assign_reference(body, weights, family_of(name))
    inputs = {key: golden[key] for key in ("token_ids", "padding_mask", "segment_ids") if key in golden}
    outputs = body(inputs, keep=body.stack.names())
    states = [outputs[name] for name in body.stack.names() if "/" not in name]
    if family == "gpt2":
        states[-1] = outputs["sequence"]
    real = golden["padding_mask"].astype(bool)
    for number, state in enumerate(states):
        difference = np.abs(np.asarray(state) - golden[f"hidden:{number}"])
        # Compare only real positions: causal padding rows that attend only to padding are undefined.
        assert difference[real].max() <= 1e-5, number
    assert np.std(golden["hidden:3"]) > 0.5
