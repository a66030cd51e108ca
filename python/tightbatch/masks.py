"""Masks, positions and boundaries: what a model has to know about the rows of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._types import Side

__all__ = [
    "attention_mask",
    "block_mask",
    "cu_seqlens",
    "position_ids",
    "segment_ids",
    "segment_mask",
]


def attention_mask(
    lengths: Any,
    width: int | None = None,
    *,
    padding_side: Side = "right",
    pad_to_multiple_of: int | None = None,
    dtype: Any = None,
    additive: bool = False,
) -> NDArray[Any]:
    """Build the mask that makes a model ignore padding.

    Parameters
    ----------
    lengths : sequence of int, integer array or tensor of shape (batch,)
        Tokens in each row.
    width : int, optional
        Positions in a row of the mask; by default the largest length.
    padding_side : {"right", "left"}
        Where the padding is.
    pad_to_multiple_of : int, optional
        The width is rounded up to a multiple of it.
    dtype : dtype, optional
        bool, if not given; float32 for an additive mask.
    additive : bool
        Give numbers to add to attention scores: 0 at tokens, at padding a quarter of the lowest
        value of ``dtype`` (-16376 for float16). The sum of a score and of two such masks is still
        finite: with ``-inf``, softmax would turn a row of only padding into NaN. See Notes.

    Returns
    -------
    ndarray of shape (batch, width)
        True (or 1, or 0.0 when additive) at tokens.

    Raises
    ------
    TypeError
        When a length is not an integer, or for ``additive`` with an integer type.
    ValueError
        When a length is negative or above ``width``.

    Notes
    -----
    In float16 the sum of a score and of one or two additive masks is finite for scores from -32752
    on. Masked positions get a weight of exactly 0 where the scores of a row differ by less than
    16,000; bfloat16, float32 and float64 leave far more room. In a row that is masked everywhere
    all positions keep their order and get finite weights.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.attention_mask([2, 0, 3], dtype="int64")
    array([[1, 1, 0],
           [0, 0, 0],
           [1, 1, 1]])
    """
    return _core.attention_mask(lengths, width, padding_side, pad_to_multiple_of, dtype, additive)


def position_ids(
    lengths: Any,
    width: int | None = None,
    *,
    padding_side: Side = "right",
    pad_to_multiple_of: int | None = None,
    flat: bool = False,
) -> NDArray[np.int64]:
    """Number the tokens of each row, or of each segment of a pack, from 0.

    Parameters
    ----------
    lengths : integers of shape (batch,), or rows of integers
        The length of each row. Or, as rows, the lengths of the segments of each pack, as for
        :func:`segment_ids`: then positions start again at each segment.
    width, padding_side, pad_to_multiple_of
        As for :func:`attention_mask`.
    flat : bool
        Give one row without padding: the positions of all rows, one row after another.

    Returns
    -------
    int64 ndarray of shape (batch, width), or (sum of lengths,) when flat
        Padding has position 0.

    Raises
    ------
    TypeError, ValueError
        As :func:`attention_mask`.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.position_ids([3, 1], padding_side="left")
    array([[0, 1, 2],
           [0, 0, 0]])
    >>> tb.position_ids([3, 1], flat=True)
    array([0, 1, 2, 0])
    >>> tb.position_ids([[3, 1], [4]])
    array([[0, 1, 2, 0],
           [0, 1, 2, 3]])
    """
    return _core.position_ids(lengths, width, padding_side, pad_to_multiple_of, flat)


def cu_seqlens(lengths: Any) -> NDArray[np.int32]:
    """Give the boundaries of segments that lie one after another: the running sum of lengths.

    Attention kernels for variable lengths, such as FlashAttention's ``flash_attn_varlen_func``,
    take them as ``cu_seqlens``.

    Parameters
    ----------
    lengths : sequence of int, integer array or tensor of shape (n,)
        Tokens of each segment.

    Returns
    -------
    int32 ndarray of shape (n + 1,)
        Segment i has the tokens from ``[i]`` up to ``[i + 1]``. Without lengths it is ``[0]``.

    Raises
    ------
    TypeError
        When a length is not an integer. A bool is none.
    ValueError
        When a length is negative; the message names the row.
    OverflowError
        When the sum is more than ``2**31 - 1``, the most that the kernels can count; the message
        names the row where that happens.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.cu_seqlens([3, 0, 2])
    array([0, 3, 3, 5], dtype=int32)
    """
    return _core.cu_seqlens(lengths)


def segment_ids(
    lengths: Any,
    width: int | None = None,
    *,
    padding_side: Side = "right",
    pad_to_multiple_of: int | None = None,
) -> NDArray[np.int64]:
    """Give the number of its segment to every token of a pack, from 1.

    Parameters
    ----------
    lengths : integers of shape (segments,), or rows of integers
        The lengths of one pack's segments, in order. Or those of several packs: a list of lists, a
        :class:`Ragged`, a 2-D array, or any other rows that :func:`pad` takes. A segment without
        tokens keeps its number.
    width : int, optional
        Positions in a row of the result; by default the length of the longest pack.
    padding_side : {"right", "left"}
        Where the padding is.
    pad_to_multiple_of : int, optional
        The width is rounded up to a multiple of it.

    Returns
    -------
    int64 ndarray of shape (width,), or (packs, width) for rows
        0 at padding.

    Raises
    ------
    TypeError
        When a length is not an integer. A bool is none.
    ValueError
        When a length is negative, or a pack is longer than ``width``; the message names the row
        and, if there are several packs, the column.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.segment_ids([3, 0, 2], 7)
    array([1, 1, 1, 3, 3, 0, 0])
    >>> tb.segment_ids([[1, 2], [4]])
    array([[1, 2, 2, 0],
           [1, 1, 1, 1]])
    """
    return _core.segment_ids(lengths, width, padding_side, pad_to_multiple_of)


def segment_mask(
    segment_ids: Any,
    *,
    causal: bool = False,
    window: int | None = None,
    prefix: Any = None,
    dtype: Any = None,
    additive: bool = False,
    out: Any = None,
) -> Any:
    """Build the attention mask that keeps the segments of a pack apart.

    A query (second to last axis) sees the keys (last axis) with its own id. Padding, id 0, is one
    more segment. So every query sees at least itself: softmax would turn a row of the mask that
    sees nothing into NaN.

    Parameters
    ----------
    segment_ids : integers of shape (batch, width) or (width,)
        The result of :func:`segment_ids`, or any other integers. Equal ids see each other, even
        with other ids between them.
    causal : bool
        Keys after the query are not seen.
    window : int, optional
        Keys that are ``window`` or more positions away are not seen. With ``causal`` a query sees
        ``window`` tokens, itself included, as with transformers' ``sliding_window``. Without, it
        sees as many after it as before it.
    prefix : int, or integers of shape (segments,), or rows of them, optional
        All queries of a segment see its first ``prefix`` tokens, even against ``causal`` and
        ``window`` (a prefix language model). One number is for all segments. Or give one for each
        segment: id k, from 1, has ``prefix[k - 1]``, in the same order as the lengths; for ids of
        shape (batch, width), give a row of numbers for each row of ids. A number larger than the
        segment means the whole segment. Padding has no prefix.
    dtype : dtype, optional
        A NumPy or torch dtype. bool, if not given; float32 for an additive mask.
    additive : bool
        Give numbers to add to attention scores: 0 at keys that are seen, a quarter of the lowest
        value of ``dtype`` at the others, as in :func:`attention_mask`.
    out : ndarray or CPU tensor, optional
        Where to write the mask: an array of exactly the result's shape and dtype, C-contiguous. A
        mask is large, and new memory costs more time than the mask itself, so reuse one if you can.

    Returns
    -------
    ndarray of shape (batch, width, width), or (width, width); or ``out``
        True (or 1, or 0.0 when additive) where the query sees the key. Without ids the shape is
        ``(0, 0)``, without rows of ids ``(0, 0, 0)``.

    Raises
    ------
    TypeError
        When an id is not an integer, or for ``additive`` with an integer type.
    ValueError
        When rows of ids differ in width; with ``prefix``, when the tokens of an id other than 0 are
        not next to each other, or there is no number for the id; or when ``out`` cannot take the
        mask. The message names row and column.

    See Also
    --------
    block_mask : the blocks of this mask, without the mask itself.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.segment_mask([1, 1, 2, 2, 0], causal=True, dtype="int8")
    array([[1, 0, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [0, 0, 1, 0, 0],
           [0, 0, 1, 1, 0],
           [0, 0, 0, 0, 1]], dtype=int8)
    >>> tb.segment_mask([1, 1, 1, 1], causal=True, prefix=2, dtype="int8")
    array([[1, 1, 0, 0],
           [1, 1, 0, 0],
           [1, 1, 1, 0],
           [1, 1, 1, 1]], dtype=int8)
    """
    return _core.segment_mask(segment_ids, causal, window, prefix, dtype, additive, out)


def block_mask(
    lengths: Any,
    *,
    block_size: int | tuple[int, int] = 128,
    causal: bool = True,
    window: int | None = None,
    width: int | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Find the blocks that FlexAttention has to compute for packed segments.

    ``BlockMask.from_kv_blocks`` takes the four arrays. They are equal to those that torch's
    ``create_block_mask`` makes for the same rule. torch evaluates the rule for every pair of
    tokens; here the blocks are computed from the lengths.

    Parameters
    ----------
    lengths : integers of shape (segments,), or rows of integers
        The lengths of one pack's segments, in order, or those of several packs, as for
        :func:`segment_ids`.
    block_size : int or (int, int)
        Tokens in a block; two numbers if blocks of queries and of keys differ.
    causal : bool
        Keys after the query are not seen.
    window : int, optional
        Keys that are ``window`` or more positions away are not seen, as in :func:`segment_mask`.
    width : int, optional
        Tokens in every pack; by default those of the longest pack. If the lengths of a pack add up
        to less, the rest is one more segment.

    Returns
    -------
    kv_num_blocks : int32 ndarray of shape (packs, 1, query blocks)
        How many blocks of keys each block of queries sees partly.
    kv_indices : int32 ndarray of shape (packs, 1, query blocks, key blocks)
        The numbers of these blocks in order, then those of all other blocks in order.
    full_kv_num_blocks, full_kv_indices : int32 ndarrays of the same shapes
        The same for the blocks that every query sees completely, where the rule need not be
        evaluated. A block that goes beyond ``width`` is never full.

    Raises
    ------
    TypeError
        When a length is not an integer. A bool is none.
    ValueError
        When a length is negative, a pack is longer than ``width`` (the message names the
        row), or ``block_size`` or ``window`` is below 1.
    OverflowError
        When ``width`` is more than ``2**31 - 1``.

    Notes
    -----
    J. Dong et al., "Flex Attention: a programming model for generating optimized attention
    kernels" (2024), https://arxiv.org/abs/2412.05496. This is the same rule as a ``mask_mod``, with
    all that is needed::

        ids = torch.from_numpy(tb.segment_ids(lengths, width))

        def mask_mod(b, h, q, kv):
            return (ids[q] == ids[kv]) & (q >= kv)

        blocks = map(torch.from_numpy, tb.block_mask(lengths, width=width))
        mask = BlockMask.from_kv_blocks(
            *blocks, mask_mod=mask_mod, seq_lengths=(width, width)
        )

    Examples
    --------
    >>> import tightbatch as tb
    >>> counts, numbers, full_counts, full_numbers = tb.block_mask([5, 3], block_size=2)
    >>> counts[0, 0], full_counts[0, 0]
    (array([1, 1, 3, 2], dtype=int32), array([0, 1, 0, 0], dtype=int32))
    >>> numbers[0, 0]
    array([[0, 1, 2, 3],
           [1, 0, 2, 3],
           [0, 1, 2, 3],
           [2, 3, 0, 1]], dtype=int32)
    """
    query_size: Any = block_size
    key_size: Any = block_size
    if isinstance(block_size, (tuple, list)):
        if len(block_size) != 2:
            raise ValueError(
                f"block_mask(): block_size={_core.show(block_size)}; expected one integer, or one "
                "for queries and one for keys"
            )
        query_size, key_size = block_size
    return _core.block_mask(lengths, query_size, key_size, causal, window, width)
