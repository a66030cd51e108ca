"""tb.bucket_boundaries against the same optimum by NumPy, and against quantiles."""

from __future__ import annotations

from harness import Row, compare, one_thread, run

one_thread()

import numpy as np
from numpy.typing import NDArray

import tightbatch as tb
from workload import text_lengths

BUCKETS = 32
Lengths = NDArray[np.int64]


def long_lengths(count: int) -> Lengths:
    """Log-normal lengths, each from 1 to 4,096 at least once."""
    drawn = np.random.default_rng(0).lognormal(6.5, 0.8, count - 4096).astype(np.int64)
    return np.concatenate([np.clip(drawn, 1, 4096), np.arange(1, 4097)])


def by_numpy(lengths: Lengths, k: int) -> Lengths:
    """The same recurrence, a call for each width: all cuts of all layers at once."""
    widths, counts = np.unique(lengths, return_counts=True)
    m = len(widths)
    rows = np.concatenate([[0], np.cumsum(counts)])
    never = np.iinfo(np.int64).max // 2
    best = np.full((k + 1, m + 1), never)
    best[0, 0] = 0
    cuts = np.zeros((k + 1, m + 1), np.int64)
    layers = np.arange(k)
    for j in range(1, m + 1):
        tokens = best[:-1, :j] + (rows[j] - rows[:j]) * widths[j - 1]
        cut = tokens.argmin(axis=1)
        best[1:, j] = tokens[layers, cut]
        cuts[1:, j] = cut
    boundaries, end = [], m
    for q in range(k, 0, -1):
        boundaries.append(widths[end - 1])
        end = cuts[q, end]
    return np.array(boundaries[::-1])


def by_quantiles(lengths: Lengths, k: int) -> Lengths:
    """What is done by hand: as many rows in each bucket."""
    return np.unique(np.quantile(lengths, np.arange(1, k + 1) / k, method="higher"))


def padding(lengths: Lengths, boundaries: Lengths) -> float:
    """Per cent of the padded rows that is padding."""
    padded = boundaries[np.searchsorted(boundaries, lengths)].sum()
    return 100 * (1 - int(lengths.sum()) / int(padded))


def choose(name: str, lengths: Lengths, k: int, goal: float | None) -> list[Row]:
    ours = tb.bucket_boundaries(lengths, k)
    assert np.array_equal(ours, by_numpy(lengths, k))
    quantiles = padding(lengths, by_quantiles(lengths, k))
    return compare(
        name,
        lambda: tb.bucket_boundaries(lengths, k),
        {"NumPy, the same recurrence": (lambda: by_numpy(lengths, k), goal)},
        f"padding: {padding(lengths, ours):.2f} %, quantile buckets {quantiles:.2f} %",
    )


def many_widths() -> list[Row]:
    lengths = long_lengths(20_000)
    return choose(f"{BUCKETS} of 4,096 widths, 20,000 rows", lengths, BUCKETS, 20)


def many_rows() -> list[Row]:
    lengths = long_lengths(1_000_000)
    return choose(f"{BUCKETS} of 4,096 widths, 1,000,000 rows", lengths, BUCKETS, 20)


def short_rows() -> list[Row]:
    lengths = text_lengths(1_000_000)
    return choose("8 of 512 widths, 1,000,000 rows", lengths, 8, 5)


def reading_a_list() -> list[Row]:
    plain = text_lengths(1_000_000).tolist()
    return compare(
        "8 of 512 widths, a list of 1,000,000",
        lambda: tb.bucket_boundaries(plain, 8),
        {"np.array(lengths)": (lambda: np.array(plain), None)},
    )


if __name__ == "__main__":
    run([many_widths, many_rows, short_rows, reading_a_list], __doc__)
