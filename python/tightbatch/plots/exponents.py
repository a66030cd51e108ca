"""The picture of exponents: which numbers each half type can hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .style import COLOURS, Theme, grouped, legend, start, write

__all__ = ["plot_exponents"]

_LOWEST = -127
# What each type can hold, as binary exponents, and how many of the numbers are beyond it.
_NORMAL, _SUBNORMAL = (-14, 15), (-25, -15)


def plot_exponents(counts: Any, *, ax: Any = None, theme: Theme = "auto") -> Any:
    """Draw the binary exponents of numbers, and the windows of float16 and bfloat16.

    Parameters
    ----------
    counts : sequence of int, shape [256]
        How many numbers have the exponents -127, -126, ... 128, as a TensorReport's `exponents`.
    ax, theme
        As for :func:`plot_lengths`.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When there are not 256 counts, or one is negative.
    TypeError
        When counts are not integers in one dimension, or `ax` is no Axes.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, tightbatch as tb
    >>> counts = tb.half_report(np.float32([1e-9, 0.1, 1.0])).tensors[0].exponents
    >>> tb.plots.plot_exponents(counts).axes[0].get_title(loc="left")
    'Exponents of 3 numbers'
    """
    name = "plot_exponents"
    found = _core.read_lengths(name, "counts", counts)
    if len(found) != 256:
        raise ValueError(f"{name}(): found {len(found)} counts, expected 256")
    figure, axes, inks = start(name, ax, theme, height=3.6)
    held = np.flatnonzero(found)
    low, high = (int(held[0]), int(held[-1])) if len(held) else (-_LOWEST, -_LOWEST)
    low, high = min(low, -_LOWEST - 28), max(high, -_LOWEST + 18)
    exponents = np.arange(low, high + 1) + _LOWEST
    green, grey = COLOURS["bound"], inks.faint
    bands = [
        axes.axvspan(-14.5, 15.5, color=green, alpha=0.3, lw=0, label="float16"),
        axes.axvspan(-25.5, -14.5, facecolor="none", edgecolor=green, hatch="///", lw=0,
                     label="float16, subnormal"),
        axes.axvspan(-126.5, 127.5, color=grey, alpha=0.35, lw=0, zorder=0.5, label="bfloat16"),
    ]  # fmt: skip
    axes.bar(exponents, found[low : high + 1], width=0.9, color=COLOURS["real"])
    axes.set_xlim(exponents[0] - 0.5, exponents[-1] + 0.5)
    axes.set_yscale("symlog")
    axes.set_ylim(0, max(2, 2 * int(found.max())))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda y, _: grouped(y))
    total = int(found.sum())
    write(axes, inks, f"Exponents of {total:,} {'number' if total == 1 else 'numbers'}",
          _note(found, total), "binary exponent, floor(log2 |x|)", "numbers")  # fmt: skip
    legend(axes, inks, bands)
    return figure


def _note(counts: Any, total: int) -> str:
    """What lies outside of float16; all but a few numbers lie within bfloat16."""
    above = int(counts[_NORMAL[1] + 1 - _LOWEST :].sum())
    below = int(counts[: _SUBNORMAL[0] - _LOWEST].sum())
    return f"above float16's window {above:,}, below it {below:,}" if total else "no numbers"
