"""tb.LengthBatchSampler against transformers' LengthGroupedSampler and NumPy, a million rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import count, islice
from typing import Any

from harness import Row, compare, one_thread, run

one_thread()

import numpy as np
from numpy.typing import NDArray
from transformers.trainer_pt_utils import LengthGroupedSampler

import tightbatch as tb
from workload import text_lengths

ROWS = 1_000_000
WINDOW = 50  # batches that are sorted together, as in transformers
MAX_TOKENS = 16_384

Batches = Iterable[list[int]]


def padding(lengths: NDArray[np.int64], batches: Batches) -> float:
    """Per cent of the padded batches that is padding."""
    width = [(len(batch), int(lengths[batch].max())) for batch in batches]
    return 100 * (1 - int(lengths.sum()) / sum(rows * longest for rows, longest in width))


def by_transformers(lengths: list[int], batch_size: int) -> list[list[int]]:
    order = iter(LengthGroupedSampler(batch_size, lengths=lengths))
    batches = []
    while batch := list(islice(order, batch_size)):
        batches.append(batch)
    return batches


def by_numpy(lengths: NDArray[np.int64], batch_size: int) -> NDArray[np.int64]:
    """Sort windows of shuffled rows one by one, as in transformers; then shuffle the batches."""
    rng = np.random.default_rng()
    order = rng.permutation(len(lengths))
    window = WINDOW * batch_size
    for begin in range(0, len(order), window):
        rows = order[begin : begin + window]
        order[begin : begin + window] = rows[np.argsort(-lengths[rows], kind="stable")]
    return rng.permutation(order.reshape(-1, batch_size))


def by_numpy_at_its_best(lengths: NDArray[np.int16], batch_size: int) -> NDArray[np.int64]:
    """The same with all windows sorted by one call, on int16 keys, for which there is a radix sort.

    Only for lengths below 2**15 and rows that fill the windows.
    """
    rng = np.random.default_rng()
    order = rng.permutation(len(lengths)).reshape(-1, WINDOW * batch_size)
    ranks = np.argsort(-lengths[order], axis=1, kind="stable")
    return rng.permutation(np.take_along_axis(order, ranks, axis=1).reshape(-1, batch_size))


def cut_by_loop(lengths: NDArray[np.int64], max_tokens: int) -> list[list[int]]:
    """Sort all rows, then cut where the next row would be too much, row by row."""
    rng = np.random.default_rng()
    order = rng.permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    batches: list[list[int]] = []
    batch: list[int] = []
    widest = 0
    for row, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        if (len(batch) + 1) * widest > max_tokens:
            batches.append(batch)
            batch = []
        if not batch:
            widest = length
        batch.append(row)
    batches.append(batch)
    return [batches[i] for i in rng.permutation(len(batches)).tolist()]


def replan(sampler: tb.LengthBatchSampler) -> Callable[[], int]:
    """Plan another epoch with every call."""
    epochs = count(1)

    def plan() -> int:
        sampler.set_epoch(next(epochs))
        return len(sampler)

    return plan


def plan_by_rows(batch_size: int) -> list[Row]:
    lengths = text_lengths(ROWS)
    plain, short = lengths.tolist(), lengths.astype(np.int16)
    sampler = tb.LengthBatchSampler(
        lengths, batch_size=batch_size, shuffle_window=WINDOW * batch_size
    )
    theirs = padding(lengths, by_transformers(plain, batch_size))
    note = (
        f"padding: {padding(lengths, sampler):.2f} %, transformers {theirs:.2f} %, "
        f"NumPy {padding(lengths, by_numpy(lengths, batch_size).tolist()):.2f} %"
    )
    peers = {
        "transformers LengthGroupedSampler, in lists": (
            lambda: by_transformers(plain, batch_size),
            10,
        ),
        "NumPy, window by window": (lambda: by_numpy(lengths, batch_size), 3),
    }
    if ROWS % (WINDOW * batch_size) == 0:
        peers["NumPy, int16 keys, one call"] = (
            lambda: by_numpy_at_its_best(short, batch_size),
            None,
        )
    name = f"plan of {ROWS:,} rows, batches of {batch_size}, windows of {WINDOW} batches"
    return compare(name, replan(sampler), peers, note)


def plan_32() -> list[Row]:
    return plan_by_rows(32)


def plan_64() -> list[Row]:
    return plan_by_rows(64)


def plan_one_window() -> list[Row]:
    """All rows sorted together: next to no padding."""
    lengths = text_lengths(ROWS)
    plain = lengths.tolist()
    sampler = tb.LengthBatchSampler(lengths, batch_size=32, shuffle_window=None)
    theirs = padding(lengths, by_transformers(plain, 32))
    return compare(
        f"plan of {ROWS:,} rows, batches of 32, one window",
        replan(sampler),
        {"transformers LengthGroupedSampler, in lists": (lambda: by_transformers(plain, 32), 10)},
        f"padding: {padding(lengths, sampler):.2f} %, transformers {theirs:.2f} %",
    )


def plan_by_tokens() -> list[Row]:
    lengths = text_lengths(ROWS)
    sampler = tb.LengthBatchSampler(lengths, max_tokens=MAX_TOKENS, shuffle_window=None)
    note = (
        f"padding: {padding(lengths, sampler):.2f} %, "
        f"peer {padding(lengths, cut_by_loop(lengths, MAX_TOKENS)):.2f} %"
    )
    return compare(
        f"plan of {ROWS:,} rows, max_tokens={MAX_TOKENS:,}, one window",
        replan(sampler),
        {"NumPy sort, Python loop": (lambda: cut_by_loop(lengths, MAX_TOKENS), None)},
        note,
    )


def plan_without_padding() -> list[Row]:
    """Packs from a pool, against best fit in windows and over all rows."""
    lengths = text_lengths(ROWS)

    def sampler(**options: Any) -> tb.LengthBatchSampler:
        return tb.LengthBatchSampler(lengths, max_tokens=MAX_TOKENS, padding_free=True, **options)

    pool, windows = sampler(), sampler(strategy="best_fit")
    whole = sampler(strategy="best_fit", shuffle_window=None)
    fair, like = pool.fairness().plan, whole.fairness().plan
    return compare(
        f"plan of {ROWS:,} rows without padding, max_tokens={MAX_TOKENS:,}",
        replan(pool),
        {
            "best fit, windows of 100 batches": (replan(windows), 1),
            "best fit, all rows": (replan(whole), 1),
        },
        f"not filled: {100 * fair.padding:.3f} %, best fit {100 * like.padding:.3f} %; rows a "
        f"batch: {fair.rows_mean:.0f} +- {fair.rows_std:.0f}, best fit +- {like.rows_std:.0f}",
    )


def whole_epoch() -> list[Row]:
    """Plan and run through it, with the default window."""
    lengths = text_lengths(ROWS)
    plain = lengths.tolist()
    sampler = tb.LengthBatchSampler(lengths, batch_size=32)
    theirs = padding(lengths, by_transformers(plain, 32))
    batches = len(sampler)
    ours = padding(lengths, sampler)
    rows = compare(
        f"epoch of {ROWS:,} rows, batches of 32, planned and handed out as lists",
        lambda: deque(sampler, maxlen=0),
        {"transformers LengthGroupedSampler, in lists": (lambda: by_transformers(plain, 32), 10)},
    )
    for row in rows:
        row["note"] = (
            f"{row['ours_us'] / batches:.2f} us a batch; "
            f"padding: {ours:.2f} %, transformers {theirs:.2f} %"
        )
    return rows


def construction() -> list[Row]:
    """Reading and checking the lengths, once a run."""
    lengths = text_lengths(ROWS)
    plain = lengths.tolist()
    return compare(
        f"sampler from a list of {ROWS:,} lengths",
        lambda: tb.LengthBatchSampler(plain, batch_size=32),
        {"np.array(lengths)": (lambda: np.array(plain), None)},
    )


def resume() -> list[Row]:
    """State, its loading, and the first batch of the resumed epoch, once the plan is there.

    Without such a state one starts the epoch again and skips what was seen, as Lightning and
    transformers' Trainer do.
    """
    lengths = text_lengths(ROWS)
    consumed = ROWS // (32 * 8) // 2
    trained, resumed = (
        tb.LengthBatchSampler(lengths, batch_size=32, num_replicas=8, rank=3) for _ in range(2)
    )
    batches = iter(trained)
    deque(islice(batches, consumed), maxlen=0)
    fresh = trained.state_dict(0)
    len(resumed)

    def by_state() -> list[int]:
        resumed.load_state_dict(trained.state_dict(consumed))
        return next(iter(resumed))

    def by_skipping() -> list[int]:
        resumed.load_state_dict(fresh)
        return next(islice(resumed, consumed, None))

    assert by_state() == by_skipping() == next(batches)
    return compare(
        f"state_dict, load_state_dict and next batch, {ROWS:,} rows, 8 ranks",
        by_state,
        {f"skipping {consumed:,} batches": (by_skipping, None)},
        "goal: below 1 ms",
    )


BENCHMARKS = [
    plan_32,
    plan_64,
    plan_one_window,
    plan_by_tokens,
    plan_without_padding,
    whole_epoch,
    construction,
    resume,
]

if __name__ == "__main__":
    run(BENCHMARKS, __doc__)
