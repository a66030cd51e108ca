"""Checked conversion to and from the types that the C core only moves.

These are longdouble, and the types that packages such as ml_dtypes register with NumPy, except
bfloat16. NumPy converts them row by row, under the rules of the core: an integer must stay exact, a
finite float must stay finite, and a float does not become an integer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Failure = tuple[type[Exception], int, str]


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Tell whether a type, registered ones included, holds fractions."""
    if dtype.kind in "biu":
        return False
    return bool(np.array([0.5]).astype(dtype).astype(np.float64)[0] == 0.5)


def masking_value(dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Give a quarter of the lowest value of a floating type, as an array of one element."""
    if not is_floating(dtype):
        return None
    if issubclass(dtype.type, np.floating):
        return np.array([np.finfo(dtype).min / 4], dtype)
    import ml_dtypes

    lowest = np.array([ml_dtypes.finfo(dtype).min], np.float64)
    return (lowest / 4).astype(dtype)


def significand_bits(dtype: np.dtype[Any]) -> int:
    """Count the significant bits of a type: it holds integers of that many bits exactly."""
    bits = 0
    while bits < 64:
        ones = np.array([(1 << (bits + 1)) - 1], dtype=np.uint64)
        if convert(ones, dtype)[1] is not None:
            break
        bits += 1
    return bits


def convert(
    array: NDArray[Any], dtype: np.dtype[Any] | None
) -> tuple[NDArray[Any] | None, Failure | None]:
    """Convert ``array`` to ``dtype``: ``(converted, None)``, or ``(None, failure)``.

    A failure is the exception's class, the index along the first axis of the first element
    that cannot be held, and the reason. ``None`` stands for the half types: the result is float64,
    and the core converts that.
    """
    if dtype is None:
        return _round_to_odd(array), None
    from_float, to_float = is_floating(array.dtype), is_floating(dtype)
    error: type[Exception]
    if from_float and not to_float:
        reason = f"dtype {array.dtype} holds floats; expected integers for {dtype}"
        return None, (TypeError, 0, reason)
    with np.errstate(all="ignore"):
        converted = array.astype(dtype)
        if from_float:
            wide = np.longdouble
            lost = np.isfinite(array.astype(wide)) & ~np.isfinite(converted.astype(wide))
            error, verb = ValueError, "overflows"
        else:
            lost = _integers_lost(array, converted, to_float)
            error, verb = ValueError, "is not exact in"
            if not to_float:
                error, verb = OverflowError, "is outside"
    if not lost.any():
        return converted, None
    where = tuple(int(axis[0]) for axis in np.nonzero(lost))
    return None, (error, where[0], f"value {array[where]} {verb} {dtype}")


def _round_to_odd(array: NDArray[Any]) -> NDArray[np.float64]:
    """Round to float64 so that rounding once more to fewer bits is as good as rounding once.

    An inexact float64 whose last bit is 1 cannot be a tie of the second rounding (Boldo and
    Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to
    odd", 2008). Only longdouble has more bits; all other types stay exact.
    """
    with np.errstate(all="ignore"):
        rounded = array.astype(np.float64)
        if array.dtype.char == "g":
            bits, size, found = rounded.view(np.int64), np.abs(array), np.abs(rounded)
            even = (bits & 1 == 0) & np.isfinite(array)
            bits += (even & (size > found)).astype(np.int64) - (even & (size < found))
    return rounded


def _integers_lost(
    array: NDArray[Any], converted: NDArray[Any], to_float: bool
) -> NDArray[np.bool_]:
    if not to_float:
        signs_differ = (converted.astype(np.int64) < 0) != (array < 0)
        lost: NDArray[np.bool_] = (converted.astype(array.dtype) != array) | signs_differ
        return lost
    if converted.dtype.char == "g":  # longdouble: 64 significant bits or more
        return np.zeros(array.shape, dtype=np.bool_)
    # Every other type has fewer significant bits than float64. So it cannot hold what float64
    # cannot hold: an integer that, without its trailing zero bits, is 2**53 or more.
    magnitude = np.where(array < 0, -array.astype(np.uint64), array.astype(np.uint64))
    lowest_bit = magnitude & -magnitude
    too_long = (magnitude >> np.uint64(53)) >= np.maximum(lowest_bit, 1)
    inexact: NDArray[np.bool_] = converted.astype(np.float64) != array.astype(np.float64)
    return inexact | too_long
