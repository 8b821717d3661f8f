"""Every architecture of transformers that tfzoo has: loaded, its numbers; written, its tensors; a golden file each."""
import pytest

from tests.checkpoints import parity
from tests.golden import families

BOUND = 1e-5  # relative, float32


@pytest.mark.parametrize("family, architecture", families.CASES)
def test_a_loaded_folder_gives_the_reference_s_numbers_and_is_written_as_it_was(family, architecture, tmp_path):
    found = parity.differences(parity.GOLDEN / "families" / f"{family}-{architecture}.npz", tmp_path)
    assert found.pop("out") == 0.0
    assert "in" in found and all(difference <= BOUND for difference in found.values()), found
