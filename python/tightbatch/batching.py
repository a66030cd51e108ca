"""Which rows share a batch: rows of like length, so that little of a batch is padding."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import _core

__all__ = ["LengthBatchSampler"]

_NO_CAP = 2**63 - 1
# Batches in a window, with shuffle_window="auto": about 1.4 % of a batch of 32 is then padding
# where lengths are log-normal, while rows still meet others in every epoch.
_WINDOW_BATCHES = 100
# Rows that are made Python ints at a time, while an epoch is run through.
_ROWS_AT_ONCE = 2048

Plan = tuple[NDArray[np.int64], NDArray[np.int64]]


class LengthBatchSampler:
    """Batches of rows of like length, in a new order every epoch.

    Pass it to ``DataLoader(dataset, batch_sampler=sampler, collate_fn=...)``. It reads lengths
    only, never the rows, and yields lists of int: the indices of the rows of each batch.

    At least one cap is needed. `max_tokens` is a hard cap on what a batch costs once padded:
    its number of rows times its longest row, which is rounded up to `pad_to_multiple_of`. (A
    batch of empty rows counts as if they were of length 1.) With both caps, both hold.

    An epoch is planned in five steps:

    1. Rows are shuffled.
    2. The first `shuffle_window` of them, then the next, and so on, are sorted by length,
       longest first; rows of equal length stay in their random order.
    3. Each window is cut, from its longest row on, into full batches. A batch is full when it
       could not take one more row as long as its longest. The rows that are left of a window,
       too few for a batch, join the next window before that is sorted.
    4. What is left of the last window is the one batch that is not full: the tail.
    5. The full batches are shuffled. The tail, where there is one, comes last.

    Without `shuffle` there are no steps 1 and 5, and one window of all rows: every epoch runs
    from the longest batch to the shortest (so that a batch too big for memory fails at once),
    rows of equal length in the order of their indices.

    Every index comes exactly once an epoch, rows of length 0 too. Only `drop_last` leaves rows
    out: those of the tail, counted by `dropped`. Where `batch_size` is the only cap and rows
    are shuffled, it is chance that decides which rows (those beyond the last full batch after
    step 1); with `max_tokens`, or without shuffling, it is the shortest of the last window.

    An epoch's plan depends on lengths, settings, seed and epoch alone; it is the same on every
    machine. It is made when first needed (`len`, `dropped`, `iter`) and kept until the next.

    Parameters
    ----------
    lengths : sequence of int, ndarray, or CPU tensor, shape [rows]
        The length of each row of the data set. They are copied. No lengths make an empty
        sampler, of ``len`` 0.
    batch_size : int, optional
        The most rows in a batch.
    max_tokens : int, optional
        The most tokens in a batch, padding included.
    max_length : int, optional
        Longer rows count as this long. Give the collator the same, to cut them.
    shuffle : bool
        Whether there is a new order every epoch.
    shuffle_window : int, None or "auto"
        How many shuffled rows are sorted together. A larger window leaves less padding and
        mixes less: with None, one window of all rows, rows always meet rows of nearly their
        own length. "auto" is 100 batches, but at most a quarter of the rows (and at least one
        batch). Not used without `shuffle`.
    seed : int
        Chooses the orders, from 0 to 2**64 - 1.
    drop_last : bool
        Whether the tail is left out.
    pad_to_multiple_of : int, optional
        What the collator rounds the width up to; it counts for `max_tokens`.

    Attributes
    ----------
    batch_size : int or None
        None where `max_tokens` makes the number of rows vary, as other libraries expect it.
    max_tokens, max_length, pad_to_multiple_of : int or None
        As given.
    shuffle, drop_last : bool
        As given.
    shuffle_window : int
        Rows in a window, where "auto" and None have been resolved.
    seed : int
        As given.

    Raises
    ------
    ValueError
        When there is no cap; when a number is out of range; when a length is negative or, with
        the row and what to change, when a row alone is above `max_tokens`.
    TypeError
        When lengths are not integers in one dimension, or a setting is of the wrong kind.
    OverflowError
        When a number does not fit into 64 bits.

    Notes
    -----
    The epoch advances by itself: an iteration that has run to its end moves the sampler from
    the epoch it ran to the next, unless `set_epoch` has moved it meanwhile. One that is
    abandoned, or started again before its end, repeats its epoch. Several may run at a time.
    A DataLoader with workers asks for batches ahead of training, so that there the sampler may
    be at the next epoch, and under `max_tokens` ``len`` that epoch's, before the loop's end.

    Sorting within windows of shuffled rows is described as sequence bucketing by V. Khomenko
    et al., "Accelerating recurrent neural network training using sequence bucketing and
    multi-GPU data parallelization" (2016), https://arxiv.org/abs/1708.05604.

    Examples
    --------
    >>> import tightbatch as tb
    >>> lengths = [5, 3, 9, 2, 7, 3]
    >>> list(tb.LengthBatchSampler(lengths, batch_size=2, shuffle=False))
    [[2, 4], [0, 1], [5, 3]]
    >>> list(tb.LengthBatchSampler(lengths, max_tokens=10, shuffle=False))
    [[2], [4], [0, 1], [5, 3]]

    >>> sampler = tb.LengthBatchSampler(lengths, batch_size=2, seed=1)
    >>> first, second = list(sampler), list(sampler)
    >>> len(sampler), sampler.epoch
    (3, 2)
    >>> sampler.set_epoch(0)
    >>> list(sampler) == first
    True
    """

    batch_size: int | None
    max_tokens: int | None
    max_length: int | None
    pad_to_multiple_of: int | None
    shuffle: bool
    shuffle_window: int
    seed: int
    drop_last: bool

    def __init__(
        self,
        lengths: Any,
        *,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        max_length: int | None = None,
        shuffle: bool = True,
        shuffle_window: int | Literal["auto"] | None = "auto",
        seed: int = 0,
        drop_last: bool = False,
        pad_to_multiple_of: int | None = None,
    ) -> None:
        if batch_size is None and max_tokens is None:
            raise _error(ValueError, "pass batch_size=, max_tokens= or both")
        self._max_rows = _read_cap("batch_size", batch_size)
        self.max_tokens = _read_cap("max_tokens", max_tokens)
        self.max_length = _read_cap("max_length", max_length)
        self.pad_to_multiple_of = _read_cap("pad_to_multiple_of", pad_to_multiple_of)
        self.batch_size = self._max_rows if self.max_tokens is None else None
        self.shuffle = _read_flag("shuffle", shuffle)
        self.drop_last = _read_flag("drop_last", drop_last)
        self.seed = _read_number("seed", seed, 0, 2**64 - 1)
        if getattr(getattr(lengths, "dtype", None), "kind", "") == "b":
            raise _error(TypeError, "lengths are bools (a mask?); expected integers")
        self._lengths: NDArray[np.int64] = _core.as_lengths(lengths, "LengthBatchSampler")
        total = _core.survey_batches(
            self._lengths,
            _or_no_cap(self.max_tokens),
            _or_no_cap(self.max_length),
            self.pad_to_multiple_of or 1,
        )
        self.shuffle_window = self._resolve_window(shuffle_window, total)
        self._epoch = 0
        self._cached: tuple[int, Plan] | None = None

    def _resolve_window(self, window: Any, total: int) -> int:
        """Rows in a window; `total` is the sum of the lengths, once clipped."""
        rows = len(self._lengths)
        if window is None:
            return max(rows, 1)
        if not isinstance(window, str):
            return _read_number("shuffle_window", window, 1, _NO_CAP)
        if window != "auto":
            raise _error(ValueError, f"shuffle_window={window!r}; expected an int, None or 'auto'")
        batch = self._max_rows or _NO_CAP
        if self.max_tokens is not None:
            multiple = self.pad_to_multiple_of or 1
            mean = max(-(-total // max(rows, 1)), 1)
            batch = min(batch, max(self.max_tokens // (-(-mean // multiple) * multiple), 1))
        batches = max(min(rows // (4 * batch), _WINDOW_BATCHES), 1)
        return min(batch * batches, _NO_CAP)

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration runs."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration runs; those under way are not changed.

        Parameters
        ----------
        epoch : int
            From 0 to 2**63 - 1; a ValueError, TypeError or OverflowError otherwise.

        Examples
        --------
        >>> import tightbatch as tb
        >>> sampler = tb.LengthBatchSampler([4, 2, 3], batch_size=2)
        >>> sampler.set_epoch(5)
        >>> sampler.epoch
        5
        """
        self._epoch = _read_number("epoch", epoch, 0, _NO_CAP)

    @property
    def dropped(self) -> int:
        """How many rows the coming epoch leaves out; 0 without `drop_last`.

        Examples
        --------
        >>> import tightbatch as tb
        >>> tb.LengthBatchSampler([4, 2, 3], batch_size=2, drop_last=True).dropped
        1
        """
        return len(self._lengths) - len(self._plan()[0])

    def _plan(self) -> Plan:
        """The coming epoch: indices [rows], and offsets [batches + 1] into them."""
        epoch = self._epoch if self.shuffle else 0
        cached = self._cached
        if cached is None or cached[0] != epoch:
            plan: Plan = _core.plan_batches(
                self._lengths,
                _or_no_cap(self._max_rows),
                _or_no_cap(self.max_tokens),
                _or_no_cap(self.max_length),
                self.pad_to_multiple_of or 1,
                self.shuffle_window,
                self.shuffle,
                self.drop_last,
                self.seed,
                epoch,
            )
            self._cached = cached = (epoch, plan)
        return cached[1]

    def __len__(self) -> int:
        """Batches in the coming epoch, exactly."""
        return len(self._plan()[1]) - 1

    def __iter__(self) -> Iterator[list[int]]:
        """Run through the epoch that the sampler is at now."""
        return self._run(self._epoch, *self._plan())

    def _run(
        self, epoch: int, indices: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> Iterator[list[int]]:
        batches = len(offsets) - 1
        # Several batches a conversion, since a NumPy call costs as much as 20 rows.
        step = max(_ROWS_AT_ONCE * batches // max(len(indices), 1), 1)
        for first in range(0, batches, step):
            edges = offsets[first : first + step + 1]
            rows = indices[edges[0] : edges[-1]].tolist()
            for begin, end in pairwise((edges - edges[0]).tolist()):
                yield rows[begin:end]
        if self._epoch == epoch:
            self._epoch = min(epoch + 1, _NO_CAP)

    def __getstate__(self) -> dict[str, Any]:
        """All but the plan, which is made again where it is needed."""
        return {**self.__dict__, "_cached": None}

    def __repr__(self) -> str:
        """The settings, as one would write them."""
        settings = {
            "batch_size": self._max_rows,
            "max_tokens": self.max_tokens,
            "max_length": self.max_length,
            "shuffle": self.shuffle,
            "shuffle_window": self.shuffle_window,
            "seed": self.seed,
            "drop_last": self.drop_last,
            "pad_to_multiple_of": self.pad_to_multiple_of,
        }
        given = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        return f"<LengthBatchSampler of {len(self._lengths)} rows: {given}>"


def _error(kind: type[Exception], message: str) -> Exception:
    return kind(f"LengthBatchSampler(): {message}")


def _or_no_cap(value: int | None) -> int:
    return _NO_CAP if value is None else value


def _read_number(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool | np.bool_) or not hasattr(type(value), "__index__"):
        raise _error(TypeError, f"{name}={value!r}; expected an integer")
    number = operator.index(value)
    if number < least:
        raise _error(ValueError, f"{name}={value!r}; expected an integer of at least {least}")
    if number > most:
        raise _error(OverflowError, f"{name}={value!r}; expected at most {most}")
    return number


def _read_cap(name: str, value: Any) -> int | None:
    return None if value is None else _read_number(name, value, 1, _NO_CAP - 1)


def _read_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _error(TypeError, f"{name}={value!r}; expected a bool")
    return bool(value)
