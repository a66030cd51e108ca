"""What all pictures read: texts, and numbers that are finite and not negative."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core

__all__ = ["read_numbers", "read_text"]


def read_text(function: str, name: str, value: Any) -> str:
    """Give a str, or say that it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{function}(): {name} is {_core.describe(value)}, expected a str")
    return value


def read_numbers(
    function: str, name: str, values: Any, shape: str = "[n]", unknown: bool = False
) -> NDArray[np.float64]:
    """Give an array of float64 of one dimension, or of two where the shape says so.

    NaN is allowed where something may be `unknown`.
    """
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):  # lists of different lengths, or a number of many digits
        array = np.asarray(None)
    most = 2 if "," in shape else 1
    is_right = 1 <= array.ndim <= most and (array.dtype.kind in "iuf" or not array.size)
    if not is_right or isinstance(values, (set, dict)):
        raise TypeError(
            f"{function}(): {name} is {_core.describe(values)}, expected numbers of the shape "
            f"{shape}"
        )
    found: NDArray[np.float64] = array.astype(np.float64)
    fine = found >= 0
    fine |= np.isnan(found) if unknown else False
    odd = np.argwhere(~(fine if unknown else fine & np.isfinite(found)))
    if len(odd):
        place = tuple(odd[0].tolist())
        raise ValueError(
            f"{function}(): {name}{list(place)} is {found[place]:g}, expected a number of at least "
            "0"
        )
    return found
