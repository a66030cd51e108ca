"""tb.StreamBatcher against lhotse's dynamic bucketing, a heap and a sorted buffer in Python."""

from __future__ import annotations

import bisect
import heapq
import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from harness import Row, compare, one_thread, run

one_thread()

import tightbatch as tb
from workload import text_lengths

ROWS = 20_000
MAX_TOKENS = 16_384
BUFFER = 5_900  # samples: 64 batches

Lengths = list[int]
Batches = Iterable[list[int]]


def by_heap(lengths: Lengths, max_tokens: int, buffer: int) -> Iterator[list[int]]:
    """Fill a heap, and empty it from the longest sample on, into batches that are shuffled."""
    rng, rows = random.Random(0), iter(enumerate(lengths))
    heap: list[tuple[int, int]] = []
    while True:
        for row, length in rows:
            heapq.heappush(heap, (-length, row))
            if len(heap) == buffer:
                break
        if not heap:
            return
        batches = []
        while heap:
            room = min(max_tokens // -heap[0][0], len(heap))
            batches.append([heapq.heappop(heap)[1] for _ in range(room)])
        rng.shuffle(batches)
        yield from batches


def by_sorted_buffer(lengths: Lengths, max_tokens: int, buffer: int) -> Iterator[list[int]]:
    """Keep the buffer sorted; take the samples below a random one."""
    rng, rows = random.Random(0), iter(enumerate(lengths))
    pool: list[tuple[int, int]] = []
    while True:
        for row, length in rows:
            bisect.insort(pool, (length, row))
            if len(pool) == buffer:
                break
        if not pool:
            return
        end = rng.randrange(len(pool)) + 1
        begin = max(0, end - max_tokens // pool[end - 1][0])
        yield [row for _, row in pool[begin:end]]
        del pool[begin:end]


def by_lhotse(cuts: Any, max_tokens: int, buffer: int, buckets: int) -> Iterator[list[int]]:
    from lhotse.dataset.sampling import DynamicBucketingSampler

    sampler = DynamicBucketingSampler(
        cuts, max_duration=float(max_tokens), num_buckets=buckets, buffer_size=buffer
    )
    for batch in sampler:
        yield [int(cut.duration) for cut in batch]


def make_cuts(lengths: Lengths) -> Any:
    """Make lhotse's cuts of as many seconds; None where lhotse is not installed."""
    try:
        from lhotse import CutSet
        from lhotse.testing.dummies import dummy_cut
    except ImportError:
        return None
    cuts = [dummy_cut(i, start=0.0, duration=float(n)) for i, n in enumerate(lengths)]
    return CutSet.from_cuts(cuts)


def exhaust(batches: Batches) -> int:
    return sum(1 for _ in batches)


def padding(widths: Iterable[list[int]]) -> str:
    """Per cent of the padded batches that is padding, and the number of batches."""
    batches = list(widths)
    padded = sum(len(batch) * max(batch) for batch in batches)
    return f"{100 * (1 - sum(map(sum, batches)) / padded):.2f} % in {len(batches)} steps"


def padded() -> list[Row]:
    lengths = text_lengths(ROWS).tolist()

    def ours() -> Batches:
        return tb.StreamBatcher(
            range(ROWS), length=lengths.__getitem__, max_tokens=MAX_TOKENS, buffer=BUFFER
        )

    def widths(batches: Batches) -> list[list[int]]:
        return [[lengths[row] for row in batch] for batch in batches]

    sampler = tb.LengthBatchSampler(lengths, max_tokens=MAX_TOKENS)
    notes = [
        f"{padding(widths(ours()))}",
        f"heap {padding(widths(by_heap(lengths, MAX_TOKENS, BUFFER)))}",
        f"sorted buffer {padding(widths(by_sorted_buffer(lengths, MAX_TOKENS, BUFFER)))}",
        f"LengthBatchSampler, which knows all lengths, {padding(widths(sampler))}",
    ]
    peers: dict[str, tuple[Callable[[], Any], float | None]] = {
        "Python heap, 64 batches": (lambda: exhaust(by_heap(lengths, MAX_TOKENS, BUFFER)), None),
        "Python sorted buffer": (
            lambda: exhaust(by_sorted_buffer(lengths, MAX_TOKENS, BUFFER)),
            None,
        ),
    }
    cuts = make_cuts(lengths)
    if cuts is not None:
        for buckets in (10, 30):
            peers[f"lhotse, {buckets} buckets"] = (
                lambda buckets=buckets: exhaust(by_lhotse(cuts, MAX_TOKENS, BUFFER, buckets)),
                None,
            )
            found = padding(by_lhotse(cuts, MAX_TOKENS, BUFFER, buckets))
            notes.append(f"lhotse with {buckets} buckets {found}")
    name = f"stream of {ROWS:,} samples, padded to {MAX_TOKENS:,} tokens"
    return compare(name, lambda: exhaust(ours()), peers, "padding: " + "; ".join(notes))


def packs() -> list[Row]:
    """Packs of a pool of 1,024, beside first fit into open packs in Python."""
    lengths = text_lengths(ROWS).tolist()

    def ours() -> Batches:
        return tb.StreamBatcher(
            range(ROWS),
            length=lengths.__getitem__,
            max_tokens=MAX_TOKENS,
            padding_free=True,
            buffer=1024,
        )

    def first_fit() -> Batches:
        room, packs = [MAX_TOKENS] * 8, [list[int]() for _ in range(8)]
        for row in range(ROWS):
            length = lengths[row]
            k = next((k for k, left in enumerate(room) if left >= length), -1)
            if k < 0:
                k = room.index(min(room))
                yield packs[k]
                room[k], packs[k] = MAX_TOKENS, []
            room[k] -= length
            packs[k].append(row)
        yield from filter(None, packs)

    least = -(-sum(lengths) // MAX_TOKENS)
    note = f"{exhaust(ours())} packs, first fit {exhaust(first_fit())}, {least} at the least"
    name = f"stream of {ROWS:,} samples, packs of {MAX_TOKENS:,} tokens"
    peers = {"Python first fit, 8 open packs": (lambda: exhaust(first_fit()), None)}
    return compare(name, lambda: exhaust(ours()), peers, note)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    run([padded, packs], __doc__)
