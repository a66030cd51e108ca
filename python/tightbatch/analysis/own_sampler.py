"""The batches of a user's own sampler, measured as analyze measures its plans."""

from __future__ import annotations

import contextlib
import copy
import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..sampling.sampler import LengthBatchSampler
from .plans import NAME, Plans
from .report import Strategy
from .shapes import measure

__all__ = ["caps_of", "measure_sampler", "read_sampler"]

Array = NDArray[np.int64]
SINGLE_ROWS = f"{NAME}(): sampler gives single rows; pass batch_size= too"


class Own(NamedTuple):
    """A user's own sampler: the rows of all its batches, and where each batch begins.

    `offsets` are None where it gives single rows.
    """

    sampler: Any
    indices: Array
    offsets: Array | None


def read_sampler(sampler: Any) -> Own:
    """Iterate a sampler, once."""
    if not isinstance(sampler, Iterable):
        raise TypeError(
            f"{NAME}(): sampler={_core.describe(sampler)}; expected a sampler or a batch sampler"
        )
    if hasattr(sampler, "batch_sampler") and hasattr(sampler, "collate_fn"):
        raise TypeError(
            f"{NAME}(): sampler={type(sampler).__name__}, which gives batches of data; expected "
            "its sampler: pass sampler=loader.batch_sampler"
        )
    return Own(sampler, *_read_batches(sampler))


def caps_of(own: Own) -> tuple[int | None, int | None]:
    """Give the caps of a sampler, rows and tokens: those that it has, or the rows of its batches.

    Where batches have many numbers of rows, these say nothing of a cap on rows.
    """
    sampler = own.sampler
    rows, tokens = (getattr(sampler, name, None) for name in ("batch_size", "max_tokens"))
    if rows is None and tokens is None and isinstance(sampler, LengthBatchSampler):
        rows = sampler._planner.settings["batch_size"]  # groups make batches of fewer rows too
    rows = rows if type(rows) is int and rows > 0 else None
    tokens = tokens if type(tokens) is int and tokens > 0 else None
    if rows is not None or tokens is not None:
        return rows, tokens
    if own.offsets is None:
        raise ValueError(SINGLE_ROWS)
    sizes = np.diff(own.offsets)
    most = int(sizes.max())
    if most == 0 or 2 * np.count_nonzero(sizes == most) < len(sizes):
        raise ValueError(
            f"{NAME}(): sampler gives batches of {sizes.min()} to {most} rows; pass batch_size=, "
            "max_tokens= or both, for the other ways"
        )
    return most, None


def measure_sampler(own: Own, lengths: Array, plans: Plans) -> Strategy:
    """Measure the batches of a sampler; `lengths` are those of all rows."""
    indices, offsets = own.indices, own.offsets
    if offsets is None:
        if plans.caps.batch_size is None:
            raise ValueError(SINGLE_ROWS)
        offsets = np.append(np.arange(0, len(indices), plans.caps.batch_size), len(indices))
    outside = (indices < 0) | (indices >= len(lengths))
    if outside.any():
        place = int(outside.argmax())
        raise IndexError(
            f"{NAME}(): sampler gives row {indices[place]} in batch "
            f"{int(np.searchsorted(offsets, place, side='right')) - 1}; expected 0 to "
            f"{len(lengths) - 1}, as data has {len(lengths)} rows"
        )
    settings = {**plans.settings, **_as_collated(own.sampler)}
    shapes = measure(NAME, lengths[indices], settings, offsets[:-1], offsets[1:])
    squares = float((lengths[indices].astype(np.float64) ** 2).sum())
    return plans._strategy(
        "your sampler",
        type(own.sampler).__name__,
        shapes,
        length_std=shapes.length_std,
        squares=squares if settings["padding_free"] else None,
    )


def _as_collated(sampler: Any) -> dict[str, Any]:
    """What the batches of this library's sampler are meant for."""
    if not isinstance(sampler, LengthBatchSampler):
        return {"padding_free": False}
    found: dict[str, Any] = {"padding_free": sampler.padding_free}
    if sampler.pad_to_multiple_of is not None:
        found["pad_to_multiple_of"] = sampler.pad_to_multiple_of
    if sampler.boundaries is not None:
        found["boundaries"] = np.array(sampler.boundaries, np.int64)
    return found


@contextlib.contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Leave torch's random numbers as they were: samplers draw their seeds from them."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        yield


def _read_batches(sampler: Any) -> tuple[Array, Array | None]:
    """Give the rows of all batches one after another, and where each batch begins, if any."""
    if isinstance(sampler, LengthBatchSampler):
        sampler = copy.copy(sampler)  # an iteration would move it to the next epoch
    with _same_random_numbers():
        items = iter(sampler)
        first = next(items, None)
        if first is None:
            raise ValueError(f"{NAME}(): sampler gives no batches; expected at least one")
        everything = itertools.chain([first], items)
        if not hasattr(first, "__len__") or getattr(first, "ndim", 1) == 0:
            return _as_rows(everything, "row"), None
        batches = list(everything)
    try:
        sizes = np.fromiter(map(len, batches), np.int64, len(batches))
    except TypeError:
        raise TypeError(
            f"{NAME}(): sampler gives {_core.describe(first)}; expected lists of row numbers"
        ) from None
    offsets = np.zeros(len(batches) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return _as_rows(itertools.chain.from_iterable(batches), "batch"), offsets


def _as_rows(numbers: Iterable[Any], what: str) -> Array:
    try:
        rows = np.asarray(list(numbers))
    except (TypeError, ValueError, OverflowError):
        rows = np.array([""])
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and len(rows)):
        raise TypeError(
            f"{NAME}(): sampler gives a {what} that is no row number, nor a list of them; expected "
            "a sampler or a batch sampler"
        )
    return rows.astype(np.int64)
