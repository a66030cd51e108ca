"""Conversion to half precision and back, with counts of the numbers that it changed."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np

from .._core import to_bfloat16 as _to_bfloat16
from .._core import to_float16 as _to_float16
from .._core import to_float32 as _to_float32
from .._types import Overflow

__all__ = ["ConversionCounts", "to_bfloat16", "to_float16", "to_float32"]

Index = tuple[int, ...]


@dataclass(frozen=True)
class ConversionCounts:
    """Counts of what happened to the numbers of one conversion.

    Attributes
    ----------
    size : int
        All numbers.
    overflowed : int
        Finite numbers beyond the largest of the new type.
    flushed : int
        Numbers other than zero that became zero.
    subnormal : int
        Numbers so close to zero that they have fewer digits than the type's other numbers.
    exact : int
        Numbers that kept their value.
    nan, infinite : int
        Numbers that were NaN or infinite before.
    first_overflowed, first_flushed, first_nan, first_infinite : tuple of int or None
        The index of the first of each kind.

    Examples
    --------
    >>> import numpy as np, tightbatch as tb
    >>> counts = tb.to_float16(np.float32([1, 1e-9, 1e9]), overflow="inf", return_counts=True)[1]
    >>> counts.overflowed, counts.first_overflowed, counts.flushed, counts.exact
    (1, (2,), 1, 1)
    """

    size: int
    overflowed: int
    flushed: int
    subnormal: int
    exact: int
    nan: int
    infinite: int
    first_overflowed: Index | None
    first_flushed: Index | None
    first_nan: Index | None
    first_infinite: Index | None


@overload
def to_float16(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: Literal[False] = False
) -> Any: ...
@overload
def to_float16(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: Literal[True]
) -> tuple[Any, ConversionCounts]: ...
@overload
def to_float16(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: bool
) -> Any: ...
def to_float16(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: bool = False
) -> Any:
    """Convert floats to float16.

    Numbers are rounded once, to nearest, ties to even; float64 does not go through float32.
    Subnormal numbers are exact; NaN keeps its sign and the top of its payload, and becomes quiet.
    The bits are the same on every processor and under every floating-point mode (rounding mode,
    flush to zero).

    Parameters
    ----------
    x : ndarray, CPU tensor or buffer
        float64, float32, float16 or bfloat16 (ml_dtypes' in an array), of any shape, stride, byte
        order and alignment. Numbers that have the type already are copied.
    overflow : {"warn", "inf", "saturate", "error"}
        What happens to finite numbers of 65520 or more. "warn": they become infinity, with a
        RuntimeWarning that says how many, and where the first is. "inf": they become infinity.
        "saturate": they become 65504, the largest number, with their sign. "error": a ValueError.
    out : ndarray or CPU tensor, optional
        Where to write the result: an array of x's shape and the new type, C-contiguous, that shares
        no memory with x. autograd does not record the writing to a tensor.
    return_counts : bool
        Also return the counts.

    Returns
    -------
    ndarray or tensor
        C-contiguous. It is `out` if that was given, or a tensor without a gradient if x is one.
    ConversionCounts
        With `return_counts`.

    Raises
    ------
    TypeError
        When x is not an array, a CPU tensor or a buffer, or has another type; when it is a tensor
        that requires a gradient, unless under ``torch.no_grad()`` or ``torch.inference_mode()``.
    ValueError
        When `overflow` is "error" and a number overflows (the message names the first, and `out`
        does not change); when `out` has another shape or type, is read-only, is not contiguous, or
        shares memory with x; when `overflow` is not one of the four.

    Notes
    -----
    float16 is binary16 of IEEE 754-2019. The results equal those of NumPy's ``astype``, except for
    NaN, which can stay signalling there, and those of torch's ``half``, except for float64, which
    torch rounds twice.

    Examples
    --------
    >>> import numpy as np, tightbatch as tb
    >>> tb.to_float16(np.array([1 / 3, 65519.0, 70000.0]), overflow="saturate").tolist()
    [0.333251953125, 65504.0, 65504.0]
    """
    _refuse_grad("to_float16", x)
    found = _to_float16(x, overflow, out, return_counts)
    return _told("to_float16", "float16", overflow, *found) if type(found) is tuple else found


@overload
def to_bfloat16(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: Literal[False] = False
) -> Any: ...
@overload
def to_bfloat16(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: Literal[True]
) -> tuple[Any, ConversionCounts]: ...
@overload
def to_bfloat16(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: bool
) -> Any: ...
def to_bfloat16(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: bool = False
) -> Any:
    """Convert floats to bfloat16: float32's range with 8 significant bits.

    Parameters
    ----------
    x, overflow, out, return_counts
        As for :func:`to_float16`. Finite numbers of 2**128 - 2**119 or more overflow, to infinity
        or to (2 - 2**-7) * 2**127.

    Returns
    -------
    ndarray or tensor
        As for :func:`to_float16`; arrays have the type bfloat16 of ml_dtypes.
    ConversionCounts
        With `return_counts`.

    Raises
    ------
    TypeError
        As :func:`to_float16`; and when the result is an array and ml_dtypes is not installed.
    ValueError
        As :func:`to_float16`.

    Notes
    -----
    The results equal those of ml_dtypes and torch, except for NaN, whose bits differ between
    torch's own code paths, and for float64, which both round twice.

    Examples
    --------
    >>> import numpy as np, tightbatch as tb
    >>> tb.to_bfloat16(np.float32([1 / 3, 70000])).astype(float).tolist()
    [0.333984375, 70144.0]
    """
    _refuse_grad("to_bfloat16", x)
    found = _to_bfloat16(x, overflow, out, return_counts)
    return _told("to_bfloat16", "bfloat16", overflow, *found) if type(found) is tuple else found


@overload
def to_float32(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: Literal[False] = False
) -> Any: ...
@overload
def to_float32(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: Literal[True]
) -> tuple[Any, ConversionCounts]: ...
@overload
def to_float32(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: bool
) -> Any: ...
def to_float32(
    x: Any, *, overflow: Overflow = "warn", out: Any = None, return_counts: bool = False
) -> Any:
    """Convert floats to float32: exactly from both half types, rounded once from float64.

    Parameters
    ----------
    x, overflow, out, return_counts
        As for :func:`to_float16`. Only float64 can overflow.

    Returns
    -------
    ndarray or tensor
        As for :func:`to_float16`.
    ConversionCounts
        With `return_counts`.

    Raises
    ------
    TypeError, ValueError
        As :func:`to_float16`.

    Examples
    --------
    >>> import numpy as np, tightbatch as tb
    >>> tb.to_float32(np.float16([0.1, np.inf])).tolist()
    [0.0999755859375, inf]
    """
    _refuse_grad("to_float32", x)
    found = _to_float32(x, overflow, out, return_counts)
    return _told("to_float32", "float32", overflow, *found) if type(found) is tuple else found


def _refuse_grad(function: str, x: Any) -> None:
    """Refuse a tensor whose gradient a copy would lose; torch.no_grad() says that it is meant."""
    if getattr(x, "requires_grad", False) is True:
        import torch

        if torch.is_grad_enabled():
            raise TypeError(
                f"{function}(): x is a tensor that requires a gradient, but the result has none; "
                "pass x.detach(), or call this under torch.no_grad(); x.to(dtype) keeps it"
            )


def _told(
    function: str,
    dtype: str,
    overflow: Overflow,
    converted: Any,
    shape: Index,
    overflowed: int,
    first: int,
    value: float,
    counted: tuple[Any, ...] | None,
) -> Any:
    """Warn or raise if numbers overflowed; give the result, with counts if they were asked for."""
    if overflowed and overflow in ("warn", "error"):
        where = f"element {_written(unravel(first, shape))} is {value!r}"
        if overflow == "error":
            raise ValueError(
                f"{function}(): {where}, which overflows {dtype}; pass overflow='inf' or "
                "'saturate', or scale x first"
            )
        warnings.warn(
            f"{function}(): {overflowed:,} of {math.prod(shape):,} numbers overflow {dtype} and "
            f"become infinite: {where}; pass overflow= to choose what they become",
            RuntimeWarning,
            stacklevel=3,
        )
    if counted is None:
        return converted
    return converted, _counts(counted, dtype, shape)


def _counts(counted: tuple[Any, ...], dtype: str, shape: Index) -> ConversionCounts:
    size, _, nan, infinite, *_, losses = counted
    overflowed, flushed, subnormal, exact, *_ = losses[dtype]
    firsts = [
        unravel(places[1][0], shape) if places[0] else None
        for places in (overflowed, flushed, nan, infinite)
    ]
    return ConversionCounts(
        size, overflowed[0], flushed[0], subnormal, exact, nan[0], infinite[0], *firsts
    )


def unravel(place: int, shape: Index) -> Index:
    """Give the index of an element from its position in C order."""
    return tuple(int(i) for i in np.unravel_index(place, shape))


def _written(index: Index) -> str:
    return str(index[0]) if len(index) == 1 else str(index)
