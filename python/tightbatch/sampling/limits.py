"""Several hard caps on a batch: limits= of LengthBatchSampler and pack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core

__all__ = ["Limit"]

_MOST = 30  # limits; the core has room for these, tokens and pairs of lengths
_NO_CAP = 2**63 - 1

Array = NDArray[np.int64]


class Limit(NamedTuple):
    """A hard cap on what the rows of a batch cost together, for ``limits=``.

    A plain tuple of `costs` and `cap` does as well.

    Attributes
    ----------
    costs : sequence of int, ndarray, or CPU tensor, shape [rows]
        What each row of the data set costs: images, pixels, tokens of the decoder, or
        ``lengths**2`` for the work of attention. None is negative. For :class:`StreamBatcher` it is
        the key of a column of costs, or of rows whose length counts, or a function of the sample.
    cap : int
        The most that a batch may cost.
    padded : bool
        Whether a batch costs its rows times its most expensive row, as where pixels or the tokens
        of a decoder are padded. Otherwise it costs the sum.

    Raises
    ------
    ValueError, TypeError, OverflowError
        Where it is used: when a cost is negative or no integer, when there is not one for each row,
        or a row alone costs more than the cap (the message names the limit and the row).

    Examples
    --------
    >>> import tightbatch as tb
    >>> lengths, images = [5, 5, 4, 4], [1, 0, 1, 0]
    >>> sampler = tb.LengthBatchSampler(
    ...     lengths, max_tokens=10, limits={"images": (images, 1)}, shuffle=False
    ... )
    >>> list(sampler)
    [[0, 1], [2, 3]]
    >>> pixels = tb.Limit([40, 90, 80, 30], cap=160, padded=True)
    >>> list(tb.LengthBatchSampler(lengths, limits={"pixels": pixels}, shuffle=False))
    [[0, 2], [1], [3]]
    """

    costs: Any
    cap: int
    padded: bool = False

    def __repr__(self) -> str:
        """Show the cap, and of how many rows the costs are."""
        rows = "costs" if callable(self.costs) else repr(self.costs)
        if not isinstance(self.costs, str) and hasattr(self.costs, "__len__"):
            rows = f"costs of {len(self.costs)} rows"
        return f"Limit({rows}, cap={self.cap!r}, padded={self.padded!r})"


Limits = Mapping[str, Limit]


def read_limits(function: str, limits: Any, rows: int) -> dict[str, Limit]:
    """Read ``limits=``; errors name the function ``function``."""

    def read_costs(where: str, given: Any) -> Array:
        costs = _core.read_costs(function, where, given)
        if len(costs) != rows:
            raise ValueError(
                f"{function}(): {where} has {len(costs)} costs; expected {rows}, one for each "
                "length"
            )
        costs.flags.writeable = False
        return costs

    return read_limits_by(function, limits, read_costs)


def read_limits_by(
    function: str, limits: Any, read_costs: Callable[[str, Any], Any]
) -> dict[str, Limit]:
    """Read limits; `read_costs` reads what gives their costs."""
    if limits is None:
        return {}
    if not isinstance(limits, Mapping):
        raise TypeError(
            f"{function}(): limits={_core.describe(limits)}; expected a dict of "
            "{name: (costs, cap)}"
        )
    if len(limits) > _MOST:
        raise ValueError(f"{function}(): found {len(limits)} limits; expected at most {_MOST}")
    return {
        _read_name(function, name): _read(function, name, limits[name], read_costs)
        for name in limits
    }


def _read_name(function: str, name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{function}(): limits has the key {_core.describe(name)}; expected a str")
    return str(name)


def _read(function: str, name: str, given: Any, read_costs: Callable[[str, Any], Any]) -> Limit:
    where = f"limits[{name!r}]"
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise TypeError(
            f"{function}(): {where}={_core.describe(given)}; expected (costs, cap), or "
            "tightbatch.Limit(costs, cap, padded=True)"
        )
    costs = read_costs(where, given[0])
    cap = _core.read_int(function, f"cap of {where}", given[1], 0, _NO_CAP - 1)
    padded = len(given) == 3 and _core.read_flag(function, f"padded of {where}", given[2])
    return Limit(costs, cap, padded)


def as_settings(limits: Limits, rows: Array | None = None) -> tuple[Any, ...]:
    """Give limits as the planner takes them; `rows`: of these rows alone."""
    return tuple(
        (name, costs if rows is None else costs[rows], None, cap, padded)
        for name, (costs, cap, padded) in limits.items()
    )


def as_state(limits: Limits) -> list[list[Any]] | None:
    """Give what a state says of limits; the fingerprint of the lengths covers the costs."""
    return [[name, cap, padded] for name, (_, cap, padded) in limits.items()] or None


def fill(limits: Limits, indices: Array, offsets: Array) -> dict[str, float]:
    """Tell which part of each cap batches use, on average: 0.0 to 1.0."""
    count, used = len(offsets) - 1, {}
    for name, (costs, cap, padded) in limits.items():
        own = costs[indices]
        if count == 0 or cap == 0:
            used[name] = 1.0
        elif padded:
            most = np.maximum.reduceat(own, offsets[:-1])
            rows = np.diff(offsets).astype(np.float64)
            used[name] = float((most * rows).sum() / count / cap)
        else:
            used[name] = float(own.sum(dtype=np.float64) / count / cap)
    return used


def rows_in_batch(limits: tuple[Any, ...], most: int) -> int:
    """Give about how many rows a batch has under `as_settings` limits, and at most `most`."""
    for _, costs, others, cap, _ in limits:
        total = int(costs.sum(dtype=np.float64))
        if others is not None:
            total += int(others.sum(dtype=np.float64))
        if total:
            most = min(most, max(cap * len(costs) // total, 1))
    return most
