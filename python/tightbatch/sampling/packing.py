"""pack: rows put together into packs of one capacity, with almost no padding."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._types import Overlong
from .._words import counted
from ..plots.style import Theme, check_place
from ..ragged import Ragged
from .fairness import Fairness, measure
from .limits import Limit, Limits, as_settings, fill, read_limits
from .pack_settings import PACKING, Order
from .packed_dataset import as_dataset, read_columns, seq_lengths
from .plan import NO_CAP, lower_bound, read_pool
from .ranks import in_line
from .saved_packing import Saved
from .segments import check_numbered, fit_rows

__all__ = ["Packing", "pack", "pack_dataset"]

Array = NDArray[np.int64]
Strategy = Literal["pool", "best_fit"]


@dataclass(frozen=True, eq=False)
class Packing(Saved):
    """The segments of each pack: the result of :func:`pack`.

    A segment is a row, or a stretch of a row that was longer than the capacity and was split. Pack
    k has the segments from ``offsets[k]`` up to ``offsets[k + 1]``.

    Attributes
    ----------
    capacity : int
        The most tokens in a pack.
    max_segments : int or None
        The most segments in a pack.
    indices : ndarray of int64, shape [segments]
        The row of each segment.
    starts, lengths : ndarray of int64, shape [segments]
        Where in its row each segment begins, and the number of its tokens.
    offsets : ndarray of int64, shape [packs + 1]
        Where the segments of each pack begin in the arrays above.
    row_lengths : ndarray of int64, shape [rows]
        The lengths that were given.
    dropped : int
        Rows that were left out, with ``overlong="drop"``, because they were too long.
    truncated : int
        Tokens that were cut off such rows, with ``overlong="truncate"``.
    limits : dict of {str: Limit} or None
        As given, with costs as arrays.

    Examples
    --------
    >>> import tightbatch as tb
    >>> packing = tb.pack([5, 2, 3, 1], 6, seed=None)
    >>> list(packing)
    [[0, 3], [1, 2]]
    >>> packing.efficiency, packing.lower_bound
    (0.9166666666666666, 2)
    """

    capacity: int
    max_segments: int | None
    indices: Array
    starts: Array
    offsets: Array
    row_lengths: Array
    dropped: int = 0
    truncated: int = 0
    limits: Limits | None = None

    @cached_property
    def lengths(self) -> Array:
        """Tokens of each segment, int64 [segments]."""
        lengths: Array = np.minimum(self.row_lengths[self.indices] - self.starts, self.capacity)
        return lengths

    def __len__(self) -> int:
        """The number of packs."""
        return len(self.offsets) - 1

    def __getitem__(self, pack: int) -> list[int]:
        """Give the rows of a pack."""
        pack = _core.read_index("Packing", "pack", pack, len(self))
        found: list[int] = self.indices[self.offsets[pack] : self.offsets[pack + 1]].tolist()
        return found

    def __iter__(self) -> Iterator[list[int]]:
        """Give the rows of each pack."""
        return in_line(self.indices, self.offsets[:-1], self.offsets[1:])

    @property
    def pack_lengths(self) -> Array:
        """Tokens in each pack, int64 [packs]."""
        return np.diff(self._token_offsets())

    def _token_offsets(self) -> Array:
        """Where each pack begins among all tokens, [packs + 1]."""
        ends = np.zeros(len(self.lengths) + 1, np.int64)
        np.cumsum(self.lengths, out=ends[1:])
        return ends[self.offsets]

    @property
    def seq_lengths(self) -> Ragged:
        """The lengths of the segments of each pack, in rows of int64, as trl calls them.

        Rows without tokens are not among them: to readers of boundaries a length of 0 is a boundary
        that is there twice.
        """
        return seq_lengths(self.lengths, self.offsets)

    @property
    def efficiency(self) -> float:
        """Tokens divided by packs times capacity; 1.0 if there are no packs."""
        return float(self.lengths.sum() / (len(self) * self.capacity)) if len(self) else 1.0

    @property
    def fill(self) -> dict[str, float]:
        """The part of each cap that packs use, on average: that of ``"tokens"``, and of limits."""
        return {"tokens": self.efficiency, **fill(self.limits or {}, self.indices, self.offsets)}

    @property
    def lower_bound(self) -> int:
        """The least number of packs that any packing of these segments needs.

        The bound L2 of S. Martello and P. Toth, "Lower bounds and reduction procedures for the
        bin packing problem" (1990): for each size k, segments too long to share a pack with one of
        size k need a pack each, and the room that other long segments leave limits how many of the
        rest fit beside them. Under several limits it is the largest of their bounds.
        """
        bound = lower_bound(self.lengths, self.capacity, self.max_segments)
        for costs, cap, _ in (self.limits or {}).values():
            bound = max(bound, lower_bound(costs[self.indices], cap, None))
        return bound

    def fairness(self) -> Fairness:
        """Tell how far the packs are from random ones: segments in random order, cut at the cap.

        Examples
        --------
        >>> import tightbatch as tb
        >>> lengths = list(range(1, 101)) * 100
        >>> fair = tb.pack(lengths, 1000).fairness()
        >>> like = tb.pack(lengths, 1000, strategy="best_fit").fairness()
        >>> fair.plan.rows_std < 2 * fair.random.rows_std < like.plan.rows_std
        True
        """
        settings = {**PACKING, "batch_size": self.max_segments, "max_tokens": self.capacity}
        numbers = np.arange(len(self.lengths))
        return measure("Packing.fairness", self.lengths, settings, numbers, self.offsets, 1)

    def plot(self, ax: Any = None, *, theme: Theme = "auto") -> Any:
        """Draw how full the packs are; of at most 40 packs, their segments too.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure's otherwise.
        theme : {"auto", "light", "dark", "both"}
            As for :func:`tightbatch.plot_batch`.

        Returns
        -------
        matplotlib Figure

        Raises
        ------
        ImportError
            When matplotlib is not installed.

        Examples
        --------
        >>> import tightbatch as tb
        >>> figure = tb.pack([5, 2, 3, 1], 6, seed=None).plot()
        >>> figure.axes[0].get_title(loc="left")
        '2 packs of 6 tokens: 91.7 % full'
        """
        from ..plots.packs import plot_packs

        check_place("Packing.plot", ax, theme)
        return plot_packs(
            self.pack_lengths,
            self.capacity,
            segments=(self.lengths, self.offsets),
            lower_bound=self.lower_bound,
            ax=ax,
            theme=theme,
        )

    def apply(self, ragged: Ragged) -> Ragged:
        """Gather the tokens of the packs, in one pass: each pack becomes a row.

        Parameters
        ----------
        ragged : Ragged
            The rows whose lengths were packed. Other columns of the same lengths (labels) give
            packs that match.

        Returns
        -------
        Ragged
            A row for each pack, at most `capacity` long.

        Raises
        ------
        ValueError
            When the number of rows or their lengths differ from those that were packed.
        TypeError
            When it is not a Ragged.

        Examples
        --------
        >>> import tightbatch as tb
        >>> rows = tb.Ragged.from_sequences([[1, 2, 3], [4], [5, 6]])
        >>> tb.pack(rows.lengths, 4, seed=None).apply(rows).tolist()
        [[1, 2, 3, 4], [5, 6]]
        """
        if not isinstance(ragged, Ragged):
            found = type(ragged).__name__
            raise TypeError(
                f"Packing.apply(): ragged has type {found}; expected a Ragged, as made by "
                "Ragged.from_sequences"
            )
        rows = len(self.row_lengths)
        if len(ragged) != rows:
            raise ValueError(
                f"Packing.apply(): found {len(ragged)} rows, expected the {rows} that were packed"
            )
        row = self._first_other(ragged)
        if row is not None:
            raise ValueError(
                f"Packing.apply(): row {row} has {ragged.lengths[row]} positions, expected the "
                f"{self.row_lengths[row]} that were packed"
            )
        begins = ragged.starts[self.indices] + self.starts
        segments = ragged._with_rows(begins, self.lengths)
        tokens = _core.flatten("Packing.apply", type(ragged), None, segments, None)
        ends = self._token_offsets()
        return tokens._with_rows(ends[:-1], np.diff(ends))

    def _first_other(self, ragged: Ragged) -> int | None:
        """The first row whose length differs from the one that was packed."""
        differ = ragged.lengths != self.row_lengths
        return int(differ.argmax()) if differ.any() else None

    def __repr__(self) -> str:
        """Show the number of packs, how full they are, and what differs from the default."""
        rows, packs = counted(len(self.row_lengths), "row"), counted(len(self), "pack")
        told = [f"{100 * self.efficiency:.2f} % full"]
        for name, part in list(self.fill.items())[1:]:
            told.append(f"{name} {100 * part:.2f} %")
        for name, default in (("max_segments", None), ("dropped", 0), ("truncated", 0)):
            value = getattr(self, name)
            told += [] if value == default else [f"{name}={value}"]
        return f"<Packing of {rows} into {packs} of {self.capacity}: {', '.join(told)}>"


def pack(
    lengths: Any,
    capacity: int,
    *,
    overlong: Overlong = "error",
    max_segments: int | None = None,
    strategy: Strategy = "pool",
    pool_size: int | Literal["auto"] = "auto",
    seed: int | None = 0,
    shuffle_window: int | None = None,
    limits: Mapping[str, Limit | tuple[Any, int]] | None = None,
) -> Packing:
    """Choose which rows share a pack, so that there are few packs and they are full.

    By default packs are as random as they can be: rows are shuffled, and go into packs one after
    another. Only the last rows of a pack are chosen, from a pool of rows that is held back: the row
    that fills the pack, or the two that leave the least room. So a pack has rows of all lengths, as
    a random batch has, and packs are about as full as with best fit over all rows.

    With ``strategy="best_fit"`` each row, from the longest to the shortest, goes into the pack in
    which it leaves the least room. That never needs more than 11/9 of the least number of packs,
    plus one pack (D. S. Johnson, 1973), but most packs hold rows of one length. It is rarely fuller
    by more than 0.1 % of the capacity, and often less full than a pool. `Packing.lower_bound` tells
    how few packs there could be.

    Rows of length 0 are packed like all others.

    Parameters
    ----------
    lengths : sequence of int, ndarray, or CPU tensor, shape [rows]
        The length of each row.
    capacity : int
        The most tokens in a pack.
    overlong : {"error", "truncate", "split", "drop"}
        What to do with a row longer than the capacity: raise an error, keep its beginning, split it
        into segments of the capacity and a rest, or leave it out.
    max_segments : int, optional
        The most segments in a pack.
    strategy : {"pool", "best_fit"}
        How packs are filled.
    pool_size : int or "auto"
        Rows that are held back to fill packs. A row waits for at most as many packs. "auto" is
        8,192.
    seed : int, optional
        The seed of the random order of rows and packs, from 0 to 2**64 - 1. None: nothing is
        random. Then a pool takes the rows in the order given, so packs come in about this order;
        best fit packs the longest rows first.
    shuffle_window : int, optional
        With best fit and a seed: how many shuffled rows are packed together. None: all rows.
    limits : dict of {str: (costs, cap)}, optional
        More hard caps on a pack, each with a name and what every row costs: images, pixels,
        ``lengths**2``. Costs are added up; `tightbatch.Limit` has those that are padded. A row that
        alone breaks a limit is overlong; of "truncate" and "split" it is still an error. Best fit
        is then first fit, by the limit of which the rows need most. There are never more packs than
        that makes of all rows: a pool with more packs gives way to it. A pool looks at all of its
        rows for each that it chooses; "auto" is 256.

    Returns
    -------
    Packing

    Raises
    ------
    ValueError
        When a row is longer than the capacity and `overlong` is "error" (the message names the
        row); when a length is negative, or a number is out of range; for `pool_size` without a
        pool, and for `shuffle_window` with one or without a seed.
    TypeError, OverflowError
        When lengths are not integers in one dimension, or a number does not fit into 64 bits.

    Examples
    --------
    >>> import tightbatch as tb
    >>> packing = tb.pack([4, 9, 2, 3], 6, overlong="split", seed=None)
    >>> list(packing), packing.seq_lengths.tolist()
    ([[0, 2], [1], [1, 3]], [[4, 2], [6], [3, 3]])
    """
    order = Order(strategy, pool_size, seed, shuffle_window)
    return _pack("pack", lengths, capacity, overlong, max_segments, order, limits)


def _pack(
    function: str,
    lengths: Any,
    capacity: int,
    overlong: str,
    max_segments: int | None,
    order: Order,
    limits: Any = None,
) -> Packing:
    """Pack; errors name the function ``function``."""
    seed = order.seed
    caps = _core.read_plan_settings(
        function,
        {
            **PACKING,
            "batch_size": None,
            "max_tokens": None,
            "shuffle_window": order.shuffle_window,
            "overlong": overlong,
            "seed": 0 if seed is None else seed,
        },
    )
    window = caps["shuffle_window"]
    capacity = _core.read_int(function, "capacity", capacity, 1, NO_CAP - 1)
    if max_segments is not None:
        max_segments = _core.read_int(function, "max_segments", max_segments, 1, NO_CAP - 1)
    given: Array = _core.read_lengths(function, "lengths", lengths)
    read = read_limits(function, limits, len(given))
    sizes, rows, starts, truncated = fit_rows(function, given, capacity, caps["overlong"])
    if read and starts is not None:
        raise ValueError(
            f"{function}(): overlong='split' with limits=; expected 'error', 'truncate' or 'drop': "
            f"a segment of row {int((given > capacity).argmax())} has no cost of its own"
        )
    check_numbered(function, sizes, rows)
    _, pool_size = read_pool(
        function,
        order.strategy,
        order.pool_size,
        shuffle_window="auto" if window is None else window,
        packs=True,
        limited=bool(read),
    )
    if seed is None and window is not None:
        raise ValueError(
            f"{function}(): shuffle_window={window} without seed; expected seed= too: without it "
            "nothing is shuffled, and all rows are packed together"
        )
    settings = {
        **caps,
        "batch_size": max_segments,
        "max_tokens": capacity,
        "shuffle": seed is not None,
        "pool_size": pool_size,
        "limits": as_settings(read, rows),
    }
    chosen, offsets = _core.plan_batches(function, sizes, settings, 0)
    packing = Packing(
        capacity=capacity,
        max_segments=max_segments,
        indices=chosen if rows is None else rows[chosen],
        starts=np.zeros(len(chosen), np.int64) if starts is None else starts[chosen],
        offsets=offsets,
        row_lengths=given,
        dropped=len(given) - len(chosen) if caps["overlong"] == "drop" else 0,
        truncated=truncated,
        limits=read or None,
    )
    if read and pool_size is not None and len(packing) > 1:
        fewer = {**settings, "pool_size": None, "most_packs": len(packing) - 1}
        chosen, offsets = _core.plan_batches(function, sizes, fewer, 0)
        if len(offsets) > 1:
            indices = chosen if rows is None else rows[chosen]
            return replace(packing, indices=indices, offsets=offsets)
    return packing


def pack_dataset(
    dataset: Any,
    capacity: int,
    *,
    overlong: Overlong = "error",
    max_segments: int | None = None,
    strategy: Strategy = "pool",
    pool_size: int | Literal["auto"] = "auto",
    seed: int | None = 0,
    shuffle_window: int | None = None,
    limits: Mapping[str, Limit | tuple[Any, int]] | None = None,
) -> Any:
    """Pack the rows of a Hugging Face dataset, in a random order.

    Parameters
    ----------
    dataset : datasets.Dataset
        All of its columns (or those that ``set_format`` chose) are lists of numbers, with the same
        length in each row.
    capacity, overlong, max_segments, strategy, pool_size, seed, shuffle_window
        As for :func:`pack`.
    limits : dict of {str: (costs, cap)}, optional
        As for :func:`pack`: costs are numbers, one for each row.

    Returns
    -------
    datasets.Dataset
        A row for each pack, in memory: the same columns, and ``seq_lengths``, the lengths of the
        pack's segments. Collators use them to start positions again at each segment. Rows without
        tokens are in no pack. If rows were left out or cut, a UserWarning says how many rows and
        tokens.

    Raises
    ------
    ValueError
        As :func:`pack`; when columns differ in length (the message names the row); when there is no
        column, or one is called ``seq_lengths``.
    TypeError
        When a column does not hold lists of numbers.
    ImportError
        When datasets is not installed.

    Examples
    --------
    >>> import datasets, tightbatch as tb
    >>> rows = datasets.Dataset.from_dict({"input_ids": [[1, 2, 3], [4], [5, 6]]})
    >>> tb.pack_dataset(rows, 4, seed=None)[:]
    {'input_ids': [[1, 2, 3, 4], [5, 6]], 'seq_lengths': [[3, 1], [2]]}
    """
    columns = read_columns(dataset)
    first = next(iter(columns))
    lengths = columns[first].lengths
    order = Order(strategy, pool_size, seed, shuffle_window)
    packing = _pack("pack_dataset", lengths, capacity, overlong, max_segments, order, limits)
    for name, column in columns.items():
        row = packing._first_other(column)
        if row is not None:
            raise ValueError(
                f"pack_dataset(): row {row} has {column.lengths[row]} values in column {name!r}, "
                f"but {packing.row_lengths[row]} in {first!r}; expected equal numbers"
            )
    if packing.dropped or packing.truncated:
        warnings.warn(
            f"pack_dataset(): overlong={overlong!r} left out "
            f"{counted(packing.dropped, 'row')} and cut off "
            f"{counted(packing.truncated, 'token')} of others",
            stacklevel=2,
        )
    return as_dataset(dataset, packing, columns)
