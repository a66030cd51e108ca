"""Pad rows of different lengths into one array, and take the padding away again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._types import Indices, PadOptions, Side
from .masks import attention_mask
from .ragged import Ragged

__all__ = [
    "fixed_pad_sequences",
    "pad",
    "pad_sequences_dynamic",
    "uniform_length_batching",
    "unpad",
]

Out = TypeVar("Out")


@overload
def pad(
    sequences: Iterable[Any],
    *,
    out: None = None,
    return_mask: Literal[False] = False,
    **options: Unpack[PadOptions],
) -> NDArray[Any]: ...
@overload
def pad(
    sequences: Iterable[Any],
    *,
    out: None = None,
    return_mask: Literal[True],
    **options: Unpack[PadOptions],
) -> tuple[NDArray[Any], NDArray[np.bool_]]: ...
@overload
def pad(
    sequences: Iterable[Any],
    *,
    out: Out,
    return_mask: Literal[False] = False,
    **options: Unpack[PadOptions],
) -> Out: ...
@overload
def pad(
    sequences: Iterable[Any],
    *,
    out: Out,
    return_mask: Literal[True],
    **options: Unpack[PadOptions],
) -> tuple[Out, NDArray[np.bool_]]: ...
@overload
def pad(
    sequences: Iterable[Any],
    *,
    out: Any = None,
    return_mask: bool = False,
    **options: Unpack[PadOptions],
) -> Any: ...
def pad(
    sequences: Iterable[Any],
    *,
    width: int | None = None,
    max_length: int | None = None,
    padding_value: float = 0,
    padding_side: Side = "right",
    truncation_side: Side = "right",
    pad_to_multiple_of: int | None = None,
    dtype: Any = None,
    out: Any = None,
    return_mask: bool = False,
) -> Any:
    """Pad rows of different lengths into one rectangular array.

    Parameters
    ----------
    sequences : iterable of rows
        A row is a list or tuple of numbers (or of equally long lists, nested to any depth), an
        array of one or more dimensions, a CPU torch tensor, or anything with the buffer
        protocol. A 2-D array or tensor, or an object array of rows, works too. Rows may be of
        different kinds if their element types agree.
    width : int, optional
        Positions in a row of the result; by default those of the longest row.
    max_length : int, optional
        Longer rows are cut to this many positions; what is cut off is not read. Without it nothing
        is cut.
    padding_value : number
        The number that fills the padding. The element type must hold it exactly; only a float for a
        floating type is rounded.
    padding_side, truncation_side : {"right", "left"}
        Where the padding goes, and which end of a row is cut off.
    pad_to_multiple_of : int, optional
        The width is rounded up to a multiple of it, after everything else.
    dtype : dtype, optional
        A NumPy or torch dtype. By default lists of ints give int64, lists of bools give bool, and
        lists with a float give float32; arrays and tensors keep the type that they all share.
        Floats are rounded to a narrower type while they are padded: once, to nearest, ties to even.
        "bfloat16" makes an array of ml_dtypes' type; with a tensor as ``out`` that package is not
        needed.
    out : ndarray or CPU tensor, optional
        Where to write the result: an array of exactly its shape and dtype, C-contiguous, that
        shares no memory with the rows. After an error its contents are undefined.
    return_mask : bool
        Also return a mask that is True where a row has a token.

    Returns
    -------
    ndarray of shape (batch, width, *trailing), or (ndarray, bool ndarray of (batch, width))
        ``trailing`` is the shape of one position: empty for tokens, ``(80,)`` for rows of
        shape ``(T, 80)``. Without rows the shape is ``(0, width or 0)``.

    Raises
    ------
    TypeError
        When a row is not a sequence of numbers, when rows have different element types and no
        dtype is given, or when a float is to become an integer.
    OverflowError
        When an integer is outside the range of the element type.
    ValueError
        When a row is longer than ``width`` and ``max_length`` does not cut it, when positions
        differ in shape, when the element type cannot hold a value exactly, or when a finite
        float would become infinite in it.
    RuntimeError
        When a list changes its size while it is read.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.pad([[1, 2, 3], [4]], padding_value=-1)
    array([[ 1,  2,  3],
           [ 4, -1, -1]])
    >>> tb.pad([[1, 2, 3], [4]], max_length=2, padding_side="left", return_mask=True)
    (array([[1, 2],
           [0, 4]]), array([[ True,  True],
           [False,  True]]))
    """
    return _core.pad(
        "pad",
        sequences,
        width,
        max_length,
        padding_value,
        padding_side,
        truncation_side,
        pad_to_multiple_of,
        dtype,
        out,
        return_mask,
    )


def unpad(array: Any, lengths_or_mask: Any, *, padding_side: Side = "right") -> Ragged:
    """Remove the padding: the inverse of :func:`pad`.

    Parameters
    ----------
    array : array or CPU tensor of shape (batch, width, *trailing)
        A padded batch.
    lengths_or_mask : integers of shape (batch,), or mask of shape (batch, width)
        The number of tokens in each row; or True (or not 0) at the tokens, which must be together
        at one end, with the padding on ``padding_side``.
    padding_side : {"right", "left"}
        Where the padding is.

    Returns
    -------
    Ragged
        It shares the array's memory if that is C-contiguous.

    Raises
    ------
    TypeError
        When ``lengths_or_mask`` is neither lengths nor a mask.
    ValueError
        When a length is negative or above the width, or a mask has tokens elsewhere; the message
        names the row.

    Examples
    --------
    >>> import tightbatch as tb
    >>> batch, mask = tb.pad([[1, 2, 3], [4]], return_mask=True)
    >>> tb.unpad(batch, mask).tolist()
    [[1, 2, 3], [4]]
    """
    array = _core.as_array("unpad", None, array)
    if array.ndim < 2:
        raise TypeError(
            f"unpad(): array has {array.ndim} dimensions, expected two or more: [batch, width, ...]"
        )
    _core.read_choice("unpad", "padding_side", padding_side, ("right", "left"))
    batch, width = array.shape[:2]
    given = lengths_or_mask
    if hasattr(given, "ndim") and given.ndim == 2:
        counts = _mask_lengths(_core.as_array("unpad", None, given), (batch, width), padding_side)
    else:
        counts = _core.read_lengths("unpad", "lengths_or_mask", given)
    if len(counts) != batch:
        raise ValueError(
            f"unpad(): found {len(counts)} lengths for {batch} rows; expected one for each"
        )
    if (counts > width).any():
        row = int(np.argmax(counts > width))
        raise ValueError(f"unpad(): row {row}: length {counts[row]} is more than width={width}")
    starts = np.arange(batch, dtype=np.int64) * width
    if padding_side == "left":
        starts += width - counts
    values = np.ascontiguousarray(array).reshape(batch * width, *array.shape[2:])
    return Ragged(values, starts, lengths=counts)


def _mask_lengths(
    mask: NDArray[Any], shape: tuple[int, int], padding_side: Side
) -> NDArray[np.int64]:
    """Count the tokens of each row of a mask that has them at one end."""
    if mask.shape != shape:
        raise ValueError(f"unpad(): the mask has shape {mask.shape}, expected {shape}")
    real = mask != 0
    counts: NDArray[np.int64] = real.sum(axis=1, dtype=np.int64)
    wrong = (real != attention_mask(counts, shape[1], padding_side=padding_side)).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"unpad(): row {int(np.argmax(wrong))}: the mask's tokens are not together at one "
            f"end; expected the padding on the {padding_side}"
        )
    return counts


def fixed_pad_sequences(
    sequences: Iterable[Any], max_length: int, padding_value: float = 0
) -> NDArray[Any]:
    """Pad or cut every row to ``max_length``, on the right.

    Parameters
    ----------
    sequences : iterable of rows
        As for :func:`pad`.
    max_length : int
        Positions in a row of the result.
    padding_value : number
        What fills the rest.

    Returns
    -------
    ndarray of shape (batch, max_length, *trailing)

    Raises
    ------
    TypeError, OverflowError, ValueError
        As :func:`pad`.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.fixed_pad_sequences([[1, 2, 3], [4]], 2)
    array([[1, 2],
           [4, 0]])
    """
    if max_length is None:
        raise TypeError("fixed_pad_sequences(): max_length=None; expected an integer")
    return _pad_right("fixed_pad_sequences", sequences, max_length, padding_value)


def pad_sequences_dynamic(sequences: Iterable[Any], padding_value: float = 0) -> NDArray[Any]:
    """Pad every row to the longest of them, on the right.

    Parameters
    ----------
    sequences : iterable of rows
        As for :func:`pad`.
    padding_value : number
        What fills the rest.

    Returns
    -------
    ndarray of shape (batch, longest, *trailing)

    Raises
    ------
    TypeError, OverflowError, ValueError
        As :func:`pad`.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.pad_sequences_dynamic([[1, 2, 3], [4]])
    array([[1, 2, 3],
           [4, 0, 0]])
    """
    return _pad_right("pad_sequences_dynamic", sequences, None, padding_value)


@overload
def uniform_length_batching(
    sequences: Iterable[Any],
    batch_size: int,
    padding_value: float = 0,
    *,
    return_indices: Literal[False] = False,
) -> list[NDArray[Any]]: ...
@overload
def uniform_length_batching(
    sequences: Iterable[Any],
    batch_size: int,
    padding_value: float = 0,
    *,
    return_indices: Literal[True],
) -> tuple[list[NDArray[Any]], list[Indices]]: ...
@overload
def uniform_length_batching(
    sequences: Iterable[Any],
    batch_size: int,
    padding_value: float = 0,
    *,
    return_indices: bool,
) -> Any: ...
def uniform_length_batching(
    sequences: Iterable[Any],
    batch_size: int,
    padding_value: float = 0,
    *,
    return_indices: bool = False,
) -> Any:
    """Put rows of similar length into batches, each padded to its own longest row.

    Rows are sorted by length; rows of equal length keep their order. Then they are cut into batches
    of ``batch_size``; the last batch takes the rest. ``sequences`` itself is not changed.

    Parameters
    ----------
    sequences : iterable of rows
        As for :func:`pad`.
    batch_size : int
        Rows in a batch, at least 1.
    padding_value : number
        What fills the rest.
    return_indices : bool
        Also return the indices of the rows of each batch.

    Returns
    -------
    list of ndarray of shape (batch_size, width, *trailing), or (that, list of int64 ndarray)
        The index array of a batch holds the positions of its rows in ``sequences``.

    Raises
    ------
    TypeError, OverflowError, ValueError
        As :func:`pad`, and when ``batch_size`` is not an integer of at least 1.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.uniform_length_batching([[1, 2, 3], [4], [5, 6]], 2)
    [array([[4, 0],
           [5, 6]]), array([[1, 2, 3]])]
    """
    name = "uniform_length_batching"
    return_indices = _core.read_flag(name, "return_indices", return_indices)
    batches, order = _core.uniform_length_batching(sequences, batch_size, padding_value)
    if not return_indices:
        return batches
    return batches, [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def _pad_right(
    function: str, sequences: Iterable[Any], length: int | None, padding_value: float
) -> NDArray[Any]:
    return _core.pad(  # type: ignore[no-any-return]
        function,
        sequences,
        length,
        length,
        padding_value,
        "right",
        "right",
        None,
        None,
        None,
        False,
    )
