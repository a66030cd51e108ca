"""The batches of a plan as numbers: their rows, widths and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..sampling.ranks import deal

__all__ = ["Shapes", "count_distinct", "dealt_edges", "measure", "shared_out"]

Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shapes:
    """Batches: how many rows each has, its width, and the tokens of its rows.

    A batch of rows one after another has one row as wide as all of them: `lines` tells how many
    rows of its array a batch has, [batches].
    """

    rows: Array
    lines: Array
    widths: Array
    tokens: Array

    @property
    def padded(self) -> Array:
        """Tokens of each batch, padding included."""
        return self.lines * self.widths

    @property
    def squares(self) -> float:
        """Pairs of positions that attention looks at, where each line is one sequence."""
        return float((self.lines * self.widths.astype(np.float64) ** 2).sum())

    @property
    def length_std(self) -> float:
        """The standard deviation of the mean lengths of batches."""
        rows = self.rows if self.rows.all() else np.maximum(self.rows, 1)  # none has no mean
        means = self.tokens / rows
        if len(means) == 0:
            return 0.0
        means -= means.mean()
        return float(np.sqrt(means @ means / len(means)))

    @property
    def shapes(self) -> int:
        """How many different shapes batches have."""
        widest = int(self.widths.max(initial=0)) + 1
        if int(self.lines.max(initial=0)) < 2**62 // widest:
            return count_distinct(self.lines * widest + self.widths)
        return len(np.unique(np.stack([self.lines, self.widths]), axis=1).T)

    def loads(self, ranks: int) -> Array:
        """Give the tokens of each rank at each step, [steps, ranks]: batches go to them in turn."""
        costs = np.zeros(-(-len(self.widths) // ranks) * ranks, np.int64)
        costs[: len(self.widths)] = self.padded
        return costs.reshape(-1, ranks)

    def balance(self, ranks: int) -> float:
        """Give the mean work of the ranks of a step divided by the most, over all steps."""
        if ranks == 1:
            return 1.0
        loads = self.loads(ranks).astype(np.float64)
        most = loads.max(axis=1).sum()
        return float(loads.sum() / (ranks * most)) if most else 1.0


def count_distinct(numbers: Array) -> int:
    """Count different numbers, none of them negative."""
    if int(numbers.max(initial=0)) <= max(4 * len(numbers), 2**16):
        return int(np.count_nonzero(np.bincount(numbers)))
    return len(np.unique(numbers))


def measure(
    function: str, lengths: Array, settings: dict[str, Any], begins: Array, ends: Array
) -> Shapes:
    """Measure batches that lie in `lengths` from begins[k] up to ends[k]."""
    widths, tokens = _core.measure_shapes(function, lengths, settings, begins, ends)
    rows = ends - begins
    lines = np.broadcast_to(np.int64(1), rows.shape) if settings["padding_free"] else rows
    return Shapes(rows, lines, widths, tokens)


def dealt_edges(begins: Array, ends: Array, ranks: int) -> tuple[Array, Array]:
    """Divide the batches of a plan among ranks as LengthBatchSampler does: in steps of `ranks`."""
    offsets = np.zeros(len(begins) + 1, np.int64)
    np.cumsum(ends - begins, out=offsets[1:])
    steps = deal(offsets, 0, ranks, "split")
    batch = np.searchsorted(offsets, steps.begins, side="right") - 1
    dealt = begins[batch] + steps.begins - offsets[batch]
    return dealt, dealt + steps.ends - steps.begins


def shared_out(lengths: Array, begins: Array, ends: Array, ranks: int) -> Shapes:
    """Divide the rows of each step again, by length, as LengthBatchSampler does without padding."""
    rows, tokens = [], []
    for first in range(0, len(begins), ranks):
        own = slice(first, first + ranks)
        costs = np.concatenate(
            [lengths[b:e] for b, e in zip(begins[own].tolist(), ends[own].tolist(), strict=True)]
        )
        rank_of = _core.share_rows(costs, ranks)
        rows.append(np.bincount(rank_of, minlength=ranks))
        tokens.append(np.bincount(rank_of, costs, minlength=ranks).astype(np.int64))
    counts, sums = np.concatenate(rows), np.concatenate(tokens)
    return Shapes(counts, np.ones_like(counts), sums, sums)
