"""The picture of lengths: how many rows have which, and where they are cut or bucketed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .style import (
    COLOURS,
    HATCH,
    HATCH_COLOUR,
    Theme,
    empty,
    grouped,
    legend,
    patch,
    percent,
    start,
    whole_ticks,
    write,
)

__all__ = ["plot_lengths"]

_BARS = 56
_LINES = 40  # boundaries up to which each is a line over the whole height
_WIDE = 16  # how many times the longest row is as long as the median, for an axis of powers
Array = NDArray[np.int64]


def plot_lengths(
    lengths: Any,
    *,
    counts: Any = None,
    boundaries: Any = None,
    max_length: int | None = None,
    ax: Any = None,
    theme: Theme = "auto",
) -> Any:
    """Draw how many rows have which length, and how many are at most that long.

    Parameters
    ----------
    lengths : sequence of int or ndarray, shape [rows]
        The length of each row.
    counts : sequence of int or ndarray, optional
        How many rows have each of the lengths: then these are different lengths, not rows.
    boundaries : sequence of int, optional
        Widths of buckets, as :func:`tightbatch.bucket_boundaries` gives: a line for each.
    max_length : int, optional
        Where rows are cut.
    ax : matplotlib Axes, optional
        Where to draw; a new figure's otherwise.
    theme : {"auto", "light", "dark", "both"}
        Colours of text and background. "auto" is what the axes or matplotlib's settings say;
        "both" is legible on either, on no background.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When a length is negative (the message names the row), when `counts` are not as many as the
        lengths, or `theme` is another one.
    TypeError
        When lengths are not integers in one dimension, or `ax` is no Axes.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> import tightbatch as tb
    >>> lengths = [3, 4, 4, 9, 10, 30]
    >>> figure = tb.plots.plot_lengths(lengths, boundaries=tb.bucket_boundaries(lengths, 3))
    >>> figure.axes[0].get_title(loc="left")
    'Lengths of 6 rows'
    """
    name = "plot_lengths"
    values, rows = _tally(name, lengths, counts)
    widths = np.empty(0, np.int64)
    if boundaries is not None:
        widths = np.unique(_core.read_lengths(name, "boundaries", boundaries))
    if max_length is not None:
        max_length = _core.read_int(name, "max_length", max_length, 1, 2**62)
    figure, axes, inks = start(name, ax, theme, height=3.5)
    total = int(rows.sum())
    title = f"Lengths of {total:,} {'row' if total == 1 else 'rows'}"
    if not total:
        empty(axes, inks, title, "tokens in a row", "rows")
        return figure
    below = np.cumsum(rows)
    at = [int(values[np.searchsorted(below, q * total)]) for q in (0.5, 0.95)]
    is_wide = values[-1] > _WIDE * max(at[0], 1)
    edges = _edges(values, is_wide)
    bars = np.histogram(values, edges, weights=rows)[0]
    axes.stairs(bars, edges, fill=True, color=COLOURS["real"], gid="bars")
    end = max(int(values[-1]), int(widths.max(initial=0)), max_length or 0)
    if is_wide:
        axes.set_xscale("symlog", linthresh=1, linscale=0.3)
        _powers(axes, end)
        axes.set_xlim(edges[0], max(edges[-1], 1.05 * end))
    else:
        around = max(0.0, 4 - (edges[-1] - edges[0]) / 2)  # of one length: not a wall
        axes.set_xlim(max(edges[0] - around, -0.5), max(edges[-1] + around, 1.02 * end))
        whole_ticks(axes.xaxis)
    axes.set_ylim(0, 1.08 * bars.max())
    axes.yaxis.set_major_formatter(lambda y, _: grouped(y))
    whole_ticks(axes.yaxis)
    axes.xaxis.set_major_formatter(lambda x, _: grouped(x) if x >= 10_000 else f"{x:,.0f}")
    handles = [patch("real", "rows (left)"), _curve(axes, inks, values, below / total)]
    handles += _bounds(axes, widths)
    handles += _cut(axes, values, below, max_length)
    middle = f"half have up to {at[0]:,} tokens, 95 % up to {at[1]:,}, the longest "
    y = "rows in a bar" if len(bars) > 1 else "rows"
    write(axes, inks, title, f"{middle}{_short(values[-1])}", _x_label(is_wide), y)
    legend(axes, inks, handles, columns=2)
    return figure


def _short(length: int) -> str:
    return f"{length:,}" if length < 10_000_000 else grouped(length)


def _x_label(is_wide: bool) -> str:
    return "tokens in a row (powers)" if is_wide else "tokens in a row"


def _tally(function: str, lengths: Any, counts: Any) -> tuple[Array, Array]:
    """The different lengths, ascending, and how many rows have each."""
    found = _core.read_lengths(function, "lengths", lengths)
    if counts is not None:
        rows = _core.read_lengths(function, "counts", counts)
        if len(rows) != len(found):
            raise ValueError(
                f"{function}(): found {len(rows)} counts, expected one for each of the "
                f"{len(found)} lengths"
            )
        order = np.argsort(found, kind="stable")
        found, rows = found[order], rows[order]
        return found[rows > 0], rows[rows > 0]
    most = int(found.max(initial=0))
    if most <= max(4 * len(found), 1 << 20):
        rows = np.bincount(found)
        values = np.flatnonzero(rows)
        return values, rows[values]
    values, rows = np.unique(found, return_counts=True)
    return values, rows


def _edges(values: Array, is_wide: bool) -> NDArray[np.float64]:
    """Where bars begin and end: between whole numbers, so that each has as many of them."""
    low, high = int(values[0]), int(values[-1])
    if is_wide:
        powers = np.geomspace(max(low, 1), high + 1, _BARS + 1)
        inner = np.unique(np.floor(powers)) - 0.5
        first = [-0.5] if low == 0 else []
        return np.unique(np.concatenate([first, inner, [high + 0.5]]))
    step = max(1, -(-(high - low + 1) // _BARS))
    bars = -(-(high - low + 1) // step)
    return low - 0.5 + step * np.arange(bars + 1, dtype=np.float64)


def _powers(axes: Any, end: int) -> None:
    """Ticks at 0 and at so many powers of ten that their labels do not touch."""
    powers = np.arange(0, np.floor(np.log10(max(end, 1))) + 1)
    powers = powers[:: max(1, -(-len(powers) // 7))]
    axes.set_xticks([0, *(10.0**powers)])
    axes.minorticks_off()


def _curve(axes: Any, inks: Any, values: Array, share: NDArray[np.float64]) -> Any:
    """The share of rows that are at most so long, on an axis of its own."""
    right = axes.twinx()
    right.set_facecolor("none")
    for side in ("top", "left", "bottom"):
        right.spines[side].set_visible(False)
    right.spines["right"].set_color(inks.text)
    right.tick_params(colors=inks.text, labelsize=9)
    right.set_ylim(0, 108)
    right.set_yticks([0, 25, 50, 75, 100])
    right.set_ylabel("rows at most so long, %", color=inks.text, fontsize=10)
    if len(values) > 2000:  # more points than anyone sees
        keep = np.unique(np.linspace(0, len(values) - 1, 2000).astype(np.int64))
        values, share = values[keep], share[keep]
    x = np.concatenate([[values[0]], values, [max(values[-1], axes.get_xlim()[1])]])
    y = 100 * np.concatenate([[0], share, [1]])
    (line,) = right.plot(
        x, y, drawstyle="steps-post", color=inks.text, lw=1.4, label="rows at most so long (right)"
    )
    return line


def _bounds(axes: Any, widths: Array) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    if not len(widths):
        return []
    drawn = widths if len(widths) <= 400 else widths[:: -(-len(widths) // 400)]
    top, many = axes.get_ylim()[1], len(widths) > _LINES
    # A light edge, for where a line crosses a bar.
    axes.vlines(
        drawn, 0.94 * top if many else 0, top, color=COLOURS["bound"], gid="bounds",
        lw=0.8 if many else 1.4, ls="-" if many else (0, (4, 2)),
        path_effects=[] if many else [withStroke(linewidth=2.6, foreground="#FFFFFF")],
    )  # fmt: skip
    label = f"{len(widths):,} bucket {'boundary' if len(widths) == 1 else 'boundaries'}"
    return [Line2D([], [], color=COLOURS["bound"], ls="--", lw=1.2, label=label)]


def _cut(axes: Any, values: Array, below: Array, most: int | None) -> list[Any]:
    """Hatch what is longer than rows may be."""
    if most is None:
        return []
    place = int(np.searchsorted(values, most, side="right"))
    longer = int(below[-1] - (below[place - 1] if place else 0))
    axes.axvspan(most, axes.get_xlim()[1], facecolor=COLOURS["cut"], alpha=0.6, lw=0, zorder=0.5)
    axes.axvspan(
        most, axes.get_xlim()[1], facecolor="none", edgecolor=HATCH_COLOUR, lw=0, hatch=HATCH,
        gid="cut",
    )  # fmt: skip
    share = percent(longer / int(below[-1]))
    return [patch("cut", f"cut at {most:,}: {share} of rows")]
