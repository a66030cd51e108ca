"""What a model is told of a batch: padding, where segments begin, what may attend to what."""

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
        Positions in a row of the mask; the largest length, if not given.
    padding_side : {"right", "left"}
        Where the padding is.
    pad_to_multiple_of : int, optional
        The width is rounded up to a multiple of it.
    dtype : dtype, optional
        bool, if not given; float32 for an additive mask.
    additive : bool
        Give what is added to attention scores: 0 at tokens, and at padding the lowest finite
        value of ``dtype``. It is never ``-inf``: a row of nothing but padding would come out of
        the softmax as NaN.

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
        The length of each row; or, as rows, the lengths of the segments of each pack, as
        :func:`segment_ids` takes them: positions begin again with each segment.
    width, padding_side, pad_to_multiple_of
        As for :func:`attention_mask`.
    flat : bool
        Number the tokens without padding, one row after another.

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
    """Add lengths up: where each sequence begins in a line of them, and where the last one ends.

    What variable-length attention kernels (FlashAttention's ``flash_attn_varlen_func``, say)
    take as ``cu_seqlens``.

    Parameters
    ----------
    lengths : sequence of int, integer array or tensor of shape (n,)
        Tokens of each sequence.

    Returns
    -------
    int32 ndarray of shape (n + 1,)
        Sequence i is at ``[i]`` to ``[i + 1]``; ``[0]`` where there are no lengths.

    Raises
    ------
    TypeError
        When a length is not an integer. A bool is none.
    ValueError
        When a length is negative; the message names the row.
    OverflowError
        When the sum is past ``2**31 - 1``, which is as far as the kernels count; the message
        names the row that takes it there.

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
    """Number the segments of packs: at every token the number of its segment, from 1.

    Parameters
    ----------
    lengths : integers of shape (segments,), or rows of integers
        The lengths of one pack's segments, in order; or of the segments of several packs: a
        list of lists, a :class:`Ragged`, a 2-D array, or any other rows that :func:`pad` takes.
        A segment of no tokens keeps its number.
    width : int, optional
        Positions in a row of the result; the longest pack, if not given.
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
        When a length is negative, or a pack longer than ``width``; the message names the row
        and, of several packs, the column.

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

    A query (second to last axis) sees the keys (last axis) of its own id. Padding, id 0, is one
    more segment, so that every query sees a key, itself at least: a row of the mask with
    nothing to see would come out of a softmax as NaN.

    Parameters
    ----------
    segment_ids : integers of shape (batch, width) or (width,)
        What :func:`segment_ids` gives, or any other integers: equal ids see each other, also
        where they come again further on.
    causal : bool
        No key after the query is seen.
    window : int, optional
        No key is seen that is ``window`` or more positions away: with ``causal`` a query sees
        ``window`` tokens, itself included, as with transformers' ``sliding_window``; without,
        as many after it as before it.
    prefix : int, or integers of shape (segments,), or rows of them, optional
        The first ``prefix`` tokens of a segment are seen by all of its queries, whatever
        ``causal`` and ``window`` say (a prefix language model). A number for all segments; or,
        with ids from 1, one for each: id k has ``prefix[k - 1]``, so that lengths and prefixes
        are lists alike; for ids of shape (batch, width) a row of them for each row. Where it is
        more than the segment has, the whole segment is meant. Padding has none.
    dtype : dtype, optional
        A NumPy or torch dtype. bool, if not given; float32 for an additive mask.
    additive : bool
        Give what is added to attention scores: 0 at keys that are seen, and at the others the
        lowest finite value of ``dtype``.
    out : ndarray or CPU tensor, optional
        Where to write: of exactly the result's shape and dtype, and C-contiguous. A mask is
        large, and new memory costs more than the mask: use one again where you can.

    Returns
    -------
    ndarray of shape (batch, width, width), or (width, width); or ``out``
        True (or 1, or 0.0 when additive) where the query sees the key. No ids give
        ``(0, 0)``, no rows of ids ``(0, 0, 0)``.

    Raises
    ------
    TypeError
        When an id is not an integer, or for ``additive`` with an integer type.
    ValueError
        When rows of ids differ in width; with ``prefix``, when an id other than 0 comes again
        after another, or when there is no number for it; or when ``out`` cannot take the mask.
        The message names row and column.

    See Also
    --------
    block_mask : which blocks of this mask there are, without making it.

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

    The four arrays are what ``BlockMask.from_kv_blocks`` takes, and equal to what torch's
    ``create_block_mask`` gives for the same rule. That evaluates the rule at every pair of
    tokens; here the blocks follow from the lengths.

    Parameters
    ----------
    lengths : integers of shape (segments,), or rows of integers
        The lengths of one pack's segments, in order, or of the segments of several packs, as
        for :func:`segment_ids`.
    block_size : int or (int, int)
        Tokens in a block; of queries and of keys, where they differ.
    causal : bool
        No key after the query is seen.
    window : int, optional
        No key is seen that is ``window`` or more positions away, as in :func:`segment_mask`.
    width : int, optional
        Tokens in every pack; the longest pack's, if not given. What a pack has more than its
        lengths add up to is one more segment.

    Returns
    -------
    kv_num_blocks : int32 ndarray of shape (packs, 1, query blocks)
        How many blocks of keys each block of queries sees in part.
    kv_indices : int32 ndarray of shape (packs, 1, query blocks, key blocks)
        Which: their numbers in order, then those of all other blocks in order.
    full_kv_num_blocks, full_kv_indices : int32 ndarrays of the same shapes
        The same of the blocks that every query sees entirely, in which the rule need not be
        evaluated. A block that reaches past ``width`` is never full.

    Raises
    ------
    TypeError
        When a length is not an integer. A bool is none.
    ValueError
        When a length is negative, a pack is longer than ``width`` (the message names the
        row), or ``block_size`` or ``window`` is below 1.
    OverflowError
        When ``width`` is past ``2**31 - 1``.

    Notes
    -----
    J. Dong et al., "Flex Attention: a programming model for generating optimized attention
    kernels" (2024), https://arxiv.org/abs/2412.05496. The same rule as a ``mask_mod``, and all
    of it together::

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
