"""partition: a batch that is there, divided into ranks or micro-batches of about equal cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._words import counted
from .order import restore

__all__ = ["Partition", "partition"]

Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Partition:
    """The rows of each part: the result of :func:`partition`.

    Part p has the rows ``indices[offsets[p]:offsets[p + 1]]``, in ascending order. Part 0 costs
    most, and each costs at least what the next one does. So a part that does not fit into memory is
    the first.

    Attributes
    ----------
    indices : ndarray of int64, shape [rows]
        The rows of all parts, one part after another.
    offsets : ndarray of int64, shape [parts + 1]
        Where the rows of each part begin.
    costs : ndarray of int64 or float64, shape [parts]
        What each part costs: the sum of its rows.
    lower_bound : int or float
        No partition of these rows into as many parts has a most expensive part that costs less.

    Examples
    --------
    >>> import tightbatch as tb
    >>> parts = tb.partition([4, 9, 2, 3, 8], 2)
    >>> [rows.tolist() for rows in parts], parts.costs.tolist()
    ([[0, 1], [2, 3, 4]], [13, 13])
    """

    indices: Array
    offsets: Array
    costs: NDArray[Any]
    lower_bound: int | float = field(default=0)

    def __len__(self) -> int:
        """The number of parts."""
        return len(self.offsets) - 1

    def __getitem__(self, part: int) -> Array:
        """Give the rows of a part, int64 [rows]: an index for arrays and tensors."""
        part = _core.read_index("Partition", "part", part, len(self))
        return self.indices[self.offsets[part] : self.offsets[part + 1]]

    def __iter__(self) -> Iterator[Array]:
        """Give the rows of each part."""
        return (self[part] for part in range(len(self)))

    @property
    def counts(self) -> Array:
        """How many rows each part has, int64 [parts]."""
        return np.diff(self.offsets)

    @property
    def part_of(self) -> Array:
        """The part of each row, int64 [rows]."""
        parts = np.empty(len(self.indices), np.int64)
        parts[self.indices] = np.repeat(np.arange(len(self)), self.counts)
        return parts

    @property
    def inverse(self) -> Array:
        """Where each row is among the rows of all parts, int64 [rows].

        ``np.concatenate(outputs)[parts.inverse]`` has the outputs of the parts in the order of the
        rows.
        """
        places = np.empty(len(self.indices), np.int64)
        places[self.indices] = np.arange(len(self.indices))
        return places

    @property
    def largest(self) -> int | float:
        """What the most expensive part costs."""
        largest: int | float = self.costs[0].item()
        return largest

    @property
    def gap(self) -> float:
        """How far the most expensive part is above the lower bound, at most: 0.003 for 0.3 %."""
        return self.largest / self.lower_bound - 1.0 if self.lower_bound else 0.0

    def restore(self, outputs: Any) -> Any:
        """Put the outputs of all parts into the order of the rows.

        Parameters
        ----------
        outputs : list
            What was made of each part, one after another: arrays, tensors or lists with an item for
            each row, or dicts or tuples of these.

        Returns
        -------
        array, tensor or list, or dict or tuple of these
            With an item for each row, row 0 first.

        Raises
        ------
        ValueError
            When the number of outputs is not that of the rows.
        TypeError
            When an output has no item for each row.

        Examples
        --------
        >>> import numpy as np, tightbatch as tb
        >>> values = np.array([4, 9, 2, 3, 8])
        >>> parts = tb.partition(values, 2)
        >>> parts.restore([10 * values[rows] for rows in parts])
        array([40, 90, 20, 30, 80])
        """
        given = [(self.indices, self.counts)]
        return restore("Partition.restore", outputs, given, len(self.indices), None)

    def loss_weights(self, tokens: Any, *, num_items: int | None = None) -> NDArray[np.float64]:
        """Give the weight of each part's mean loss, for the gradient of the whole batch's mean.

        The mean loss of a micro-batch counts its own tokens alone. Divided by the number of
        micro-batches, as gradient accumulation often does, tokens of short micro-batches count for
        more. With ``weights[p] * mean_loss`` all tokens count the same.

        Parameters
        ----------
        tokens : sequence of int, ndarray or CPU tensor, shape [rows]
            How many tokens of each row have a label that the loss counts.
        num_items : int, optional
            The tokens of the whole step, if these rows are not all of it: the sum over all ranks,
            which transformers calls ``num_items_in_batch``. Where gradients are then averaged over
            ranks, as DDP does, multiply by their number.

        Returns
        -------
        float64 ndarray [parts]
            The share of the tokens that each part has. A part without any has the weight 0: leave
            it out, since its mean loss is NaN.

        Raises
        ------
        ValueError
            When the number of rows differs, a number is negative, there are no tokens, or
            `num_items` is less than these rows have.
        TypeError, OverflowError
            When `tokens` are not integers in one dimension, or do not fit into 64 bits.

        Examples
        --------
        >>> import tightbatch as tb
        >>> parts = tb.partition([4, 9, 2, 3, 8], 2)
        >>> parts.loss_weights([3, 5, 1, 2, 5])
        array([0.5, 0.5])
        """
        function = "Partition.loss_weights"
        given = _core.read_counts(function, "tokens", tokens)
        rows = len(self.indices)
        if len(given) != rows:
            raise ValueError(
                f"{function}(): found {counted(len(given), 'number')} of tokens, expected {rows}: "
                "one for each row"
            )
        if len(given) and given.min() < 0:
            row = int(given.argmin())
            raise ValueError(f"{function}(): tokens, row {row}: {given[row]} is negative")
        in_part = np.add.reduceat(given[self.indices].astype(np.float64), self.offsets[:-1])
        total = float(in_part.sum())
        if num_items is not None:
            num_items = _core.read_int(function, "num_items", num_items, 1, 2**63 - 1)
            if num_items < total:
                raise ValueError(
                    f"{function}(): num_items={num_items}, but these rows have {int(total)} tokens;"
                    " expected the sum over all ranks"
                )
        elif not total:
            raise ValueError(
                f"{function}(): found no tokens, so the batch has no mean loss; expected at least "
                "one, or num_items="
            )
        weights: NDArray[np.float64] = in_part / (total if num_items is None else num_items)
        return weights

    def __repr__(self) -> str:
        """Show how many parts there are, what the most expensive costs, and how good that is."""
        rows, parts = counted(len(self.indices), "row"), counted(len(self), "part")
        above = f"at most {100 * self.gap:.2g} % above" if self.gap else "exactly"
        return f"<Partition of {rows} into {parts}: largest {self.largest}, {above} the best>"


def partition(
    costs: Any,
    k: int | None = None,
    *,
    cap: float | None = None,
    equal_counts: bool = False,
    multiple_of: int | None = None,
) -> Partition:
    """Divide the rows of a batch into parts of about equal cost: for ranks, or micro-batches.

    Rows are divided by largest differencing, and then the most expensive part exchanges rows with
    the cheapest ones while that helps. `Partition.gap` tells how far the most expensive part is
    from the best there can be.

    Parameters
    ----------
    costs : sequence of int or float, ndarray or CPU tensor, shape [rows]
        What each row costs: its tokens, say, or an estimate of its time.
    k : int, optional
        The number of parts. None: as few as are found for the cap.
    cap : int or float, optional
        The most that a part may cost. It is never exceeded: with costs that are floats, to the
        rounding of their sum.
    equal_counts : bool
        Parts have equal numbers of rows. Where the rows do not divide evenly, some parts have one
        more.
    multiple_of : int, optional
        With ``k=None``: the number of parts is a multiple of it. So as many ranks, or stages of a
        pipeline, have the same number of micro-batches each.

    Returns
    -------
    Partition
        No part is empty.

    Raises
    ------
    ValueError
        When a cost is negative, NaN or infinite, or alone above the cap (the message names the
        row); when no `k` parts within the cap are found (it says for how many they are); when there
        are no rows, or fewer than `k`; when neither `k` nor `cap` is given.
    TypeError
        When costs are not integers or floats in one dimension (bools are refused), or an option has
        another type.
    OverflowError
        When the sum of integer costs does not fit into 64 bits, or that of floats is infinite.

    Notes
    -----
    N. Karmarkar and R. M. Karp, "The differencing method of set partitioning", 1982; for equal
    counts W. Michiels and others, STACS 2003. With a cap and without `equal_counts`, first fit
    decreasing steps in where differencing needs more parts. It needs at most 11/9 of the fewest
    parts there can be, and 6/9 of a part (G. Dosa, 2007). If parts are found for a cap, they are
    found for every larger `k`, up to the number of rows.

    Floats are counted in a unit of about 2**-60 of their sum, and rounded up to it.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.partition([700, 300, 512, 90, 400, 1024, 64, 350], 2)
    <Partition of 8 rows into 2 parts: largest 1724, at most 0.23 % above the best>
    >>> parts = tb.partition([700, 300, 512, 90, 400, 1024, 64, 350], cap=1024)
    >>> [rows.tolist() for rows in parts]
    [[5], [4, 6, 7], [1, 2], [0, 3]]
    """
    rows = _read_costs(costs)
    most = 2**63 - 1 if rows.dtype.kind == "i" else 1.7e308
    if isinstance(cap, (float, np.floating)) and cap > most:
        cap = most  # more than all costs
    if rows.dtype.kind == "i" and isinstance(cap, (float, np.floating)):
        cap = math.floor(_core.read_real("partition", "cap", cap, 0.0, 2.0**63))
    indices, offsets, parts, bound, shift, rounded = _core.partition(
        rows, k, cap, equal_counts, multiple_of
    )
    if rows.dtype.kind == "i":
        return Partition(indices, offsets, parts, bound)
    sums = np.ldexp(parts.astype(np.float64), -shift)
    return Partition(indices, offsets, sums, _as_float(bound - rounded, shift, rows, sums))


def _as_float(bound: int, shift: int, rows: NDArray[Any], sums: NDArray[np.float64]) -> float:
    """Give the bound of scaled costs as one of the costs, rounded down."""
    near = float(max(bound, 0))
    down = near if int(near) <= bound else math.nextafter(near, 0.0)
    return min(max(math.ldexp(down, -shift), float(rows.max())), float(sums[0]))


def _read_costs(costs: Any) -> NDArray[Any]:
    """Read costs as int64 or float64, without rounding those of lists to float32."""
    try:
        array = _core.as_array("partition", "costs", costs)
    except (ValueError, OverflowError):  # rows of different lengths
        return _core.read_counts("partition", "costs", costs)
    if array.ndim == 1 and (array.dtype.kind == "f" or array.dtype.name == "bfloat16"):
        if array.dtype.itemsize > 8:
            raise TypeError(
                f"partition(): costs has dtype {array.dtype}; expected integers, or floats up to "
                "float64"
            )
        if isinstance(costs, (list, tuple)) and not _has_floats(costs):
            return _core.read_counts("partition", "costs", costs)  # of which one is too large
        return np.ascontiguousarray(array, np.float64)
    if array.dtype == object and array.ndim == 1:
        row, found = next(
            ((row, cost) for row, cost in enumerate(array) if not _is_number(cost)), (None, None)
        )
        if row is not None:
            raise TypeError(
                f"partition(): costs, row {row}: found {_core.describe(found)}; expected a number"
            )
    return _core.read_counts("partition", "costs", costs)


def _has_floats(costs: Any) -> bool:
    """Tell whether a list has floats; NumPy took bools beside them for numbers."""
    kinds = set(map(type, costs))
    if kinds & {bool, np.bool_}:
        row = next(row for row, cost in enumerate(costs) if isinstance(cost, (bool, np.bool_)))
        raise TypeError(
            f"partition(): costs, row {row}: found {costs[row]} (bool); expected a number"
        )
    return any(issubclass(kind, (float, np.floating)) for kind in kinds)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
