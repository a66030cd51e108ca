"""The picture of a batch: its rows by positions, what is real and what is padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._words import counted
from .read import read_text
from .style import (
    COLOURS,
    Theme,
    dress,
    legend,
    patch,
    percent,
    shorten,
    start,
    whole_ticks,
    write,
)

__all__ = ["Cells", "plot_rows"]

_LINES, _COLUMNS = 480, 900  # of the drawn raster; beyond, cells are averaged
_APART = 40  # lines up to which there is a gap between them
_DOTS = 10  # of a line and its gap
_MOST_PANELS = 4
_SHADES = ("real", "real 2", "padding")
Array = NDArray[np.int64]
Planes = NDArray[np.float64]


class Cells(NamedTuple):
    """Where the real tokens of a batch are; all others are padding.

    Attributes
    ----------
    rows, width : int
        The shape of the batch.
    segments : ndarray of int64, shape [segments, 2]
        Where each row, or each segment of a pack, begins and ends among all rows * width places,
        ascending. None lies in two rows.
    """

    rows: int
    width: int
    segments: Array

    @property
    def real(self) -> int:
        """The number of real tokens."""
        return int((self.segments[:, 1] - self.segments[:, 0]).sum())

    @property
    def padding(self) -> int:
        """The number of places that are padding."""
        return self.rows * self.width - self.real


def plot_rows(
    panels: Mapping[str, Cells], *, ax: Any = None, theme: Theme = "auto", title: str = ""
) -> Any:
    """Draw batches side by side, on one scale: equal areas are equally many tokens.

    Parameters
    ----------
    panels : mapping of str to Cells
        Up to four batches with their titles, such as "before" and "after". A batch of one long row
        is folded into lines.
    ax : matplotlib Axes, optional
        Where to draw, of one batch; a new figure's otherwise.
    theme
        As for :func:`plot_lengths`.
    title : str
        Of the whole picture.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When there is no batch, or more than four, or more than one for one axes; when segments do
        not lie in their batch.
    TypeError
        When `panels` is no mapping of Cells, or `ax` is no Axes.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, tightbatch as tb
    >>> cells = tb.plots.Cells(2, 4, np.array([[0, 4], [4, 6]]))
    >>> tb.plots.plot_rows({"batch": cells}).axes[0].get_title(loc="left")
    'batch: 25 % padding'
    """
    name = "plot_rows"
    found, title = _read(name, panels), read_text(name, "title", title)
    if ax is not None and len(found) > 1:
        raise ValueError(
            f"{name}(): {len(found)} batches, expected one for ax; without ax each has its own axes"
        )
    fold = _line_width(list(found.values()))
    spread = {key: _spread(cells, fold) for key, cells in found.items()}
    lines = max(shape[0] for shape, _ in spread.values())
    wide = max(shape[1] for shape, _ in spread.values())
    height = 1.4 + min(3.4, max(0.9, 0.085 * lines))
    if len(found) == 1:
        figure, axes, inks = start(name, ax, theme, height=height)
        every = [axes]
    else:
        figure, _, inks = start(name, None, theme, height=height, width=3.5 * len(found))
        figure.clear()
        made = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
        every = [dress(one, inks) for one in made]
    for i, (key, cells) in enumerate(found.items()):
        _draw(every[i], inks, key, cells, spread[key], i == 0, len(found))
        every[i].set_xlim(0, max(wide, 1))
        every[i].set_ylim(max(lines, 1), 0)
    shades = [0, 1, 2] if any(_is_packed(cells) for cells in found.values()) else [0, 2]
    words = ("real tokens", "the next row of a pack", "padding")
    legend(every[0], inks, [patch(_SHADES[k], words[k]) for k in shades])
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=inks.text)
    return figure


def _read(function: str, panels: Any) -> dict[str, Cells]:
    is_right = isinstance(panels, Mapping) and all(
        isinstance(key, str) and isinstance(cells, Cells) for key, cells in panels.items()
    )
    if not is_right:
        raise TypeError(
            f"{function}(): panels is {_core.describe(panels)}, expected a dict of str to Cells"
        )
    if not 1 <= len(panels) <= _MOST_PANELS:
        raise ValueError(
            f"{function}(): panels has {len(panels)} batches, expected 1 to {_MOST_PANELS}"
        )
    for key, (rows, width, segments) in panels.items():
        places = np.asarray(segments)
        if places.ndim != 2 or places.shape[1] != 2 or places.dtype.kind not in "iu":
            raise TypeError(
                f"{function}(): segments of {_core.show(key)} is {_core.describe(segments)}, "
                "expected an array of int of the shape [segments, 2]"
            )
        begins, ends = places[:, 0], places[:, 1]
        inside = (begins >= 0) & (ends >= begins) & (ends <= rows * width)
        if not inside.all() or (begins[1:] < ends[:-1]).any():
            raise ValueError(
                f"{function}(): segments of {_core.show(key)} are not ascending, or not within "
                f"{rows} rows of {width}"
            )
        full = places[ends > begins]
        if (full[:, 0] // max(width, 1) != (full[:, 1] - 1) // max(width, 1)).any():
            raise ValueError(f"{function}(): a segment of {_core.show(key)} lies in two rows")
    return {
        key: Cells(rows, width, np.asarray(segments)[segments[:, 1] > segments[:, 0]])
        for key, (rows, width, segments) in panels.items()
    }


def _is_flat(cells: Cells) -> bool:
    """Whether a batch is one row that is much longer than the picture is wide."""
    return cells.rows == 1 and cells.width > 64


def _line_width(batches: list[Cells]) -> int:
    """How long the lines are into which a batch of one row is folded: as wide as the others."""
    others = [cells.width for cells in batches if not _is_flat(cells)]
    if others:
        return max(*others, 1)
    longest = max(cells.width for cells in batches)
    return max(1, int(np.ceil(np.sqrt(4 * longest))))


def _spread(cells: Cells, fold: int) -> tuple[tuple[int, int], Planes]:
    """Give the lines and their width, and the raster: the share of each shade in each cell."""
    total = cells.rows * cells.width
    width = fold if _is_flat(cells) else cells.width
    lines = -(-total // width) if width else cells.rows
    height, columns = min(lines, _LINES), min(width, _COLUMNS)
    planes = np.zeros((3, height, columns))
    if not planes.size:
        return (lines, width), planes
    rows = cells.segments[:, 0] // max(cells.width, 1)
    first = np.searchsorted(rows, rows)  # of each segment's row
    shade = (np.arange(len(rows)) - first) % 2
    everything = np.array([[0, total]], np.int64)
    for k, part in enumerate((cells.segments[shade == 0], cells.segments[shade == 1], everything)):
        planes[k] = _coverage(part, width, lines, height, columns)
    planes[2] -= planes[0] + planes[1]
    return (lines, width), np.clip(planes, 0, 1)


def _coverage(segments: Array, width: int, lines: int, height: int, columns: int) -> Planes:
    """How much of each cell of a raster the segments cover, from 0 to 1; in O(segments + cells).

    A segment adds 1 to all cells from the one after its beginning to the one before its end: two
    steps, summed up once for all. In the cells at its ends it adds what is its own.
    """
    begins, ends = segments[:, 0], segments[:, 1]
    first, last = begins // width, (ends - 1) // width
    pieces = last - first + 1
    line = np.repeat(first, pieces) + _count_up(pieces)
    left = np.maximum(np.repeat(begins, pieces), line * width) - line * width
    right = np.minimum(np.repeat(ends, pieces), (line + 1) * width) - line * width
    row = line * height // lines
    scale = columns / width
    steps = np.zeros((height, columns + 2))
    edge = np.zeros((height, columns + 1))
    left_cell = np.minimum((left * scale).astype(np.int64), columns - 1)
    right_cell = np.minimum((right * scale).astype(np.int64), columns)
    np.add.at(steps, (row, left_cell + 1), 1)
    np.add.at(steps, (row, right_cell), -1)
    np.add.at(edge, (row, left_cell), left_cell + 1 - left * scale)
    np.add.at(edge, (row, right_cell), right * scale - right_cell)
    covered = np.cumsum(steps, axis=1)[:, :columns] + edge[:, :columns]
    shared = np.bincount(np.arange(lines) * height // lines, minlength=height)
    found: Planes = covered / shared[:, None]
    return found


def _count_up(pieces: Array) -> Array:
    """0, 1, ... for each number of pieces, one after another."""
    ends = np.cumsum(pieces)
    total = int(ends[-1]) if len(ends) else 0
    counted_up: Array = np.arange(total) - np.repeat(ends - pieces, pieces)
    return counted_up


def _is_packed(cells: Cells) -> bool:
    """Whether several segments share a row."""
    rows = cells.segments[:, 0] // max(cells.width, 1)
    return bool((rows[1:] == rows[:-1]).any())


def _draw(
    axes: Any, inks: Any, title: str, cells: Cells, spread: Any, first: bool, panels: int
) -> None:
    from matplotlib.colors import to_rgb

    (lines, width), planes = spread
    if planes.size:
        there = planes.sum(axis=0)
        colours = np.array([to_rgb(COLOURS[shade]) for shade in _SHADES])
        image = np.zeros((*there.shape, 4))
        mixed = np.tensordot(planes, colours, axes=(0, 0))
        image[..., :3] = np.clip(mixed / np.maximum(there, 1e-9)[..., None], 0, 1)
        image[..., 3] = np.clip(there, 0, 1)
        if lines <= _APART:
            image = np.repeat(image, _DOTS, axis=0)
            image[_DOTS - 1 :: _DOTS, :, 3] = 0
        drawn = axes.imshow(
            image, extent=(0, width, lines, 0), aspect="auto", interpolation="nearest", zorder=1
        )
        drawn.set_gid("cells")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    whole_ticks(axes.xaxis, 5)
    whole_ticks(axes.yaxis, 5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    total = cells.rows * cells.width
    waste = f"{percent(cells.padding / total)} padding" if total else "no tokens"
    shape = f"{cells.rows:,} x {cells.width:,} tokens, {cells.real:,} of them real"
    folded = _is_flat(cells) and lines > 1
    shape += f"; folded into {counted(lines, 'line')}" if folded else ""
    y = ("line" if folded else "row of the batch") if first else ""
    room = 64 if panels == 1 else 38
    write(axes, inks, f"{shorten(title)}: {waste}", shape, "position, tokens", y, room)
