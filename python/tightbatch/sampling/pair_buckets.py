"""Buckets of two lengths: height and width, or source and target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core

Array = NDArray[np.int64]
Size = Callable[[Any, Any], Any]

_CUTS = 32  # places, in one length, where strips may end
_ROWS = 2**16  # of which buckets are chosen; where there are more, so many are drawn
_MOST = 2**62


def is_pairs(lengths: Any) -> bool:
    """Tell whether there are two lengths a row."""
    if isinstance(lengths, list | tuple):
        return len(lengths) > 0 and (
            isinstance(lengths[0], list | tuple) or getattr(lengths[0], "ndim", 0) == 1
        )
    return getattr(lengths, "ndim", 1) == 2


def read_pairs(function: str, name: str, lengths: Any) -> tuple[Array, Array]:
    """Read two lengths a row."""
    pairs = _core.read_length_pairs(function, name, lengths)
    if pairs.ndim != 2:
        raise ValueError(
            f"{function}(): {name}: found one number a row, expected two lengths a row"
        )
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def _add(first: Any, second: Any) -> Any:
    return first + second


def _multiply(first: Any, second: Any) -> Any:
    return first * second


SIZES: dict[str, Size] = {"sum": _add, "area": _multiply}


def choose_pairs(function: str, lengths: Any, k: int, multiple: Any, size_name: Any) -> Array:
    """Choose at most `k` pairs of bounds, [buckets, 2], the cheapest first."""
    k = _core.read_int(function, "k", k, 1, _MOST)
    if multiple is not None:
        multiple = _core.read_int(function, "pad_to_multiple_of", multiple, 1, _MOST)
    size = SIZES[_core.read_choice(function, "size", size_name, tuple(SIZES))]
    first, second = read_pairs(function, "lengths", lengths)
    rows = len(first)
    if rows == 0:
        raise ValueError(f"{function}(): found no rows in lengths; expected at least one")
    step = multiple or 1
    most = [-(-int(part.max()) // step) * step for part in (first, second)]
    if max(size(*most), *most) * rows >= _MOST:
        raise OverflowError(
            f"{function}(): {rows} rows, all of the longest lengths, {most[0]} and {most[1]}, are "
            "more than int64 can count"
        )
    if step > 1:
        first, second = (-(-part // step) * step for part in (first, second))
    some = (first, second)
    if rows > _ROWS:
        drawn = np.random.default_rng(0).integers(0, rows, _ROWS)
        some = (first[drawn], second[drawn])
    chosen = min((_improve(some, bounds, k, size) for bounds in _begin(some, k, size)), key=_cost)
    bounds = chosen[1]
    bounds[-1] = np.maximum(bounds[-1], most)  # rows that were not drawn
    return _shrink((first, second), bounds, size)[1]


def _cost(found: tuple[int, Array]) -> int:
    return found[0]


def _begin(pair: tuple[Array, Array], k: int, size: Size) -> list[Array]:
    """Some choices to begin with: strips of either length, and one bucket to be split."""
    first, second = pair
    whole = np.array([[first.max(), second.max()]], np.int64)
    if k == 1:
        return [whole]
    other = _choose_strips(second, first, k, lambda a, b: size(b, a))
    return [_choose_strips(first, second, k, size), other[:, ::-1].copy(), whole]


def _choose_strips(across: Array, along: Array, k: int, size: Size) -> Array:
    """The best strips of one length, each cut into the best buckets of the other.

    Dynamic programming over where strips end, of few such places, and over how many buckets each
    has; those of a strip are exact (`bucket_boundaries`).
    """
    order = np.argsort(across, kind="stable")
    across, along = across[order], along[order]
    edges, _ = _core.bucket_boundaries(across, _CUTS, None, False)
    ends = np.concatenate([[0], np.searchsorted(across, edges, side="right")])
    # best[j][q]: the least cost of the strips up to edge j in q buckets; from: strip, its buckets
    best = np.full((len(ends), k + 1), _MOST, np.int64)
    cuts = np.zeros((len(ends), k + 1, 2), np.int64)
    best[0, 0] = 0
    for j in range(1, len(ends)):
        for i in range(j):
            strip = along[ends[i] : ends[j]]
            waste = _core.bucket_boundaries(strip, k, None, True)[1]
            if waste is None:
                continue
            costs = _strip_costs(edges[j - 1], len(strip), int(strip.sum()) + waste, size)
            for q, cost in enumerate(costs.tolist(), start=1):
                reached = best[i, : k + 1 - q] + cost
                better = reached < best[j, q:]
                best[j, q:][better] = reached[better]
                cuts[j, q:][better] = (i, q)
    j, q, bounds = len(ends) - 1, int(best[-1].argmin()), []
    while j:
        i, own = cuts[j, q].tolist()
        along_bounds, _ = _core.bucket_boundaries(along[ends[i] : ends[j]], own, None, False)
        bounds += [(int(edges[j - 1]), bound) for bound in along_bounds.tolist()]
        j, q = i, q - own
    return np.array(bounds, np.int64)


def _strip_costs(bound: Any, rows: int, padded: Array, size: Size) -> Array:
    """What a strip costs: sums of both lengths, or the bound times the other length."""
    costs: Array = size(bound * rows if size(1, 1) == 2 else bound, padded)
    return costs


def _shrink(pair: tuple[Array, Array], bounds: Array, size: Size) -> tuple[int, Array]:
    """Lower the bounds to the longest of the rows that are in each bucket; the cost then."""
    bounds = bounds[np.argsort(size(bounds[:, 0], bounds[:, 1]), kind="stable")]
    buckets = _core.assign_buckets("bucket_boundaries", *pair, np.ascontiguousarray(bounds).ravel())
    counts = np.bincount(buckets, minlength=len(bounds))
    lowered = np.zeros_like(bounds)
    for column, lengths in enumerate(pair):
        np.maximum.at(lowered[:, column], buckets, lengths)
    lowered, counts = lowered[counts > 0], counts[counts > 0]
    costs = size(lowered[:, 0], lowered[:, 1])
    order = np.lexsort((lowered[:, 1], lowered[:, 0], costs))
    return int((costs * counts).sum()), lowered[order]


def _improve(pair: tuple[Array, Array], bounds: Array, k: int, size: Size) -> tuple[int, Array]:
    """Give rows to the cheapest bucket that holds them; lower or split buckets while it helps."""
    cost, bounds = _shrink(pair, bounds, size)
    while True:
        tried = _split(pair, bounds, size) if len(bounds) < k else bounds
        found, tried = _shrink(pair, tried, size)
        if found >= cost:
            return cost, bounds
        cost, bounds = found, tried


def _split(pair: tuple[Array, Array], bounds: Array, size: Size) -> Array:
    """Cut the bucket in two for which that saves most."""
    buckets = _core.assign_buckets("bucket_boundaries", *pair, np.ascontiguousarray(bounds).ravel())
    order = np.argsort(buckets, kind="stable")
    ends = np.cumsum(np.bincount(buckets, minlength=len(bounds)))[:-1]
    parts = [np.split(lengths[order], ends) for lengths in pair]
    most, added = 0, None
    for bucket, bound in enumerate(bounds.tolist()):
        for column in range(2):
            own = parts[column][bucket]
            if len(own) < 2:
                continue
            cuts, waste = _core.bucket_boundaries(own, 2, None, True)
            if waste is None or len(cuts) < 2:
                continue
            smaller = list(bound)
            smaller[column] = int(cuts[0])
            saved = int((own <= cuts[0]).sum()) * int(size(*bound) - size(*smaller))
            if saved > most:
                most, added = saved, smaller
    return bounds if added is None else np.concatenate([bounds, np.array([added], np.int64)])
