"""tb.pack under two limits, against first fit in NumPy and against ours under one limit."""

from __future__ import annotations

from typing import Any

from harness import Row, compare, one_thread, run

one_thread()

import numpy as np
from numpy.typing import NDArray

import tightbatch as tb

ROWS = 300_000
FEW_ROWS = 10_000  # of which NumPy's first fit takes a part of a second
CAPACITY = 8192

Array = NDArray[np.int64]


def draw_rows(count: int) -> tuple[Array, Array]:
    """Lengths with a mean of about 300; four rows in ten have up to five images."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(5.3, 1.0, count).astype(np.int64), 1, 4096)
    return lengths, random.integers(0, 6, count) * (random.random(count) < 0.4)


def first_fit(needs: Array, caps: Array, scarcest: int) -> int:
    """First fit, the largest rows of the scarcest limit first: how many packs it makes."""
    rooms, count = np.empty((len(needs), len(caps)), np.int64), 0
    for need in needs[np.argsort(-needs[:, scarcest], kind="stable")]:
        fits = (rooms[:count] >= need).all(axis=1)
        first = int(fits.argmax()) if count else 0
        if count == 0 or not fits[first]:
            rooms[count] = caps
            first, count = count, count + 1
        rooms[first] -= need
    return count


def against_first_fit() -> list[Row]:
    found = []
    for most in (20, 30):
        lengths, images = draw_rows(FEW_ROWS)
        needs, caps = np.stack([lengths, images], 1), np.array([CAPACITY, most])
        scarcest = int(np.argmax(needs.sum(axis=0) / caps))
        limits: dict[str, Any] = {"images": (images, most)}
        packing = tb.pack(lengths, CAPACITY, limits=limits)
        found += compare(
            f"packs of {FEW_ROWS:,} rows, at most {most} images",
            lambda lengths=lengths, limits=limits: tb.pack(lengths, CAPACITY, limits=limits),  # type: ignore[misc]
            {
                "first fit decreasing in NumPy": (
                    lambda needs=needs, caps=caps, s=scarcest: first_fit(needs, caps, s),  # type: ignore[misc]
                    20,
                )
            },
            f"{len(packing):,} packs, no packing needs fewer than {packing.lower_bound:,}; NumPy "
            f"{first_fit(needs, caps, scarcest):,}",
        )
    return found


def against_one_limit() -> list[Row]:
    """The pool, and first fit of all rows that may have fewer packs, against one limit's pool."""
    found = []
    lengths, images = draw_rows(ROWS)
    one = tb.pack(lengths, CAPACITY)
    for most in (20, 30):
        limits: dict[str, Any] = {"images": (images, most)}
        packing = tb.pack(lengths, CAPACITY, limits=limits)
        found += compare(
            f"packs of {ROWS:,} rows, at most {most} images",
            lambda limits=limits: tb.pack(lengths, CAPACITY, limits=limits),  # type: ignore[misc]
            {
                "the same without a limit on images": (lambda: tb.pack(lengths, CAPACITY), 0.1),
                "the same, by best fit": (
                    lambda: tb.pack(lengths, CAPACITY, strategy="best_fit"),
                    0.1,
                ),
            },
            f"{len(packing):,} packs, no packing needs fewer than {packing.lower_bound:,}; without "
            f"the limit {len(one):,}",
        )
    return found


BENCHMARKS = [against_first_fit, against_one_limit]

if __name__ == "__main__":
    run(BENCHMARKS, __doc__)
