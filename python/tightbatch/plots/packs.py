"""Pictures of packs and of ranks: how full, and how even."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .read import read_numbers, read_text
from .style import COLOURS, Theme, empty, grouped, legend, patch, percent, start, whole_ticks, write

__all__ = ["plot_packs", "plot_ranks"]

_BARS = 40  # packs up to which each one's segments are drawn
_SEGMENTS = 600  # of all packs, up to which each is drawn
_POINTS = 1000


def plot_packs(
    pack_lengths: Any,
    capacity: int,
    *,
    segments: Any = None,
    lower_bound: int | None = None,
    ax: Any = None,
    theme: Theme = "auto",
) -> Any:
    """Draw how full packs are: each with its segments, or many from the fullest to the emptiest.

    Parameters
    ----------
    pack_lengths : sequence of int or ndarray, shape [packs]
        Tokens in each pack.
    capacity : int
        The most tokens in a pack.
    segments : (lengths, offsets), optional
        The length of each segment, and where the segments of each pack begin, [packs + 1]: up to
        40 packs are drawn with their segments in alternating shades.
    lower_bound : int, optional
        The least number of packs that there could be.
    ax, theme
        As for :func:`plot_lengths`.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When a length is negative or above the capacity, or offsets are not those of the packs.
    TypeError
        When lengths are not integers in one dimension, or `ax` is no Axes.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.plots.plot_packs([6, 5], 6).axes[0].get_title(loc="left")
    '2 packs of 6 tokens: 91.7 % full'
    """
    name = "plot_packs"
    filled = _core.read_lengths(name, "pack_lengths", pack_lengths)
    capacity = _core.read_int(name, "capacity", capacity, 1, 2**62)
    over = np.flatnonzero(filled > capacity)
    if len(over):
        raise ValueError(
            f"{name}(): pack {over[0]} has {filled[over[0]]} tokens, expected at most the "
            f"capacity, {capacity}"
        )
    if lower_bound is not None:
        lower_bound = _core.read_int(name, "lower_bound", lower_bound, 0, 2**62)
    parts = None if segments is None else _read_segments(name, segments, filled)
    if parts is not None and not len(filled) < len(parts[0]) <= _SEGMENTS:
        parts = None
    figure, axes, inks = start(name, ax, theme)
    count = len(filled)
    noun = "pack" if count == 1 else "packs"
    share = float(filled.sum() / (count * capacity)) if count else 1.0
    title = f"{count:,} {noun} of {capacity:,} tokens: {percent(share)} full"
    note = "" if lower_bound is None else f"no packing needs fewer than {lower_bound:,}"
    if not count:
        empty(axes, inks, f"0 packs of {capacity:,} tokens", "packs", "tokens")
        return figure
    if count <= _BARS:
        _draw_bars(axes, inks, filled, capacity, parts)
        x = "pack"
        alone = parts is not None
    else:
        _draw_sorted(axes, filled, capacity)
        x, alone = "packs, from the fullest to the emptiest", False
    axes.set_ylim(0, capacity)
    axes.yaxis.set_major_formatter(lambda value, _: grouped(value))
    handles = [patch("real", "real tokens"), patch("padding", "not filled")]
    if alone:
        handles.insert(1, patch("real 2", "the next segment"))
    write(axes, inks, title, note, x, "tokens")
    legend(axes, inks, handles)
    return figure


def _read_segments(function: str, segments: Any, filled: Any) -> tuple[Any, Any]:
    if not isinstance(segments, (tuple, list)) or len(segments) != 2:
        raise TypeError(
            f"{function}(): segments is {_core.describe(segments)}, expected (lengths, offsets)"
        )
    lengths, offsets = segments
    sizes = _core.read_lengths(function, "segments", lengths)
    ends = _core.read_lengths(function, "offsets", offsets)
    sums = np.concatenate([[0], np.cumsum(sizes)])
    fits = len(ends) == len(filled) + 1 and ends[-1] <= len(sizes) and (np.diff(ends) >= 0).all()
    if not fits or not np.array_equal(np.diff(sums[ends]), filled):
        raise ValueError(
            f"{function}(): segments do not give the tokens of the {len(filled)} packs, expected "
            "(lengths, offsets) with one offset more than there are packs"
        )
    return sizes, ends


def _draw_bars(axes: Any, inks: Any, filled: Any, capacity: int, parts: Any) -> None:
    """Draw each pack as a column; its segments one above the other."""
    place = np.arange(len(filled))
    if parts is None:
        axes.bar(place, filled, 0.84, color=COLOURS["real"], gid="real")
    else:
        sizes, ends = parts
        pack = np.repeat(place, np.diff(ends))
        number = np.arange(len(pack)) - ends[pack]
        begins = np.cumsum(sizes[ends[0] : ends[-1]]) - sizes[ends[0] : ends[-1]]
        begins = begins - begins[np.minimum(ends[pack], len(begins) - 1)]
        for shade in (0, 1):
            own = number % 2 == shade
            colour = COLOURS["real 2" if shade else "real"]
            axes.bar(
                pack[own], sizes[own], 0.84, bottom=begins[own], color=colour, gid=f"real {shade}"
            )
    axes.bar(place, capacity - filled, 0.84, bottom=filled, color=COLOURS["padding"], gid="padding")
    axes.set_xlim(-0.6, len(filled) - 0.4)
    whole_ticks(axes.xaxis)
    axes.tick_params(axis="x", length=0)


def _draw_sorted(axes: Any, filled: Any, capacity: int) -> None:
    """Draw many packs as an area: sorted, at as many places as anyone sees."""
    falling: NDArray[np.int64] = np.sort(filled)[::-1]
    edges = np.linspace(0, len(filled), min(len(filled), _POINTS) + 1).astype(np.int64)
    means = np.add.reduceat(falling, edges[:-1]) / np.diff(edges)
    axes.stairs(means, edges, fill=True, color=COLOURS["real"], gid="real")
    axes.stairs(
        np.full(len(means), capacity), edges, baseline=means, fill=True, color=COLOURS["padding"],
        gid="padding",
    )  # fmt: skip
    axes.set_xlim(0, len(filled))
    axes.xaxis.set_major_formatter(lambda value, _: grouped(value))


def plot_ranks(
    loads: Any, *, unit: str = "padded tokens", ax: Any = None, theme: Theme = "auto"
) -> Any:
    """Draw how much each rank has to do, and how long it waits for the others.

    Parameters
    ----------
    loads : array of int or float, shape [ranks] or [steps, ranks]
        What each rank has to do, in all or at each step. With steps, a rank waits at each for the
        one that has most to do.
    unit : str
        What is counted.
    ax, theme
        As for :func:`plot_lengths`.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When a load is negative or not finite.
    TypeError
        When they are not numbers in one or two dimensions, or `ax` is no Axes.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> import tightbatch as tb
    >>> figure = tb.plots.plot_ranks([[4, 4], [4, 2]])
    >>> figure.axes[0].get_title(loc="left")
    '2 ranks wait 12 % of their time'
    """
    name = "plot_ranks"
    array = read_numbers(name, "loads", loads, "[ranks] or [steps, ranks]")
    steps = np.atleast_2d(array)
    unit = read_text(name, "unit", unit)
    figure, axes, inks = start(name, ax, theme)
    from matplotlib.patches import Patch

    own = steps.sum(axis=0)
    ranks = len(own)
    if not steps.size:
        empty(axes, inks, "Load of 0 ranks", "rank", unit)
        return figure
    longest = float(steps.max(axis=1).sum())
    edges = np.arange(ranks + 1) - 0.5
    idle: dict[str, Any] = {
        "facecolor": inks.faint,
        "edgecolor": inks.text,
        "hatch": "...",
        "lw": 0,
    }
    if ranks <= 64:
        axes.bar(np.arange(ranks), own, 0.84, color=COLOURS["real"], gid="load")
        axes.bar(
            np.arange(ranks), longest - own, 0.84, bottom=own, gid="waiting", **idle,
        )  # fmt: skip
    else:
        axes.stairs(own, edges, fill=True, color=COLOURS["real"], gid="load")
        axes.stairs(
            np.full(ranks, longest), edges, baseline=own, fill=True, gid="waiting", **idle,
        )  # fmt: skip
    mean = float(own.mean())
    line = axes.axhline(mean, color=inks.text, lw=1.4, ls=(0, (4, 2)), label="mean of all ranks")
    axes.set_xlim(-0.6, ranks - 0.4)
    axes.set_ylim(0, 1.08 * longest or 1)
    whole_ticks(axes.xaxis)
    axes.yaxis.set_major_formatter(lambda value, _: grouped(value))
    waits = percent(1 - mean / longest) if longest else "0 %"
    noun = "rank waits" if ranks == 1 else "ranks wait"
    title = f"{ranks:,} {noun} {waits} of {'its' if ranks == 1 else 'their'} time"
    told = f"from {grouped(own.min())} to {grouped(own.max())} {unit} a rank"
    told += f", {len(steps):,} steps" if array.ndim == 2 else ""
    write(axes, inks, title, told, "rank", unit)
    waiting = Patch(label="waits for the longest", **idle)
    legend(axes, inks, [patch("real", "has to do"), waiting, line])
    return figure
