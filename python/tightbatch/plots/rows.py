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


class _Sheet(NamedTuple):
    """What one axes shows: lines of one width, where there are tokens, and which are real."""

    batches: int
    rows: int
    lines: int
    width: int
    segments: Array
    places: Array  # [stretches, 2]: all tokens of the batches, real or not
    shades: Array  # [segments]: 0 and 1 in turns, within each row
    folded: bool

    @property
    def real(self) -> int:
        return int((self.segments[:, 1] - self.segments[:, 0]).sum())

    @property
    def total(self) -> int:
        return int((self.places[:, 1] - self.places[:, 0]).sum())


def plot_rows(
    panels: Mapping[str, Cells | list[Cells]],
    *,
    ax: Any = None,
    theme: Theme = "auto",
    title: str = "",
) -> Any:
    """Draw batches side by side, on one scale: equal areas are equally many tokens.

    Parameters
    ----------
    panels : mapping of str to Cells, or to a list of them
        Up to four batches with their titles, such as "before" and "after". A batch of one long row
        is folded into lines. Several batches of one title are drawn below each other, each as wide
        as it is.
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
    fold = _line_width([cells for every in found.values() for cells in every])
    sheets = {key: _lay(every, fold) for key, every in found.items()}
    lines = max(sheet.lines for sheet in sheets.values())
    wide = max(sheet.width for sheet in sheets.values())
    height = 1.4 + min(3.4, max(0.9, 0.085 * lines))
    if len(found) == 1:
        figure, axes, inks = start(name, ax, theme, height=height)
        every = [axes]
    else:
        figure, _, inks = start(name, None, theme, height=height, width=3.1 * len(found))
        figure.clear()
        made = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
        every = [dress(one, inks) for one in made]
    for i, (key, sheet) in enumerate(sheets.items()):
        _draw(every[i], inks, key, sheet, i == 0, len(found))
        every[i].set_xlim(0, max(wide, 1))
        every[i].set_ylim(max(lines, 1), 0)
    shades = (
        [0, 1, 2]
        if any(_is_packed(cells) for every in found.values() for cells in every)
        else [0, 2]
    )
    words = ("real tokens", "the next row of a pack", "padding")
    legend(every[0], inks, [patch(_SHADES[k], words[k]) for k in shades])
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=inks.text)
    return figure


def _read(function: str, panels: Any) -> dict[str, list[Cells]]:
    """The batches of each panel, without segments that are empty."""
    given = panels if isinstance(panels, Mapping) else {}
    found = {key: value if isinstance(value, list) else [value] for key, value in given.items()}
    is_right = isinstance(panels, Mapping) and all(
        isinstance(key, str) and all(isinstance(cells, Cells) for cells in every)
        for key, every in found.items()
    )
    if not is_right:
        raise TypeError(
            f"{function}(): panels is {_core.describe(panels)}, expected a dict of str to Cells"
        )
    if not 1 <= len(found) <= _MOST_PANELS or not all(found.values()):
        raise ValueError(
            f"{function}(): panels has {len(found)} titles, expected 1 to {_MOST_PANELS} with at "
            "least one batch each"
        )
    return {key: [_checked(function, key, *each) for each in every] for key, every in found.items()}


def _checked(function: str, key: str, rows: int, width: int, segments: Any) -> Cells:
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
    return Cells(rows, width, full.astype(np.int64))


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


def _lay(batches: list[Cells], fold: int) -> _Sheet:
    """Lay batches below each other, on lines of one width; `fold` is none of theirs less."""
    width = max(fold if _is_flat(cells) else cells.width for cells in batches)
    line, segments, places, shades = 0, [], [], []
    for cells in batches:
        row = cells.segments[:, :1] // max(cells.width, 1)
        if _is_flat(cells):
            own, moved = np.array([[0, cells.width]]), cells.segments
            lines = -(-cells.width // width)
        else:
            lines = cells.rows
            own = np.arange(lines)[:, None] * width + np.array([0, cells.width])
            moved = cells.segments + row * (width - cells.width)
        segments.append(moved + line * width)
        places.append(own + line * width)
        shades.append((np.arange(len(row)) - np.searchsorted(row[:, 0], row[:, 0])) % 2)
        line += lines
    rows = sum(cells.rows for cells in batches)
    flat = any(_is_flat(cells) for cells in batches)
    return _Sheet(
        batches=len(batches),
        rows=rows,
        lines=line,
        width=width,
        segments=np.concatenate(segments),
        places=np.concatenate(places),
        shades=np.concatenate(shades),
        folded=flat and line > rows,
    )


def _spread(sheet: _Sheet) -> Planes:
    """Give the raster: the share of each shade in each of its cells."""
    height, columns = min(sheet.lines, _LINES), min(sheet.width, _COLUMNS)
    planes = np.zeros((3, height, columns))
    if not planes.size:
        return planes
    by_shade = [sheet.segments[sheet.shades == shade] for shade in (0, 1)]
    for k, part in enumerate((*by_shade, sheet.places)):
        planes[k] = _coverage(part, sheet.width, sheet.lines, height, columns)
    planes[2] -= planes[0] + planes[1]
    return np.clip(planes, 0, 1)


def _coverage(segments: Array, width: int, lines: int, height: int, columns: int) -> Planes:
    """How much of each cell of a raster the segments cover, from 0 to 1; in O(segments + cells).

    A segment adds 1 to all cells from the one after its beginning to the one before its end: two
    steps, summed up once for all. In the cells at its ends it adds what is its own.
    """
    line, left, right = _pieces(segments, width)
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


def _pieces(segments: Array, width: int) -> tuple[Array, Array, Array]:
    """Cut segments where lines end: the line of each piece, and its place in it."""
    begins, ends = segments[:, 0], segments[:, 1]
    first, last = begins // width, (ends - 1) // width
    pieces = last - first + 1
    line = np.repeat(first, pieces) + _count_up(pieces)
    left = np.maximum(np.repeat(begins, pieces), line * width) - line * width
    right = np.minimum(np.repeat(ends, pieces), (line + 1) * width) - line * width
    return line, left, right


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


def _draw(axes: Any, inks: Any, title: str, sheet: _Sheet, first: bool, panels: int) -> None:
    from matplotlib.colors import to_rgb

    planes, lines = _spread(sheet), sheet.lines
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
        axes.imshow(
            image, extent=(0, sheet.width, lines, 0), aspect="auto", interpolation="nearest",
            zorder=1, gid="cells",
        )  # fmt: skip
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    whole_ticks(axes.xaxis, 5)
    whole_ticks(axes.yaxis, 5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    total, real = sheet.total, sheet.real
    waste = f"{percent((total - real) / total)} padding" if total else "no tokens"
    shape = f"{sheet.rows:,} x {sheet.width:,} tokens"
    if sheet.folded and sheet.batches == 1:
        shape = f"{sheet.rows:,} x {total:,} tokens"
    elif sheet.batches > 1:
        shape = f"{sheet.batches:,} batches, {total:,} tokens"
    shape += f", {real:,} real"
    shape += f"; folded into {counted(lines, 'line')}" if sheet.folded else ""
    y = ("line" if sheet.folded else "row") if first else ""
    room = 64 if panels == 1 else 40
    write(axes, inks, f"{shorten(title)}: {waste}", shape, "position, tokens", y, room)
