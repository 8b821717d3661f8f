"""Every architecture of transformers that tfzoo has: loaded, its numbers; written, its tensors; a golden file each."""
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.checkpoints import parity
from tests.golden import families


@pytest.mark.parametrize("family, architecture", families.CASES)
def test_a_loaded_folder_gives_the_reference_s_numbers_and_is_written_as_it_was(family, architecture, tmp_path):
    found = parity.differences(parity.GOLDEN / "families" / f"{family}-{architecture}.npz", tmp_path)
    assert found.pop("out") == 0.0
    kinds = {"in", "hidden", "gradients"} if architecture in families.GRADIENTS else {"in", "hidden"}
    assert found.keys() == kinds and all(difference <= parity.BOUND for difference in found.values()), found


BODIES = [(family, architecture) for family, architecture in families.CASES if architecture.endswith("Model")
          and "LMHead" not in architecture]


def body_of(family, architecture, folder, dtype=None):
    about, arrays = parity.read_case(parity.GOLDEN / "families" / f"{family}-{architecture}.npz")
    parity.write_folder(about, folder)
    return tfzoo.load(folder, dtype), families.inputs_of(about["config"], about["seed"])[-1], arrays


@pytest.mark.parametrize("family, architecture", BODIES)
def test_in_bfloat16_it_is_near(family, architecture, tmp_path):
    loaded, inputs, arrays = body_of(family, architecture, tmp_path, "mixed_bfloat16")
    real = families.mask_of(inputs).astype(bool)
    found, expected = np.asarray(loaded.model(inputs)["sequence"], np.float32)[real], arrays["2:sequence"][real]
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 1.25 * arrays["bfloat16"], (error, arrays["bfloat16"])  # as far off as transformers is


@pytest.mark.parametrize("family, architecture", families.CASES)
def test_a_row_of_padding_alone_gives_finite_numbers(family, architecture, tmp_path):
    loaded, inputs, _ = body_of(family, architecture, tmp_path)
    hidden = {key: np.where(np.arange(3)[:, None] == 1, 0, value) if "mask" in key else value
              for key, value in inputs.items()}
    with tf.GradientTape() as tape:
        one, two = loaded.model(inputs), loaded.model(hidden)
        total = tf.add_n([tf.reduce_sum(tf.cast(value, tf.float32)) for value in two.values()])
    for value in (*two.values(), *(value for value in tape.gradient(total, loaded.model.trainable_variables)
                                   if value is not None)):
        assert np.isfinite(np.asarray(tf.convert_to_tensor(value))).all()
    for name, value in one.items():
        assert np.abs(value - two[name])[[0, 2]].max() < 1e-5 * np.abs(value).max(), name
