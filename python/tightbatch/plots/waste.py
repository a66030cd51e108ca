"""Pictures of waste: against the number of buckets, by strategy, against the shuffle window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _core
from .read import read_numbers, read_text
from .style import (
    COLOURS,
    HATCH,
    HATCH_COLOUR,
    MARKERS,
    STRATEGIES,
    Theme,
    empty,
    grouped,
    legend,
    ordered,
    patch,
    percent,
    shorten,
    start,
    strategy_of,
    whole_ticks,
    write,
)

__all__ = ["knee", "plot_buckets", "plot_strategies", "plot_windows"]

_PARTS = ("real", "padding", "cut")
_SHOWN = {key: key.replace("_", " ") for key in STRATEGIES} | {
    "uniform_length": "uniform-length",
    "padding_free": "padding-free",
    "sampler": "your sampler",
}


def knee(waste: Any) -> int:
    """Give the number of buckets after which more of them lower the waste little.

    Parameters
    ----------
    waste : sequence of numbers, shape [buckets]
        The padding with 1, 2, ... buckets, as ``bucket_boundaries(..., return_waste=True)`` gives.

    Returns
    -------
    int
        The number of buckets whose point lies farthest below the line from the first to the last;
        1 if none does, 0 if there is nothing.

    Raises
    ------
    ValueError
        When a number is negative or not finite.
    TypeError
        When they are not numbers in one dimension.

    Notes
    -----
    V. Satopaa et al., "Finding a 'Kneedle' in a haystack" (2011), for a curve that falls.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.plots.knee([100, 20, 10, 8, 7])
    2
    """
    values = read_numbers("knee", "waste", waste)
    if len(values) < 3 or values[0] <= values[-1]:
        return min(len(values), 1)
    x = np.arange(len(values)) / (len(values) - 1)
    y = (values - values[-1]) / (values[0] - values[-1])
    below = 1 - x - y
    return int(np.argmax(below)) + 1 if below.max() > 1e-9 else 1


def plot_buckets(
    waste: Any,
    *,
    real: int | None = None,
    chosen: int | None = None,
    ax: Any = None,
    theme: Theme = "auto",
) -> Any:
    """Draw the waste against the number of buckets, and mark the knee of the curve.

    Parameters
    ----------
    waste : sequence of int, shape [buckets]
        The padding in tokens with 1, 2, ... buckets, as
        ``bucket_boundaries(..., return_waste=True)`` gives.
    real : int, optional
        Real tokens: then the waste is drawn as a share of all tokens.
    chosen : int, optional
        The number of buckets in use: marked too.
    ax, theme
        As for :func:`plot_lengths`.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When a number is negative or not finite, or `chosen` is not one of the numbers of buckets.
    TypeError
        When they are not numbers in one dimension, or `ax` is no Axes.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> import tightbatch as tb
    >>> lengths = [3, 4, 4, 9, 10, 30]
    >>> _, waste = tb.bucket_boundaries(lengths, 5, return_waste=True)
    >>> figure = tb.plots.plot_buckets(waste, real=sum(lengths))
    >>> figure.axes[0].get_title(loc="left")
    'Waste with 1 to 5 buckets'
    """
    name = "plot_buckets"
    padding = read_numbers(name, "waste", waste)
    if real is not None:
        real = _core.read_int(name, "real", real, 0, 2**62)
    if chosen is not None:
        chosen = _core.read_int(name, "chosen", chosen, 1, max(len(padding), 1))
    figure, axes, inks = start(name, ax, theme)
    y = padding if real is None else 100 * padding / np.maximum(padding + real, 1)
    unit = "padding, tokens" if real is None else "padding, % of all tokens"
    title = f"Waste with 1 to {len(y)} buckets" if len(y) > 1 else "Waste with one bucket"
    if not len(y):
        empty(axes, inks, "Waste by buckets", "buckets", unit)
        return figure
    numbers = np.arange(1, len(y) + 1)
    marker = "o" if len(y) <= 40 else None
    axes.plot(numbers, y, color=COLOURS["padding"], lw=1.8, marker=marker, ms=4, gid="waste")
    axes.fill_between(numbers, y, color=COLOURS["padding"], alpha=0.2, lw=0)
    axes.set_ylim(0, 1.2 * y.max() or 1)
    axes.set_xlim(1 - 0.03 * len(y), len(y) + 0.03 * len(y))
    whole_ticks(axes.xaxis)
    axes.yaxis.set_major_formatter(lambda value, _: grouped(value))
    bend = knee(padding) if len(y) > 2 and padding[0] > padding[-1] else None
    marks = {} if bend is None else {bend: "knee"}
    if chosen is not None:
        marks.setdefault(chosen, "chosen")
    # The curve falls: above and to the right of it is room. The first label stands a line higher.
    for line, number in enumerate(sorted(marks, reverse=True)):
        _mark(axes, inks, y, number, marks[number], real is not None, 16 + 15 * line)
    said = [percent(v / 100) if real is not None else grouped(v) for v in (y[0], y[-1])]
    note = f"{said[0]} with one bucket" + (f", {said[1]} with {len(y)}" if len(y) > 1 else "")
    write(axes, inks, title, note, "buckets (widths that batches may have)", unit)
    return figure


def _mark(
    axes: Any, inks: Any, y: Any, number: int, word: str, is_share: bool, above: float
) -> None:
    value = float(y[number - 1])
    told = percent(value / 100) if is_share else f"{grouped(value)} tokens"
    noun = "bucket" if number == 1 else "buckets"
    axes.plot(
        [number],
        [value],
        "D",
        color=COLOURS["bound"],
        ms=9,
        mec=inks.text,
        gid=word,
        clip_on=False,
        zorder=5,
    )
    left = number > 0.6 * len(y)
    axes.annotate(
        f"{word}: {number} {noun}, {told}",
        (number, value),
        (-8 if left else 10, above),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=10,
        color=inks.text,
        fontweight="bold",
    )


def plot_strategies(
    tokens: Mapping[str, Mapping[str, int]], *, ax: Any = None, theme: Theme = "auto"
) -> Any:
    """Draw the real tokens, the padding and what is cut off, a bar for each strategy.

    Parameters
    ----------
    tokens : mapping of str to mapping
        For each strategy its numbers of tokens: "real", "padding", "cut"; one that is not there
        is 0. Strategies are drawn in one order everywhere: fixed, dynamic, uniform_length,
        bucketed, packed, padding_free, sampler, then others.
    ax, theme
        As for :func:`plot_lengths`.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When a number is negative, or there is another part than the three.
    TypeError
        When `tokens` is no mapping of mappings, a number is not an integer, or `ax` is no Axes.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> import tightbatch as tb
    >>> figure = tb.plots.plot_strategies(
    ...     {"dynamic": {"real": 70, "padding": 30}, "fixed": {"real": 70, "padding": 130}}
    ... )
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['fixed', 'dynamic']
    """
    name = "plot_strategies"
    parts = _read_parts(name, tokens)
    names = ordered(parts)
    height = 1.5 + 0.36 * max(len(names), 2)
    figure, axes, inks = start(name, ax, theme, height=height)
    from matplotlib.transforms import ScaledTranslation

    if not names:
        empty(axes, inks, "Tokens by strategy", "tokens", "")
        return figure
    heights = np.array([parts[key] for key in names], np.float64)
    ends = heights.cumsum(axis=1)
    largest = max(ends.max(), 1.0)
    for k, part in enumerate(_PARTS):
        axes.barh(
            range(len(names)), heights[:, k], left=ends[:, k] - heights[:, k], height=0.72,
            color=COLOURS[part], edgecolor=HATCH_COLOUR, lw=0, label=part, gid=part,
            hatch=HATCH if part == "cut" else None,
        )  # fmt: skip
    for i, (real, padding, cut) in enumerate(heights):
        told = f"{percent(padding / max(real + padding, 1))} padding"
        told += f", {grouped(cut)} cut" if cut else ""
        axes.annotate(
            told, (ends[i, 2], i), (4, 0), textcoords="offset points", va="center", fontsize=9,
            color=inks.text, annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(len(names) - 0.5, -0.5)
    shown = [shorten(_SHOWN.get(key, key)) for key in names]
    axes.set_yticks(range(len(names)), shown)
    # What is written beside the longest bar has its room, in inches.
    inches = axes.bbox.width / figure.dpi - (0.07 * max(map(len, shown)) if ax is None else 0)
    beside_bars = 1.6 if heights[:, 2].any() else 1.0
    axes.set_xlim(0, largest / max(0.3, 1 - beside_bars / inches))
    axes.tick_params(axis="y", length=0, pad=16)
    beside = axes.transData + ScaledTranslation(-9 / 72, 0, figure.dpi_scale_trans)
    for i, key in enumerate(names):  # the mark that the strategy has in other pictures
        known = strategy_of(key) or "sampler"
        axes.plot(
            [0], [i], MARKERS[known], color=COLOURS[known], ms=6, clip_on=False, gid="mark",
            transform=beside,
        )  # fmt: skip
    axes.xaxis.set_major_formatter(lambda value, _: grouped(value))
    whole_ticks(axes.xaxis, 5)
    drawn = [k for k in range(3) if k < 2 or heights[:, 2].any()]
    words = ("real tokens", "padding", "cut off")
    legend(axes, inks, [patch(_PARTS[k], words[k]) for k in drawn])
    room_of_note = 64 - max(0, max(map(len, shown)) - 6)
    least = int(np.argmin(heights[:, 1]))
    note = f"least padding: {shown[least]}, {grouped(heights[least, 1])} tokens"
    write(axes, inks, "Tokens by strategy", note, "tokens in an epoch", "", room_of_note)
    return figure


def _read_parts(function: str, tokens: Any) -> dict[str, list[int]]:
    if not isinstance(tokens, Mapping):
        raise TypeError(
            f"{function}(): tokens is {_core.describe(tokens)}, expected a dict such as "
            '{"fixed": {"real": 70, "padding": 30}}'
        )
    found = {}
    for name, parts in tokens.items():
        if not isinstance(name, str) or not isinstance(parts, Mapping):
            raise TypeError(
                f"{function}(): tokens has {_core.describe(name)}: {_core.describe(parts)}, "
                "expected a str and a dict of real, padding and cut"
            )
        other = next((key for key in parts if key not in _PARTS), None)
        if other is not None:
            raise ValueError(
                f"{function}(): tokens[{_core.show(name)}] has {_core.show(other)}, expected "
                "real, padding and cut"
            )
        found[name] = [
            _core.read_int(function, part, parts.get(part, 0), 0, 2**62) for part in _PARTS
        ]
    return found


def plot_windows(
    windows: Any,
    padding: Any,
    randomness: Any = None,
    *,
    chosen: int | None = None,
    label: str = "order that chance made",
    ax: Any = None,
    theme: Theme = "auto",
) -> Any:
    """Draw what each shuffle window costs in padding, and what it leaves of randomness.

    Parameters
    ----------
    windows : sequence of int, shape [windows]
        Shuffle windows, in batches; ascending.
    padding : sequence of float, shape [windows]
        The padding with each, as a share of all tokens, from 0 to 1.
    randomness : sequence of float, shape [windows], optional
        How random the batches are with each, from 0 (rows in order of length) to 1.
    chosen : int, optional
        The window in use: marked.
    label : str
        What `randomness` is the share of.
    ax, theme
        As for :func:`plot_lengths`.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When there are not as many numbers as windows, or one is negative or not finite.
    TypeError
        When they are not numbers in one dimension, or `ax` is no Axes.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> import tightbatch as tb
    >>> figure = tb.plots.plot_windows([1, 8, 64], [0.4, 0.1, 0.02], [1.0, 0.9, 0.5], chosen=8)
    >>> figure.axes[0].get_ylabel()
    'padding, % of all tokens'
    """
    name = "plot_windows"
    x = _core.read_lengths(name, "windows", windows)
    series = [("padding", read_numbers(name, "padding", padding))]
    if randomness is not None:
        series.append(("randomness", read_numbers(name, "randomness", randomness)))
    for what, values in series:
        if len(values) != len(x):
            raise ValueError(
                f"{name}(): found {len(values)} of {what}, expected one for each of the {len(x)} "
                "windows"
            )
    if chosen is not None:
        chosen = _core.read_int(name, "chosen", chosen, 0, 2**62)
    label = read_text(name, "label", label)
    figure, axes, inks = start(name, ax, theme, height=3.4)
    title, x_name = "What a shuffle window costs", "shuffle window, batches"
    if not len(x):
        empty(axes, inks, title, x_name, "padding, % of all tokens")
        return figure
    at = np.arange(len(x))  # evenly: windows are powers, and the last may be "all rows"
    (wasted,) = axes.plot(
        at, 100 * series[0][1], "o-", color=COLOURS["padding"], lw=1.8, ms=5, label="padding (left)"
    )
    axes.set_ylim(0, 115 * series[0][1].max() or 1)
    axes.set_xlim(-0.3, len(x) - 0.7)
    step = max(1, -(-len(x) // 9))
    axes.set_xticks(at[::step], [f"{v:,}" if v < 100_000 else grouped(v) for v in x[::step]])
    handles = [wasted]
    if len(series) == 2:
        handles.append(_right(axes, inks, at, 100 * series[1][1], label))
    if chosen is not None and chosen in x:
        place = int(np.flatnonzero(x == chosen)[0])
        handles.append(
            axes.axvline(
                place, color=COLOURS["bound"], lw=1.6, ls=(0, (4, 2)), label=f"in use: {chosen:,}"
            )
        )
    told = [f"{percent(series[0][1][i])} with {int(x[i]):,}" for i in (0, len(x) - 1)]
    note = f"padding: {told[0]}, {told[1]}" if len(x) > 1 else f"padding: {told[0]}"
    write(axes, inks, title, note, x_name, "padding, % of all tokens")
    legend(axes, inks, handles, columns=2)
    return figure


def _right(axes: Any, inks: Any, x: Any, y: Any, label: str) -> Any:
    """A second curve on an axis of its own, in another colour, dashed, with other marks."""
    right = axes.twinx()
    right.set_facecolor("none")
    for side in ("top", "left", "bottom"):
        right.spines[side].set_visible(False)
    right.spines["right"].set_color(inks.text)
    right.tick_params(colors=inks.text, labelsize=9)
    right.set_ylim(0, 1.15 * y.max() or 1)
    right.set_ylabel(f"{shorten(label)}, %", color=inks.text, fontsize=10)
    (line,) = right.plot(
        x, y, "s--", color=inks.text, lw=1.8, ms=5, label=f"{shorten(label)} (right)"
    )
    return line
