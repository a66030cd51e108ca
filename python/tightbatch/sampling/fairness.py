"""Fairness: how far a plan of batches is from random batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core

__all__ = ["Fairness", "Spread"]

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Spread:
    """How batches differ from each other.

    Attributes
    ----------
    batches : int
        How many there are.
    rows_mean, rows_std : float
        Rows in a batch: the mean and the standard deviation.
    rows_min, rows_max : int
        The fewest and the most rows in a batch.
    length_std : float
        The standard deviation of the mean lengths of batches, in tokens.
    correlation : float
        Of the mean lengths of batches that follow each other, from -1 to 1; 0 where all are equal.
    padding : float
        The part of all tokens that is padding, from 0 to 1; of packs, what is not filled.
    """

    batches: int
    rows_mean: float
    rows_std: float
    rows_min: int
    rows_max: int
    length_std: float
    correlation: float
    padding: float


@dataclass(frozen=True)
class Fairness:
    """How far a plan of batches is from random batches: see ``LengthBatchSampler.fairness``.

    Attributes
    ----------
    rows : int
        Rows in the plan.
    ranks : int
        Ranks that share a step.
    plan : Spread
        Of the plan's batches, in its order.
    steps : Spread
        Of the plan's steps, each with a batch for every rank. With one rank it is that of `plan`.
    random : Spread
        Of random batches: the same rows in a random order, cut where the next one would break a
        cap. Of more than 2**20 rows, so many are drawn.
    padded : bool
        Whether batches are padded. Then rows must be of like length, and mean lengths spread wider
        than those of random batches: `random.padding` is the price of less. The order of batches
        is free all the same.

    Examples
    --------
    >>> import tightbatch as tb
    >>> lengths = [100, 20] * 500
    >>> fairness = tb.LengthBatchSampler(lengths, batch_size=4, shuffle_window=None).fairness()
    >>> round(fairness.plan.length_std), round(fairness.random.length_std)
    (40, 20)
    >>> fairness.plan.padding, round(fairness.random.padding, 1)
    (0.0, 0.4)
    >>> abs(fairness.plan.correlation) < 3 * fairness.chance
    True
    """

    rows: int
    ranks: int
    plan: Spread
    steps: Spread
    random: Spread
    padded: bool

    @property
    def chance(self) -> float:
        """The standard deviation of the correlation of neighbours that chance alone gives."""
        return float(max(self.steps.batches - 1, 1) ** -0.5)

    @property
    def forced(self) -> float:
        """How much wider mean lengths spread than those of random batches because of padding.

        In tokens. Batches without padding need no wider spread, so that it is 0 for them.
        """
        return max(self.plan.length_std - self.random.length_std, 0.0) if self.padded else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Give all numbers as dicts of int, float and bool, for JSON."""
        return {**asdict(self), "chance": self.chance, "forced": self.forced}

    def __str__(self) -> str:
        """Show the numbers beside those of random batches, and what follows from them."""
        plan, random = self.plan, self.random
        lines = [
            f"{plan.batches:,} batches of {self.rows:,} rows",
            f"{'':32}{'this plan':>18}{'random batches':>18}",
            f"{'rows in a batch':32}{_range(plan):>18}{_range(random):>18}",
            f"{'  fewest to most':32}{_ends(plan):>18}{_ends(random):>18}",
            f"{'spread of mean lengths':32}{plan.length_std:>18.1f}{random.length_std:>18.1f}",
            f"{'correlation of neighbours':32}{plan.correlation:>18.3f}{random.correlation:>18.3f}",
            f"{'padding':32}{plan.padding:>18.2%}{random.padding:>18.2%}",
        ]
        if self.ranks > 1:
            name = f"correlation of steps of {self.ranks}"
            lines.insert(-1, f"{name:32}{self.steps.correlation:>18.3f}")
        return "\n".join([*lines, *self._verdicts()])

    def _verdicts(self) -> list[str]:
        found = []
        if self.padded:
            found.append(
                f"Padding forces {self.forced:.1f} of the spread; a smaller shuffle_window forces "
                "less, and pads more."
            )
        if self.steps.correlation > 4 * self.chance:
            what = "steps" if self.ranks > 1 else "batches"
            found.append(
                f"Neighbouring {what} are alike (chance alone: {self.chance:.3f}): rows of like "
                "length follow each other."
            )
        return found


def _range(spread: Spread) -> str:
    return f"{spread.rows_mean:.1f} +- {spread.rows_std:.1f}"


def _ends(spread: Spread) -> str:
    return f"{spread.rows_min} to {spread.rows_max}"


def measure(
    function: str,
    lengths: Array,
    settings: Mapping[str, Any],
    indices: Array,
    offsets: Array,
    ranks: int,
) -> Fairness:
    """Measure a plan; `settings` are those it was planned with."""
    if settings["batch_size"] is None and settings["max_tokens"] is None:
        raise ValueError(
            f"{function}.fairness(): the batches have limits= alone; expected batch_size= or "
            "max_tokens= too: random batches are cut by these"
        )
    found = _core.measure_plan(function, lengths, {**settings}, indices, offsets, ranks)
    plan, steps, random = (Spread(*numbers) for numbers in found)
    return Fairness(len(indices), ranks, plan, steps, random, not settings["padding_free"])
