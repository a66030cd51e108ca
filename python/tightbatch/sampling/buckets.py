"""bucket_boundaries: the few widths with which padding rows costs least."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from .. import _core

__all__ = ["bucket_boundaries"]

Boundaries = NDArray[np.int64]


@overload
def bucket_boundaries(
    lengths: Any,
    k: int,
    *,
    pad_to_multiple_of: int | None = None,
    return_waste: Literal[False] = False,
) -> Boundaries: ...
@overload
def bucket_boundaries(
    lengths: Any, k: int, *, pad_to_multiple_of: int | None = None, return_waste: Literal[True]
) -> tuple[Boundaries, NDArray[np.int64]]: ...
@overload
def bucket_boundaries(
    lengths: Any, k: int, *, pad_to_multiple_of: int | None = None, return_waste: bool
) -> Boundaries | tuple[Boundaries, NDArray[np.int64]]: ...
def bucket_boundaries(
    lengths: Any, k: int, *, pad_to_multiple_of: int | None = None, return_waste: bool = False
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
    lengths : sequence of int, integer ndarray or CPU tensor, shape [rows]
        The length of each row of the data set, or of a sample of it. Rows longer than the longest
        of these have no boundary. Rows of length 0 count like all others. So the smallest boundary
        may be 0, the width of a batch that has only empty rows.
    k : int
        The most boundaries, at least 1.
    pad_to_multiple_of : int, optional
        All boundaries are multiples of it.
    return_waste : bool
        Also return the least padding with 1, 2, ... boundaries.

    Returns
    -------
    int64 ndarray [boundaries], or (that, int64 ndarray [boundaries])
        Ascending; the last is the longest length, rounded up to the multiple. There are `k` of
        them, or one for each different length (after rounding up) if there are fewer: each boundary
        lowers the padding. Of equally good choices it is the one with the smaller boundaries,
        compared from the last to the first.

        ``waste[i]`` is the padding, in tokens, with the best ``i + 1`` boundaries. More boundaries
        than these would not lower it below ``waste[-1]``.

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
    boundaries, waste = _core.bucket_boundaries(lengths, k, pad_to_multiple_of, return_waste)
    return boundaries if waste is None else (boundaries, waste)
