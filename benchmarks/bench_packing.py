"""tb.pack and Packing.apply against TRL's packing, NumPy's sort and best fit, a million rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness import Row, best_times, compare, one_thread, run

one_thread()

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from trl.data_utils import _pack_bfd

import tightbatch as tb
from workload import text_lengths

ROWS = 1_000_000
TRL_ROWS = 100_000  # TRL's time a row grows with the rows, slowly; it takes seconds as it is
CAPACITY = 2048


def wide_lengths(count: int) -> NDArray[np.int64]:
    """Lengths with a mean of about 390, up to the capacity."""
    drawn = np.random.default_rng(0).lognormal(5.5, 1.0, count).astype(np.int64)
    return np.clip(drawn, 1, CAPACITY)


def make_rows(lengths: NDArray[np.int64]) -> tb.Ragged:
    """Token ids as int32, in one buffer."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return tb.Ragged(np.arange(offsets[-1], dtype=np.int32), offsets)


def as_table(rows: tb.Ragged) -> Any:
    """The same in Arrow, as datasets has them: with 32-bit offsets."""
    lists = rows.to_arrow().cast(pa.list_(pa.int32()))
    return pa.table({"input_ids": lists})


def best_of(call: Callable[[], Any], times: int) -> float:
    """The shortest time of a call that takes seconds, in microseconds."""
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best * 1e6


def against_trl(kind: str, lengths: NDArray[np.int64]) -> list[Row]:
    """Time a row: TRL plans and moves in one function, so it stands beside plan and both."""
    rows, few = make_rows(lengths), make_rows(lengths[:TRL_ROWS])
    table = as_table(few)
    theirs_us = best_of(lambda: _pack_bfd(table, CAPACITY, "truncate"), 2)
    ours_us = best_times(
        {
            "plan": lambda: tb.pack(lengths, CAPACITY),
            "both": lambda: tb.pack(lengths, CAPACITY).apply(rows),
        }
    )
    packing, few_packs = tb.pack(lengths, CAPACITY), tb.pack(lengths[:TRL_ROWS], CAPACITY)
    mean = f"{kind}, mean length {lengths.mean():.0f}"
    note = (
        f"{len(packing):,} packs, {100 * packing.efficiency:.3f} % full, "
        f"no packing needs fewer than {packing.lower_bound:,}; of {TRL_ROWS:,} rows "
        f"{len(few_packs):,} packs, TRL {len(_pack_bfd(table, CAPACITY, 'truncate')):,}"
    )
    return [
        {
            "name": f"{work} of {ROWS:,} rows ({mean}), a row",
            "ours_us": ours_us[side] / ROWS,
            "peer": f"TRL _pack_bfd, {TRL_ROWS:,} rows",
            "peer_us": theirs_us / TRL_ROWS,
            "ratio": theirs_us / TRL_ROWS / (ours_us[side] / ROWS),
            "goal": goal,
            "note": note if side == "plan" else "",
        }
        for side, work, goal in (("plan", "packs", 400), ("both", "packs and their tokens", 200))
    ]


def text_against_trl() -> list[Row]:
    return against_trl("text", text_lengths(ROWS))


def wide_against_trl() -> list[Row]:
    return against_trl("wide", wide_lengths(ROWS))


def against_sort() -> list[Row]:
    """To sort the lengths is the least that best-fit decreasing has to do; a pool need not."""
    found = []
    for kind, lengths in (("text", text_lengths(ROWS)), ("wide", wide_lengths(ROWS))):
        found += compare(
            f"packs of {ROWS:,} rows ({kind}, mean length {lengths.mean():.0f})",
            lambda lengths=lengths: tb.pack(lengths, CAPACITY),  # type: ignore[misc]
            {
                "np.argsort(kind='stable')": (
                    lambda lengths=lengths: np.argsort(lengths, kind="stable"),  # type: ignore[misc]
                    2,
                )
            },
        )
    return found


def against_best_fit() -> list[Row]:
    """Packs from a pool, against best fit over all rows: both shuffle first."""
    found = []
    for kind, lengths in (("text", text_lengths(ROWS)), ("wide", wide_lengths(ROWS))):
        pool, best = tb.pack(lengths, CAPACITY), tb.pack(lengths, CAPACITY, strategy="best_fit")
        spreads = [packing.fairness().plan.rows_std for packing in (pool, best)]
        found += compare(
            f"packs of {ROWS:,} rows ({kind}) from a pool",
            lambda lengths=lengths: tb.pack(lengths, CAPACITY),  # type: ignore[misc]
            {
                "strategy='best_fit'": (
                    lambda lengths=lengths: tb.pack(lengths, CAPACITY, strategy="best_fit"),  # type: ignore[misc]
                    1,
                )
            },
            f"{len(pool):,} packs, {100 * pool.efficiency:.3f} % full, rows a pack +- "
            f"{spreads[0]:.1f}; best fit {len(best):,}, +- {spreads[1]:.1f}",
        )
    return found


def moving() -> list[Row]:
    """Tokens alone, against one copy of as many bytes."""
    rows = make_rows(text_lengths(ROWS))
    packing = tb.pack(rows.lengths, CAPACITY)
    return compare(
        f"tokens of {len(packing):,} packs ({rows.values.nbytes >> 20} MiB)",
        lambda: packing.apply(rows),
        {"values.copy()": (rows.values.copy, None)},
    )


BENCHMARKS = [text_against_trl, wide_against_trl, against_sort, against_best_fit, moving]

if __name__ == "__main__":
    run(BENCHMARKS, __doc__)
