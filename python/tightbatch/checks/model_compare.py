"""How far numbers moved, of what they are at most; and how far rounding alone may move them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Roundings of a sum in its own type: its terms come in another order when shapes change. Half types
# are summed in float32 and rounded once.
ROUNDINGS, ROUNDINGS_OF_HALF = 32, 1
COARSE = 2.0**-11  # relative steps from here on are of half types
OUTLIER = 1000  # times the median: scores that stand for "never", as -10000


def tolerance_for(step: float, depth: int) -> float:
    """How far outputs may move, of the largest one, by rounding alone.

    Errors of single steps are independent, so that their sum grows with the root of their number.
    """
    roundings = ROUNDINGS if step < COARSE else ROUNDINGS_OF_HALF
    return roundings * step * math.sqrt(max(depth, 1))


def scale_of(output: Tensor) -> float:
    """The largest magnitude of an output, but for those that stand for "never"."""
    sizes = output.detach().double().abs().flatten()
    sizes = sizes[sizes.isfinite() & (sizes > 0)]
    if not sizes.numel():
        return 1.0
    return float(sizes[sizes <= OUTLIER * sizes.median()].max())


def difference(one: Tensor, other: Tensor, scale: float) -> float:
    """The largest difference of two equal shapes, of the scale; inf where only one is finite."""
    if not one.numel():
        return 0.0
    a, b = one.double(), other.to(one.device).double()
    same = (a == b) | (a.isnan() & b.isnan())
    apart = (a - b).abs().masked_fill(same, 0.0)
    largest = float(apart.nan_to_num(nan=math.inf, posinf=math.inf).max())
    return largest / scale


def written(value: float) -> str:
    """A movement as text; NaN was not tried."""
    if math.isnan(value):
        return "-"
    return "0" if value == 0 else f"{value:.2g}" if 0.001 <= value < 1000 else f"{value:.1e}"
