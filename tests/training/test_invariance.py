"""Updates do not depend on how the global batch is split over devices, workers and microbatches, or on XLA."""
import pytest

from tests.training import invariance

# Relative to the largest value of each kind; float32 has 24 bits, 6e-8. For measured values see BUILD_NOTES.md.
BOUNDS = {"first_momentum": 2e-6, "weights": 1e-6, "momentum": 4e-6, "velocity": 4e-6, "losses": 1e-6, "counts": 0.0,
          "evaluation": 1e-6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("invariance")
    for devices in invariance.DEVICES:
        invariance.run_settings(folder, devices)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("setting", invariance.settings(), ids=lambda setting: "-".join(map(str, setting)))
def test_the_split_of_a_batch_changes_nothing_but_rounding(folder, setting):
    worst = invariance.differences(folder, setting)
    assert worst.keys() == BOUNDS.keys()
    assert all(worst[kind] <= BOUNDS[kind] for kind in BOUNDS), worst


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("task", ["contrastive", "tagging"])
def test_the_split_of_a_batch_changes_nothing_for_groups_of_rows_and_windows_of_sentences(task, tmp_path):
    for devices in ("1", "2"):
        invariance.run_settings(tmp_path, devices, steps=3, task=task)
    worst = invariance.differences(tmp_path, ("2", 2, False))
    assert all(worst[kind] <= BOUNDS[kind] for kind in BOUNDS), worst
