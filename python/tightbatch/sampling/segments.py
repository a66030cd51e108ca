"""What is packed: rows, or segments of rows that are longer than a pack."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST_SEGMENTS = 2**32 - 1  # that the planner numbers

Array = NDArray[np.int64]


def fit_rows(
    function: str, lengths: Array, capacity: int, overlong: str
) -> tuple[Array, Array | None, Array | None, int]:
    """Give the segments to pack: sizes, rows and starts (None: all rows), and tokens cut off."""
    long = lengths > capacity
    if not long.any():
        return lengths, None, None, 0
    if overlong == "error":
        row = int(long.argmax())
        raise ValueError(
            f"{function}(): row {row}: length {lengths[row]} is more than capacity={capacity}; "
            "pass overlong='truncate', 'split' or 'drop', or a larger capacity"
        )
    if overlong == "drop":
        rows = np.flatnonzero(~long)
        return lengths[rows], rows, None, 0
    if overlong == "truncate":
        sizes = np.minimum(lengths, capacity)
        return sizes, None, None, int(lengths.sum() - sizes.sum())
    rows, starts, sizes = split_rows(function, lengths, capacity)
    return sizes, rows, starts, 0


def split_rows(function: str, lengths: Array, capacity: int) -> tuple[Array, Array, Array]:
    """Split rows into segments of at most the capacity: their rows, starts and lengths."""
    counts = np.maximum(-(-lengths // capacity), 1)
    if counts.sum(dtype=np.float64) > _MOST_SEGMENTS:
        row = int(counts.argmax())
        raise ValueError(
            f"{function}(): row {row}: length {lengths[row]} makes {counts[row]} segments of "
            f"capacity={capacity}, and all rows make more than {_MOST_SEGMENTS}; pass a larger one"
        )
    rows = np.repeat(np.arange(len(lengths)), counts)
    firsts = np.cumsum(counts) - counts
    starts = (np.arange(len(rows)) - firsts[rows]) * capacity
    return rows, starts, np.minimum(lengths[rows] - starts, capacity)


def check_numbered(function: str, sizes: Array, rows: Array | None) -> None:
    """Check that a length and a row number fit into the 64 bits of the planner's sort key."""
    longest = int(sizes.max(initial=0))
    if longest.bit_length() + max(len(sizes) - 1, 0).bit_length() > 64:
        segment = int(sizes.argmax())
        row = segment if rows is None else rows[segment]
        raise ValueError(
            f"{function}(): row {row}: length {longest} is too long to plan for {len(sizes)} rows; "
            "pass a smaller capacity and overlong='truncate', 'split' or 'drop'"
        )
