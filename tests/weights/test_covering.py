"""Whether boxes hold every value of a tensor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.weights.covering import Box, uncovered

WHOLE: Box = (0, 10, 1, 0, 8)


@pytest.mark.parametrize(
    ("boxes", "gaps"),
    [
        ({WHOLE}, []),
        ({(0, 5, 1, 0, 8), (5, 5, 1, 0, 8)}, []),
        ({(0, 6, 1, 0, 8), (4, 6, 1, 0, 8)}, []),
        ({(0, 10, 1, 0, 4), (0, 10, 1, 4, 4)}, []),
        ({(0, 5, 1, 0, 8), (6, 4, 1, 0, 8)}, [(5, 6)]),
        ({(0, 9, 1, 0, 8)}, [(9, 10)]),
        ({(0, 10, 1, 0, 4), (0, 10, 1, 5, 3)}, [(0, 10)]),
        ({(0, 10, 1, 0, 4), (0, 3, 1, 4, 4)}, [(3, 10)]),
        ({(0, 5, 2, 0, 8), (1, 5, 2, 0, 8)}, []),
        ({(0, 5, 2, 0, 8), (1, 4, 2, 0, 8)}, [(9, 11)]),
        ({(0, 5, 2, 0, 8)}, [(1, 11)]),
        ({(0, 3, 2, 0, 8), (1, 2, 2, 0, 8), (5, 5, 1, 0, 8)}, []),
        (set(), [(0, 10)]),
    ],
)
def test_gaps(boxes: set[Box], gaps: list[tuple[int, int]]) -> None:
    assert uncovered(boxes, (10, 8)) == gaps


BOXES = st.lists(
    st.tuples(
        st.integers(0, 7), st.integers(1, 8), st.just(1), st.integers(0, 4), st.integers(1, 5)
    ),
    max_size=6,
)


@given(BOXES)
def test_rows_are_full_exactly_where_every_value_is_held(boxes: list[Box]) -> None:
    held = np.zeros((8, 5), bool)
    kept = {
        (row, min(count, 8 - row), 1, column, min(width, 5 - column))
        for row, count, _, column, width in boxes
        if row < 8 and column < 5
    }
    for row, count, _, column, width in kept:
        held[row : row + count, column : column + width] = True
    missing = np.zeros(8, bool)
    for start, stop in uncovered(kept, (8, 5)):
        missing[start:stop] = True
    assert (missing == ~held.all(axis=1)).all()
