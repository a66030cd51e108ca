"""analyze over many lengths, and what WasteMeter adds to a loader's batches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from typing import Any

from harness import Row, compare, one_thread, run

one_thread()

import numpy as np
from torch.utils.data import DataLoader

import tightbatch as tb
from workload import text_lengths

ROWS, BATCH, ROUNDS = 10_000_000, 64, 15


def theirs(lengths: Any, batch_size: int) -> list[float]:
    """What a NumPy user computes: the waste of fixed, dynamic, and fully sorted batches."""
    total = int(lengths.sum())
    shuffled = np.random.default_rng(0).permutation(lengths)
    found = [1 - total / (len(lengths) * int(lengths.max()))]
    for order in (shuffled, np.sort(shuffled)):
        starts = np.arange(0, len(order), batch_size)
        widths = np.maximum.reduceat(order, starts)
        rows = np.diff(np.append(starts, len(order)))
        found.append(1 - total / int((widths * rows).sum()))
    return found


def reports() -> list[Row]:
    rows = []
    for count in (10_000, ROWS):
        lengths = text_lengths(count)
        name = f"analyze {count:,} lengths: six ways, windows, bucket counts"
        note = "NumPy computes three numbers of the report: no packs, windows, buckets, shapes"
        peers = {
            "NumPy, three ways alone": (lambda lengths=lengths: theirs(lengths, 32), None),
        }
        rows += compare(
            name, lambda lengths=lengths: tb.analyze(lengths, batch_size=32), peers, note
        )
    return rows


def seconds_of(loader: Iterable[Any]) -> float:
    """Seconds for each batch of an epoch, with nothing done with it."""
    begin, count = time.perf_counter(), 0
    for _ in loader:
        count += 1
    return (time.perf_counter() - begin) / count


def meters() -> list[Row]:
    """What the meter adds to a batch: measured around a loader, in one process, and by itself.

    The difference of two epochs is less than they vary on a busy machine. So the parts are added:
    what it took to count, as the meter notes it, and all the rest, around a loader of nothing.
    """
    rng = np.random.default_rng(0)
    lengths = text_lengths(200 * BATCH)
    samples = [
        {"input_ids": ids, "token_type_ids": [0] * len(ids), "label": 1}
        for ids in (rng.integers(0, 30_000, n).tolist() for n in lengths)
    ]
    sampler = tb.LengthBatchSampler(lengths, batch_size=BATCH, shuffle=False)
    rows: list[Row] = []
    for collate in (tb.PadCollator(), tb.PaddingFreeCollator()):
        loader = DataLoader(samples, batch_sampler=sampler, collate_fn=collate)
        meter = tb.WasteMeter(loader)
        pairs, counting = [], []
        for turn in range(ROUNDS):
            times = {one: seconds_of(one) for one in ((meter, loader), (loader, meter))[turn % 2]}
            pairs.append((times[meter], times[loader]))
            counting.append(meter._counts.spent / meter._counts.batches)
        middle = statistics.median(one / other for one, other in pairs)
        low, usual, high = statistics.quantiles([without for _, without in pairs])
        counted = meter.metrics()["counted"]
        nothing = [None] * 10_000
        around = min(seconds_of(tb.WasteMeter(nothing)) - seconds_of(nothing) for _ in range(9))
        batch = min(without for _, without in pairs)
        alone = around + min(counting)
        rows.append(
            {
                "name": f"WasteMeter's part of a batch of {BATCH} dicts, {type(collate).__name__}",
                "ours_us": alone * 1e6,
                "peer": "the batch through a DataLoader",
                "peer_us": batch * 1e6,
                "ratio": batch / alone,
                "goal": 100,
                "note": f"epochs in turns with and without it differ by {middle - 1:+.2%} (median "
                f"of {ROUNDS}), those without it among each other by {(high - low) / usual:.2%} "
                f"(quartiles); {counted:.0f} of 200 batches were counted",
            }
        )
    return rows


if __name__ == "__main__":
    run([reports, meters], __doc__)
