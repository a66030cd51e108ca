"""bucket_boundaries: the few widths with which padding rows costs least."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .pair_buckets import choose_pairs, is_pairs, read_pairs

__all__ = ["bucket_boundaries", "bucket_groups"]

NAME = "bucket_boundaries"
Boundaries = NDArray[np.int64]


@overload
def bucket_boundaries(
    lengths: Any,
    k: int,
    *,
    pad_to_multiple_of: int | None = None,
    return_waste: Literal[False] = False,
    size: Literal["sum", "area"] = "sum",
) -> Boundaries: ...
@overload
def bucket_boundaries(
    lengths: Any,
    k: int,
    *,
    pad_to_multiple_of: int | None = None,
    return_waste: Literal[True],
    size: Literal["sum", "area"] = "sum",
) -> tuple[Boundaries, NDArray[np.int64]]: ...
@overload
def bucket_boundaries(
    lengths: Any,
    k: int,
    *,
    pad_to_multiple_of: int | None = None,
    return_waste: bool,
    size: Literal["sum", "area"] = "sum",
) -> Boundaries | tuple[Boundaries, NDArray[np.int64]]: ...
def bucket_boundaries(
    lengths: Any,
    k: int,
    *,
    pad_to_multiple_of: int | None = None,
    return_waste: bool = False,
    size: Literal["sum", "area"] = "sum",
) -> Boundaries | tuple[Boundaries, NDArray[np.int64]]:
    """Choose at most `k` widths to pad rows to, so that the padding is the least possible.

    Every row is padded to the smallest boundary that is at least its length. The boundaries are the
    exact optimum: no other `k` widths give fewer tokens in all, padding included. Give them to
    :class:`tightbatch.PadCollator` as ``boundaries=``. Then batches have at most `k` widths instead
    of hundreds: few enough for ``torch.compile`` without dynamic shapes, or for CUDA graphs. The
    optimum counts each row's padding to its own boundary. A batch is as wide as the boundary of its
    longest row, so batches of rows of similar length (:class:`tightbatch.LengthBatchSampler`) come
    near it.

    Parameters
    ----------
    lengths : sequence of int, integer ndarray or CPU tensor, shape [rows] or [rows, 2]
        The length of each row of the data set, or of a sample of it. Rows longer than the longest
        of these have no boundary. Rows of length 0 count like all others. So the smallest boundary
        may be 0, the width of a batch that has only empty rows. Or two lengths a row, both padded:
        height and width, source and target.
    k : int
        The most boundaries, at least 1.
    pad_to_multiple_of : int, optional
        All boundaries are multiples of it.
    return_waste : bool
        Also return the least padding with 1, 2, ... boundaries; of one length a row.
    size : {"sum", "area"}
        What a row of two padded lengths costs: their sum, or their product.

    Returns
    -------
    int64 ndarray [boundaries], or (that, int64 ndarray [boundaries])
        Ascending; the last is the longest length, rounded up to the multiple. There are `k` of
        them, or one for each different length (after rounding up) if there are fewer: each boundary
        lowers the padding. Of equally good choices it is the one with the smaller boundaries,
        compared from the last to the first.

        ``waste[i]`` is the padding, in tokens, with the best ``i + 1`` boundaries. More boundaries
        than these would not lower it below ``waste[-1]``.

        With two lengths a row: int64 [boundaries, 2], the cheapest first; a row belongs to the
        first whose bounds hold it (:func:`bucket_groups`). These are not the optimum, but near it:
        the best strips of one length, each cut into the best buckets of the other, then lowered,
        or split, while that helps. Of more than 2**16 rows, so many are drawn to choose from.

    Raises
    ------
    ValueError
        When there are no rows, a length is negative (the message names the row), or `k` or
        `pad_to_multiple_of` is below 1.
    TypeError
        When lengths are not integers in one dimension (bools are refused), or an option is not an
        integer.
    OverflowError
        When a length, or all rows times the longest, does not fit into 64 bits.

    Notes
    -----
    The method is dynamic programming over the different lengths. The cost satisfies the quadrangle
    inequality (F. F. Yao, STOC 1980; Z. Galil and K. Park, Theoretical Computer Science 92, 1992)
    and is linear in the width, so a queue of lines replaces divide and conquer (P. Brucker,
    Discrete Applied Mathematics 62, 1995). It takes O(rows + k m) time for m different lengths,
    and 4 k m bytes up to 64 MiB; beyond that it computes most layers twice and takes about
    6 sqrt(2 k) m bytes. `pad_to_multiple_of` makes m smaller.

    Examples
    --------
    >>> import tightbatch as tb
    >>> lengths = [3, 4, 4, 9, 10, 30]
    >>> tb.bucket_boundaries(lengths, 3)
    array([ 4, 10, 30])
    >>> tb.bucket_boundaries(lengths, 3, pad_to_multiple_of=8)
    array([ 8, 16, 32])
    >>> tb.bucket_boundaries(lengths, 3, return_waste=True)
    (array([ 4, 10, 30]), array([120,  20,   2]))
    """
    if is_pairs(lengths):
        if _core.read_flag(NAME, "return_waste", return_waste):
            raise ValueError(f"{NAME}(): return_waste=True with two lengths a row; expected one")
        return choose_pairs(NAME, lengths, k, pad_to_multiple_of, size)
    if _core.read_choice(NAME, "size", size, ("sum", "area")) != "sum":
        raise ValueError(f"{NAME}(): size={size!r} with one length a row; expected two")
    boundaries, waste = _core.bucket_boundaries(lengths, k, pad_to_multiple_of, return_waste)
    return boundaries if waste is None else (boundaries, waste)


def bucket_groups(lengths: Any, boundaries: Any) -> NDArray[np.int64]:
    """Give the bucket of each row, for ``LengthBatchSampler(groups=)``.

    Parameters
    ----------
    lengths : sequence of int, integer ndarray or CPU tensor, shape [rows] or [rows, 2]
        The length of each row, or its two lengths.
    boundaries : sequence of int or ndarray, shape [boundaries] or [boundaries, 2]
        As :func:`bucket_boundaries` gives them. A row belongs to the first whose bounds hold it.

    Returns
    -------
    int64 ndarray [rows]
        The number of each row's bucket in `boundaries`.

    Raises
    ------
    ValueError
        When a row is longer than all boundaries (the message names it) or a length is negative,
        when boundaries of one length do not ascend, or there are none.
    TypeError
        When lengths or boundaries are not integers.

    Examples
    --------
    Images of like shape, few shapes in all:

    >>> import tightbatch as tb
    >>> shapes = [(32, 30), (64, 20), (30, 32), (62, 24), (31, 31), (60, 22)]
    >>> bounds = tb.bucket_boundaries(shapes, 2, size="area")
    >>> bounds.tolist()
    [[32, 32], [64, 24]]
    >>> groups = tb.bucket_groups(shapes, bounds)
    >>> groups.tolist()
    [0, 1, 0, 1, 0, 1]
    >>> areas = [height * width for height, width in shapes]
    >>> list(tb.LengthBatchSampler(areas, batch_size=3, shuffle=False, groups=groups))
    [[4, 0, 2], [3, 5, 1]]
    """
    name = "bucket_groups"
    if is_pairs(lengths) or is_pairs(boundaries):
        bounds = np.stack(read_pairs(name, "boundaries", boundaries), axis=1)
        is_empty = isinstance(lengths, list | tuple) and not lengths
        pairs = np.empty((0, 2), np.int64) if is_empty else lengths
        first, second = read_pairs(name, "lengths", pairs)
        groups = _core.assign_buckets(name, first, second, bounds.ravel())
        return _check_groups(groups, groups < 0, (first, second))
    read = _core.read_lengths(name, "lengths", lengths)
    widths = _core.read_boundaries(name, None, boundaries)
    if len(read) and int(read.min()) < 0:
        row = int((read < 0).argmax())
        raise ValueError(f"{name}(): lengths, row {row}: length {read[row]} is negative")
    groups = np.searchsorted(widths, read).astype(np.int64)
    return _check_groups(groups, groups == len(widths), (read,))


def _check_groups(
    groups: NDArray[np.int64], is_outside: NDArray[np.bool_], lengths: tuple[Boundaries, ...]
) -> NDArray[np.int64]:
    if is_outside.any():
        row = int(is_outside.argmax())
        found = " and ".join(str(part[row]) for part in lengths)
        raise ValueError(
            f"bucket_groups(): lengths, row {row}: no bucket holds {found}; expected boundaries of "
            "these lengths, or longer ones"
        )
    return groups
