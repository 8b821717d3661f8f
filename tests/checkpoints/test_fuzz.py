"""Files with changed bytes or values load with the right content or are refused, within a memory limit."""
import pytest

from tests.checkpoints import fuzz

COUNT = 200


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_damaged_files_a_reader_load_the_same_or_are_refused(tmp_path):
    found = fuzz.run(list(fuzz.READERS), COUNT, 0, tmp_path)
    assert list(found) == list(fuzz.READERS)
    for reader, row in found.items():
        assert row["else"] == 0, (reader, row, sorted(tmp_path.iterdir()))
        assert row["files"] == COUNT == row["equal"] + row["unknown kind"] + row["refused"], (reader, row)
        assert row["refused"] > 0 and row["MB"] < 500, (reader, row)
    assert sum(row["equal"] for row in found.values()) > COUNT  # some content was compared
