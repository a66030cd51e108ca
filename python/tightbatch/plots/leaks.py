"""The picture of leaks: what was changed in a batch, and whose outputs moved."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .read import read_numbers, read_text
from .style import COLOURS, Theme, empty, legend, shorten, start, whole_figure, write

__all__ = ["plot_leaks"]

_MOST_NUMBERS = 12  # rows up to which each cell has its number
_MOST_NAMES = 40  # rows up to which each has its name
_LETTERS = 16  # of a name
_TRIED = (
    "padding changed",
    "more padding",
    "the row alone",
    "others longer, reordered",
    "same batch again",
)
# Orders of magnitude from the tolerance: from what is wanted to what is not, light between them.
_SCALE = ("#08365C", COLOURS["real"], "#F2F2F2", COLOURS["padding"], "#7A2E00")


def plot_leaks(
    rows: Any,
    movements: Any,
    tolerance: float,
    *,
    title: str = "check_model",
    note: str = "",
    ax: Any = None,
    theme: Theme = "auto",
) -> Any:
    """Draw how far outputs moved: blue within the tolerance, orange beyond it.

    Parameters
    ----------
    rows : sequence of str, shape [rows]
        Their names.
    movements : array of float, shape [rows + 5, rows]
        How far the outputs of each row moved when each row was changed, and when the five other
        things were done, as a ModelReport has them: `matrix`, `padding`, `wider`, `alone`,
        `company`, `again`. On the diagonal are the controls. NaN is what was not tried.
    tolerance : float
        What rounding alone may do.
    title, note : str
        What the picture says, and what that rests on.
    ax, theme
        As for :func:`plot_lengths`.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When movements have another shape.
    TypeError
        When `ax` is no Axes.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, tightbatch as tb
    >>> moved = np.full((7, 2), 1e-9)
    >>> figure = tb.plots.plot_leaks(["row 0", "row 1"], moved, 1e-5, title="check_model: holds")
    >>> figure.axes[0].get_xlabel()
    'row whose outputs moved'
    """
    name = "plot_leaks"
    names = _read_names(name, rows)
    count = len(names)
    title, note = read_text(name, "title", title), read_text(name, "note", note)
    tolerance = _core.read_real(name, "tolerance", tolerance, 0.0, 1e300) or 1e-300
    values = read_numbers(name, "movements", movements, "[rows + 5, rows]", unknown=True)
    if values.shape != (count + len(_TRIED), count):
        raise ValueError(
            f"{name}(): movements has the shape {list(values.shape)}, expected "
            f"{[count + len(_TRIED), count]} for {count} rows"
        )
    wide = min(11.0, 5.6 + 0.5 * max(0, count - 2))
    high = min(9.0, 3.8 + 0.3 * count)
    turned = _name_length(names) if _is_turned(names) else 0
    figure, axes, inks = start(name, ax, theme, height=high + 0.07 * turned, width=wide)
    if not count:
        empty(axes, inks, title, "row whose outputs moved", "what was done")
        return figure
    axes.spines[:].set_visible(True)
    control = np.eye(*values.shape, dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.log10(values / tolerance)
    finite = powers[~control & np.isfinite(powers)]
    reach = max(3.0, float(np.ceil(finite.max(initial=0))))
    drawn = np.where(control, np.nan, np.clip(powers, -reach, reach))
    image = _draw(axes, drawn, reach)
    _mark(axes, values, control, tolerance, drawn, reach)
    _name(axes, names)
    for line in (count - 0.5, count + 0.5, count + 3.5):
        axes.axhline(line, color=inks.text, linewidth=1)
    bar = whole_figure(axes).colorbar(image, ax=axes, shrink=0.8)
    _scale(bar, inks, reach, tolerance)
    room = min(90, 34 + 9 * max(0, count - 2))
    x, y = "row whose outputs moved", "what was done"
    write(axes, inks, shorten(title, 2 * room), shorten(note, 3 * room), x, y, room)
    _legend(axes, inks, turned)
    return figure


def _read_names(function: str, rows: Any) -> list[str]:
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, str) for row in rows):
        raise TypeError(f"{function}(): rows is {_core.describe(rows)}, expected a list of str")
    return list(rows)


def _draw(axes: Any, drawn: NDArray[np.float64], reach: float) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("leaks", _SCALE)
    return axes.imshow(drawn, cmap=colours, vmin=-reach, vmax=reach, aspect="auto")


def _name(axes: Any, rows: list[str]) -> None:
    """Name rows; of many only some, so that names do not touch."""
    count = len(rows)
    short = [shorten(row, _LETTERS) for row in rows]
    done = [f"{row} changed" for row in short] + list(_TRIED)
    step = 1 if count <= _MOST_NAMES else -(-count // 20)
    turn = 90 if _is_turned(rows) else 0
    axes.set_xticks(range(0, count, step), short[::step], rotation=turn)
    last = count - step // 2 if step > 1 else count  # the name before the last group has room
    at = [*range(0, last, step), *range(count, count + len(_TRIED))]
    axes.set_yticks(at, [done[i] for i in at], fontsize=9 if count <= 25 else 7)


def _name_length(rows: list[str]) -> int:
    return min(_LETTERS, max(map(len, rows), default=0))


def _is_turned(rows: list[str]) -> bool:
    """Whether names of columns are too long to stand side by side."""
    return len(rows) > 8 or _name_length(rows) > 7


def _scale(bar: Any, inks: Any, reach: float, tolerance: float) -> None:
    ticks = np.arange(-reach, reach + 1, max(1, int(reach // 3)))
    bar.set_ticks(ticks, labels=[f"{tolerance * 10.0**tick:.0e}" for tick in ticks])
    bar.set_label("largest movement, of the largest output\n(white is the tolerance)", fontsize=9)
    bar.ax.yaxis.label.set_color(inks.text)
    bar.ax.tick_params(colors=inks.text, labelsize=9)
    bar.outline.set_edgecolor(inks.text)


def _legend(axes: Any, inks: Any, turned: int) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor="none", edgecolor=inks.text, hatch="////", label="control: must move"),
        Patch(facecolor=COLOURS["padding"], label="leak (also marked !)"),
        Patch(facecolor=COLOURS["real"], label="does not move"),
    ]
    legend(axes, inks, handles, 1, 34 + 6 * turned)


def _mark(axes: Any, values: Any, control: Any, limit: float, drawn: Any, reach: float) -> None:
    """Write numbers into the cells; hatch the controls."""
    from matplotlib.patches import Rectangle

    for i, j in np.argwhere(control):
        axes.add_patch(
            Rectangle(
                (j - 0.5, i - 0.5), 1, 1, facecolor="none", edgecolor="#999999", hatch="////", lw=0
            )
        )
    if len(control[0]) > _MOST_NUMBERS:
        return
    for i, j in np.ndindex(values.shape):
        value, leak = values[i, j], not control[i, j] and values[i, j] > limit
        dark = not np.isnan(drawn[i, j]) and abs(drawn[i, j]) > 0.4 * reach
        plain = control[i, j] or np.isnan(drawn[i, j])
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1} if plain else None
        axes.text(
            j,
            i,
            _written(value) + "!" * bool(leak),
            ha="center",
            va="center",
            fontsize=9 if len(control[0]) <= 6 else 8,
            color="white" if dark else "black",
            fontweight="bold" if leak else "normal",
            bbox=box,
        )


def _written(value: float) -> str:
    if np.isnan(value):
        return "-"
    return "0" if value == 0 else f"{value:.2g}" if 0.001 <= value < 1000 else f"{value:.1e}"
