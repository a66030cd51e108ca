"""tb.partition against verl's Karmarkar-Karp; context parallelism against an index and a gather."""

from __future__ import annotations

from harness import Row, compare, one_thread, run

one_thread()

import ast
import heapq
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tightbatch as tb

Lengths = NDArray[np.int64]


class Deal:
    """A partial partition: k sums in descending order, with their rows."""

    def __init__(self, sums: list[tuple[int, list[int]]]) -> None:
        self.sums = sorted(sums, key=lambda part: -part[0])
        self.apart = self.sums[0][0] - self.sums[-1][0]

    def __lt__(self, other: Deal) -> bool:
        return self.apart > other.apart


def by_heapq(costs: list[int], k: int, equal_size: bool) -> list[list[int]]:
    """Largest differencing in plain Python, as the paper of 1982 has it: where verl is not."""
    rows = sorted(range(len(costs)), key=costs.__getitem__)
    run_of = k if equal_size else 1
    deals = []
    for begin in range(0, len(rows), run_of):
        own = [(costs[row], [row]) for row in rows[begin : begin + run_of]]
        deals.append(Deal([*own, *(((0, []),) * (k - len(own)))]))
    heapq.heapify(deals)
    while len(deals) > 1:
        first, second = heapq.heappop(deals), heapq.heappop(deals)
        pairs = zip(first.sums, reversed(second.sums), strict=True)
        heapq.heappush(deals, Deal([(a + b, x + y) for (a, x), (b, y) in pairs]))
    return [part for _, part in deals[0].sums]


def find_peer() -> tuple[str, Any]:
    """Give verl's function as installed; its package needs ray, so the function is read alone."""
    try:
        version = importlib.metadata.version("verl")
    except importlib.metadata.PackageNotFoundError:
        return "plain Python by heapq", by_heapq
    files = importlib.metadata.files("verl") or []
    path = next(file for file in files if file.name == "seqlen_balancing.py").locate()
    tree = ast.parse(Path(str(path)).read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "karmarkar_karp")
    names: dict[str, Any] = {"heapq": heapq}
    exec(compile(ast.Module([function], []), str(path), "exec"), names)
    return f"verl {version}", names["karmarkar_karp"]


PEER, peer = find_peer()


def lognormal(rows: int) -> Lengths:
    drawn = np.random.default_rng(0).lognormal(6, 1, rows).astype(np.int64) + 1
    return np.minimum(drawn, 8192)


def divide(costs: Lengths, k: int, equal_counts: bool, goal: float | None) -> list[Row]:
    plain = costs.tolist()
    parts = tb.partition(costs, k, equal_counts=equal_counts)
    theirs = max(sum(plain[row] for row in rows) for rows in peer(plain, k, equal_counts))
    assert parts.largest <= theirs
    counts = "equal counts" if equal_counts else "any counts"
    return compare(
        f"{len(costs):,} costs into {k}, {counts}",
        lambda: tb.partition(costs, k, equal_counts=equal_counts),
        {PEER: (lambda: peer(plain, k, equal_counts), goal)},
        f"largest part {parts.largest:,}, theirs {theirs:,}, bound {parts.lower_bound:,}",
    )


def into_micro_batches() -> list[Row]:
    return divide(lognormal(8192), 256, True, 20)


def into_ranks() -> list[Row]:
    return divide(lognormal(1024), 8, True, 20) + divide(lognormal(512), 8, False, 20)


def shares_of_tokens() -> list[Row]:
    """A batch of 32 segments among 8 ranks: this rank's tokens."""
    lengths = np.full(32, 8192)
    tokens = np.arange(lengths.sum())
    shares = tb.context_parallel(lengths, 8)

    def by_numpy() -> NDArray[Any]:
        chunks = [
            np.concatenate([row[3 * 512 : 4 * 512], row[12 * 512 : 13 * 512]])
            for row in np.split(tokens, 32)
        ]
        return np.concatenate(chunks)

    assert np.array_equal(shares.shard(tokens, 3), by_numpy())
    return compare(
        "one rank's share of 262,144 tokens",
        lambda: shares.shard(tokens, 3),
        {
            "NumPy slices": (by_numpy, None),
            "a gather by index": (lambda: tokens[shares.indices(3)], None),
        },
    )


if __name__ == "__main__":
    run([into_micro_batches, into_ranks, shares_of_tokens], __doc__)
