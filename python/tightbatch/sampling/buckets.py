"""The widths that rows are best padded to, when there may be only so many."""

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

    Every row is padded to the smallest boundary that is at least its length. The boundaries
    are the exact optimum: no other `k` have fewer tokens together, padding included. Give them to
    :class:`tightbatch.PadCollator` as ``boundaries=``, and batches have `k` widths instead of
    hundreds: few enough for ``torch.compile`` without dynamic shapes, or for CUDA graphs. What
    is counted is a row's padding to its own boundary; batches of rows of like length
    (:class:`tightbatch.LengthBatchSampler`) come near it, since a batch is as wide as the
    boundary of its longest row.

    Parameters
    ----------
    lengths : sequence of int, integer ndarray or CPU tensor, shape [rows]
        The length of each row of the data set, or of a sample of it: but rows longer than the
        longest of these have no boundary. Rows of length 0 count like all others, and so the
        smallest boundary may be 0, the width of a batch of nothing but empty rows.
    k : int
        The most boundaries, at least 1.
    pad_to_multiple_of : int, optional
        All boundaries are multiples of it.
    return_waste : bool
        Return too how little padding fewer boundaries would do with.

    Returns
    -------
    int64 ndarray [boundaries], or (that, int64 ndarray [boundaries])
        Ascending; the last is the longest length, rounded up to the multiple. There are `k`, or
        as many as there are different lengths (once rounded up) where these are fewer: each
        boundary lowers the padding. Where several choices are equally good, it is the one with
        the smaller boundaries, compared from the last to the first.

        ``waste[i]`` is the padding, in tokens, of the best ``i + 1`` boundaries; more of them
        than there are would leave it at ``waste[-1]``.

    Raises
    ------
    ValueError
        When there are no rows, a length is negative (the message names the row), or `k` or
        `pad_to_multiple_of` is below 1.
    TypeError
        When lengths are not integers in one dimension (bools are none), or an option is no
        integer.
    OverflowError
        When a length, or all rows times the longest, does not fit into 64 bits.

    Notes
    -----
    Dynamic programming over the different lengths, of which the cost is concave (it satisfies
    the quadrangle inequality: F. F. Yao, STOC 1980; Z. Galil and K. Park, Theoretical Computer
    Science 92, 1992) and linear in the width, so that a queue of lines takes the place of divide
    and conquer (P. Brucker, Discrete Applied Mathematics 62, 1995). It takes O(rows + k m) time
    and 4 k m bytes for m different lengths; `pad_to_multiple_of` makes them fewer.

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
