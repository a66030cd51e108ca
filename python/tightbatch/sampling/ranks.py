"""The batches of an epoch for each rank: the same number of steps, and every row once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .plan import NO_CAP

Array = NDArray[np.int64]

# How many rows become Python ints at a time, during an epoch.
_ROWS_AT_ONCE = 2048
_BATCHES_AT_ONCE = 256


def read_ranks(function: str, num_replicas: Any, rank: Any) -> tuple[int, int]:
    """Read the number of ranks, and which of them this is: of several, one has to be named."""
    ranks = _core.read_int(function, "num_replicas", num_replicas, 1, NO_CAP)
    if rank is None and ranks > 1:
        raise ValueError(
            f"{function}(): num_replicas={ranks} without rank=; expected both, such as "
            "rank=torch.distributed.get_rank(): with one rank's batches on all of them, the rows "
            "of the others would never be read"
        )
    rank = 0 if rank is None else _core.read_int(function, "rank", rank, 0, NO_CAP)
    if rank >= ranks:
        raise ValueError(
            f"{function}(): rank={rank} of num_replicas={ranks}; expected a rank from 0 to "
            f"{ranks - 1}"
        )
    return ranks, rank


@dataclass(frozen=True)
class Steps:
    """Where batches lie in the epoch's order of rows: rank r has batch step * ranks + r."""

    begin: int
    begins: Array
    ends: Array
    ranks: int
    dropped: int
    repeated: int
    once: int  # how many of the batches lie in line; those after them begin again
    begins_as_planned: bool  # the first step is that of the epoch, and none of it was cut

    def __len__(self) -> int:
        """The number of steps, the same for every rank."""
        return len(self.begins) // self.ranks

    def end_of(self, step: int) -> int:
        """How many of the epoch's rows are handed out after `step` steps."""
        batches = min(step * self.ranks, self.once)
        return int(self.ends[batches - 1]) if batches else self.begin

    def go_on(self, begin: int) -> Steps | None:
        """Give the steps from the one that begins with row `begin`; None if there is none."""
        step = int(np.searchsorted(self.begins[: self.once : self.ranks], begin))
        batch = step * self.ranks
        if batch >= self.once or self.begins[batch] != begin:
            return None
        return replace(
            self,
            begin=begin,
            begins=self.begins[batch:],
            ends=self.ends[batch:],
            once=self.once - batch,
            begins_as_planned=False,
        )


@dataclass
class Run:
    """An iteration: its epoch, and how far it is."""

    epoch: int
    planned: int  # the number of ranks that the epoch was planned for
    rows: int  # in the epoch
    steps: Steps
    moves: int
    done: int = 0


def deal(
    offsets: Array,
    begin: int,
    ranks: int,
    uneven: str,
    *,
    steps: int = 0,
    repeats_own: bool = False,
) -> Steps:
    """Divide the rest of an epoch, from row number `begin` on, among the ranks.

    Batches go to ranks in turn. If their number is not a multiple of the number of ranks, "drop"
    leaves the last ones out, "repeat" begins again with the first ones, and "split" cuts some of
    the last ones into smaller batches, in the same order. (If there are not enough rows for that,
    it repeats too; with `repeats_own` each rank its own first batch.) They are also cut where there
    would be fewer than `steps`.
    """
    first = int(np.searchsorted(offsets, begin, side="right")) - 1
    edges = offsets[first:].copy()
    if len(edges):
        edges[0] = begin
    begins, ends = edges[:-1], edges[1:]
    dropped = repeated = 0
    if uneven == "drop":
        kept = len(begins) - len(begins) % ranks
        dropped = int(edges[-1] - edges[kept])
        begins, ends = begins[:kept], ends[:kept]
    wanted = max(steps, -(-len(begins) // ranks)) * ranks
    lacking = wanted - len(begins) if len(begins) else 0
    if lacking and (uneven == "split" or steps):
        begins, ends = _split_last(begins, ends, ranks, lacking)
    once = len(begins)
    if once and once < wanted:
        again = np.arange(once, wanted) % ranks if repeats_own else np.arange(wanted - once)
        again %= once
        repeated = int((ends[again] - begins[again]).sum())
        begins = np.concatenate([begins, begins[again]])
        ends = np.concatenate([ends, ends[again]])
    kept = begin == 0 and np.array_equal(ends[:ranks], offsets[1 : ranks + 1])
    return Steps(begin, begins, ends, ranks, dropped, repeated, once, kept)


def _split_last(begins: Array, ends: Array, ranks: int, lacking: int) -> tuple[Array, Array]:
    """Make `lacking` more batches, by cutting those of as few of the last steps as possible."""
    steps = -(-len(begins) // ranks)
    spare = ends - begins - 1
    spare_of_step = np.add.reduceat(spare, np.arange(steps) * ranks)
    enough = np.cumsum(spare_of_step[::-1]) >= lacking
    if not enough.any():
        return begins, ends
    first = (steps - 1 - int(enough.argmax())) * ranks
    counts = np.ones(len(begins) - first, np.int64)
    rows = (ends - begins)[first:]
    for _ in range(lacking):
        # The batch whose smaller batches are largest is cut into one more.
        counts[np.argmax(rows / counts * (counts < rows))] += 1
    edges = [
        begin + (end - begin) * np.arange(count + 1) // count
        for begin, end, count in zip(begins[first:], ends[first:], counts.tolist(), strict=True)
    ]
    return (
        np.concatenate([begins[:first], *(each[:-1] for each in edges)]),
        np.concatenate([ends[:first], *(each[1:] for each in edges)]),
    )


def in_line(indices: Array, begins: Array, ends: Array) -> Iterator[list[int]]:
    """Give batches that lie one after another.

    Several are converted at a time, because a NumPy call costs as much as 20 rows.
    """
    count = len(begins)
    at_once = max(_ROWS_AT_ONCE * count // max(len(indices), 1), 1)
    for first in range(0, count, at_once):
        begin, own = begins[first], ends[first : first + at_once]
        rows = indices[begin : own[-1]].tolist()
        for here, end in pairwise([0, *(own - begin).tolist()]):
            yield rows[here:end]


def dealt(indices: Array, steps: Steps, rank: int) -> Iterator[list[int]]:
    """Give the batches of one of several ranks."""
    for first in range(rank, len(steps.begins), _BATCHES_AT_ONCE * steps.ranks):
        own = slice(first, first + _BATCHES_AT_ONCE * steps.ranks, steps.ranks)
        for begin, end in zip(steps.begins[own].tolist(), steps.ends[own].tolist(), strict=True):
            yield indices[begin:end].tolist()


def shared(
    indices: Array,
    steps: Steps,
    rank: int,
    row_costs: Callable[[Array], Array],
    *,
    begins_as_planned: bool,
) -> Iterator[list[int]]:
    """Divide the rows of each step again, by cost; steps that repeat batches do not change.

    With `begins_as_planned` the first step does not change either: it has the most expensive
    batches, and no later share costs more.
    """
    begins = steps.begins.reshape(-1, steps.ranks)
    ends = steps.ends.reshape(-1, steps.ranks)
    for step, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        own = indices[begin[rank] : end[rank]]
        if not (begin[1:] != end[:-1]).any() and not (begins_as_planned and step == 0):
            rows = indices[begin[0] : end[-1]]
            costs = row_costs(rows)
            ranks = _core.share_rows(costs, steps.ranks)
            if not begins_as_planned or _lowers_most(costs, ranks, begin - begin[0]):
                own = rows[ranks == rank]
        yield own.tolist()


def _lowers_most(costs: Array, ranks: Array, begins: Array) -> bool:
    """Tell whether the dearest share costs at most what the dearest batch does."""
    shares = np.bincount(ranks, costs)
    return bool(shares.max() <= np.add.reduceat(costs.astype(np.float64), begins).max())


def handed_out(
    indices: Array, steps: Steps, batches: Callable[[int], Iterator[list[int]]]
) -> list[tuple[Array, Array]]:
    """Give, for each rank, the rows that it gets, in order, and how many each batch has."""
    if steps.ranks == 1 and steps.once == len(steps.begins):
        end = int(steps.ends[-1]) if len(steps) else steps.begin
        return [(indices[steps.begin : end], steps.ends - steps.begins)]
    given = []
    for rank in range(steps.ranks):
        own = list(batches(rank))
        rows = np.fromiter((row for batch in own for row in batch), np.int64)
        given.append((rows, np.fromiter(map(len, own), np.int64)))
    return given


def check_shared_once(function: str, ranks: int, caller: Any) -> None:
    """Refuse that accelerate shares out again what the sampler has shared out: rows would be lost.

    accelerate asks a sampler nothing before it iterates. What iterates is its wrapper.
    """
    processes = getattr(caller, "num_processes", 1)
    if type(caller).__name__ == "BatchSamplerShard" and processes > 1:
        raise ValueError(
            f"{function}(): accelerate's prepare() divides among {processes} processes what "
            f"num_replicas={ranks} has divided already, so most rows would be left out; leave "
            "num_replicas= and rank= out here, or the loader out of prepare()"
        )
