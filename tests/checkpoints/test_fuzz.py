"""Files with changed bytes or values load with equal content or are refused, within bounded memory."""
import pytest

from tests.checkpoints import fuzz


def held(readers, count, folder):
    found = fuzz.run(readers, count, 0, folder)
    assert list(found) == readers
    for reader, row in found.items():
        assert row["else"] == 0, (reader, row, sorted(folder.iterdir()))
        assert row["files"] == count == row["equal"] + row["unknown kind"] + row["refused"], (reader, row)
        assert row["MB"] < 500, (reader, row)
        # vocab.txt is refused only without one of a few lines, those of the special tokens.
        assert row["refused"] > 0 or (reader == "vocab.txt" and count < 100), (reader, row)
    assert sum(row["equal"] for row in found.values()) > count  # some content was compared


def test_damaged_files_load_the_same_or_are_refused(tmp_path):
    held(list(fuzz.READERS), 8, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_damaged_files_a_reader_load_the_same_or_are_refused(tmp_path):
    held(list(fuzz.READERS), 200, tmp_path)
