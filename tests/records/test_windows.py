"""Windows cover every token, share what they should, and each part has one owner, as in BERT's code for SQuAD."""
import numpy as np
import pytest

from tfzoo.records.windows import cut_windows, window_of


@pytest.mark.parametrize("room", [1, 2, 5, 16])
def test_windows_cover_every_text_with_the_wanted_overlap(room):
    for length in range(40):
        for overlap in range(room):
            windows = cut_windows(length, room, overlap)
            assert windows[0, 0] == 0 and windows[-1, 1] == length
            assert (windows[1:, 0] == windows[:-1, 1] - overlap).all()  # consecutive windows share `overlap` tokens
            assert (windows[:-1, 1] - windows[:-1, 0] == room).all() and windows[-1, 1] - windows[-1, 0] <= room
            assert len(windows) == 1 or windows[-1, 1] > windows[-2, 1]


def test_an_overlap_as_large_as_a_window_is_refused():
    with pytest.raises(ValueError, match="overlap must be at least 0 and below 4, the room of a window; got 4"):
        cut_windows(10, 4, 4)


def _max_context(spans, position):
    # The rule of google-research/bert's run_squad.py without its preference for long windows: the largest minimum of
    # left and right context.
    best = None
    for number, (start, end) in enumerate(spans):
        if start <= position < end:
            score = min(position - start, end - 1 - position)
            best = (score, number) if best is None or score > best[0] else best
    return best[1]


def test_each_token_belongs_to_the_window_with_its_largest_context():
    for length, room, overlap in ((30, 8, 3), (31, 8, 7), (9, 4, 2), (5, 9, 1)):
        windows, tokens = cut_windows(length, room, overlap), np.arange(length)
        assert window_of(windows, tokens, tokens + 1).tolist() == [_max_context(windows, place) for place in tokens]


def test_a_part_longer_than_the_overlap_may_have_no_window():
    windows = cut_windows(12, 4, 1)
    assert window_of(windows, [2, 0, 5], [6, 4, 7]).tolist() == [-1, 0, 1]
    assert (window_of(windows, [0], [5]) == -1).all()
