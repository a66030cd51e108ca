"""The one style of all pictures: a colour for each thing, legible in light and dark.

Colours are told apart by people who see no red, no green or no blue: `tests/test_plots_style.py`
simulates it. Their luminance lies between 0.13 and 0.30, so that each has a contrast of at least
3 to 1 to white and to the dark backgrounds of notebooks. What must not rest on colour alone is
hatched, dashed, or has a number on it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from .. import _core

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "MARKERS", "STRATEGIES", "Inks", "ordered", "strategy_of"]

# Blue and orange are from M. Okabe and K. Ito, "Color universal design" (2008).
COLOURS = {
    "real": "#0072B2",  # tokens of rows
    "real 2": "#4A9BD1",  # the same, of every other row of a pack
    "padding": "#D55E00",
    "cut": "#7F7F7F",  # hatched too: tokens that were cut off
    "bound": "#009E73",  # of a bucket; what was chosen
    # Strategies, where each is a line or a point; a marker tells them apart too.
    "fixed": "#7F7F7F",
    "dynamic": "#B44522",
    "uniform_length": "#7B61FF",
    "bucketed": "#AA4499",
    "packed": "#C77C00",
    "padding_free": "#8C5FD3",
    "sampler": "#9C755F",  # the reader's own
}
STRATEGIES = ("fixed", "dynamic", "uniform_length", "bucketed", "packed", "padding_free", "sampler")
MARKERS = dict(zip(STRATEGIES, "sov^DPX", strict=True))
HATCH = "////"  # of what was cut
HATCH_COLOUR = "#FFFFFFAA"
Theme: TypeAlias = Literal["auto", "light", "dark", "both"]
THEMES = ("auto", "light", "dark", "both")
_WIDTH = 5.6  # inches: at 100 pixels each, text of 10 points stays legible at half that width
_WORDS = {
    "padding_free": "free|flatten",
    "packed": "pack",
    "bucketed": "bucket",
    "uniform_length": "uniform|length",
    "dynamic": "dynamic",
    "fixed": "fixed",
    "sampler": "sampler|own|yours",
}


class Inks(NamedTuple):
    """The colours of a background and of what is written on it."""

    text: str
    faint: str
    background: str


INKS = {
    "light": Inks("#222222", "#CCCCCC", "#FFFFFF"),
    "dark": Inks("#E6E6E6", "#4A4A4A", "#121212"),
    # A contrast of 4 to 1 to white and to #1E1E1E, which is the most that one colour can have.
    "both": Inks("#7F7F7F", "#7F7F7F55", "none"),
}


def strategy_of(name: str) -> str | None:
    """Give the key of a strategy by any of its names: "Fixed padding" is "fixed"."""
    plain = re.sub(r"[^a-z]+", "_", name.lower())
    if plain in STRATEGIES:
        return plain
    return next((key for key, words in _WORDS.items() if re.search(words, plain)), None)


def ordered(names: Iterable[str]) -> list[str]:
    """Sort names of strategies: those that are known in one order everywhere, then the others."""
    places = {key: i for i, key in enumerate(STRATEGIES)}
    return sorted(names, key=lambda name: places.get(strategy_of(name) or "", len(places)))


def start(
    function: str, ax: Any, theme: Any, height: float = 3.2, width: float = _WIDTH
) -> tuple[Figure, Axes, Inks]:
    """Give where to draw: a new figure of its own, or the caller's axes, and its colours."""
    new_figure = check_place(function, ax, theme)
    if ax is None:
        inks = _inks_of(theme, None)
        figure = new_figure(figsize=(width, height), facecolor=inks.background)
        return figure, dress(figure.subplots(), inks), inks
    inks = _inks_of(theme, ax)
    return whole_figure(ax), dress(ax, inks), inks


def check_place(function: str, ax: Any, theme: Any) -> Any:
    """Check where and how to draw, and give the class of our figures."""
    _core.read_choice(function, "theme", theme, THEMES)
    try:
        from .figure import Picture
    except ImportError as error:
        raise ImportError(
            f"{function}() draws with matplotlib: python -m pip install matplotlib"
        ) from error
    from matplotlib.axes import Axes

    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(
            f"{function}(): ax is {_core.describe(ax)}, expected a matplotlib Axes, such as "
            "figure.subplots() gives"
        )
    return Picture


def whole_figure(ax: Any) -> Figure:
    """The figure that an axes is in, which may be in a figure's part."""
    figure = ax.figure
    while getattr(figure, "figure", figure) is not figure:
        figure = figure.figure
    found: Figure = figure
    return found


def _inks_of(theme: str, ax: Any) -> Inks:
    """The colours of a theme; "auto" looks at the background, or at matplotlib's settings."""
    if theme != "auto":
        return INKS[theme]
    from matplotlib import rcParams
    from matplotlib.colors import to_hex, to_rgba

    behind = ax.get_facecolor() if ax is not None else rcParams["figure.facecolor"]
    if to_rgba(behind)[3] < 0.5:
        behind = whole_figure(ax).get_facecolor() if ax is not None else "white"
    if to_rgba(behind)[3] < 0.5:
        return INKS["both"]
    is_dark = luminance(to_hex(behind)) < 0.18
    return INKS["dark" if is_dark else "light"]._replace(background=to_hex(behind))


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb", as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def dress(ax: Any, inks: Inks) -> Axes:
    """Give an axes the style: few lines, quiet ones, and text in the theme's colour."""
    ax.set_facecolor("none")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for spine in ax.spines.values():
        spine.set_color(inks.text)
        spine.set_linewidth(0.8)
    ax.tick_params(colors=inks.text, which="both", labelsize=9)
    ax.xaxis.label.set_color(inks.text)
    ax.yaxis.label.set_color(inks.text)
    ax.set_axisbelow(True)
    dressed: Axes = ax
    return dressed


def write(ax: Any, inks: Inks, title: str, note: str, x: str, y: str, room: int = 64) -> None:
    """Write the title, what it rests on below it, and the names of the axes with their units.

    `room` is how many letters of the note are as wide as the axes.
    """
    lines = textwrap.wrap(note, room)
    title = "\n".join(textwrap.wrap(title, max(12, int(room / 1.35))))
    pad = 5 + 11.5 * len(lines)
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=inks.text, pad=pad)
    ax.annotate(
        "\n".join(lines),
        (0, 1),
        (0, 4),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=inks.text,
        va="bottom",
        ha="left",
        gid="note",
    ).set_in_layout(False)  # the title has the room above it; its width must not shrink the axes
    ax.set_xlabel(x, color=inks.text, fontsize=10)
    ax.set_ylabel(y, color=inks.text, fontsize=10)


def legend(ax: Any, inks: Inks, handles: list[Any], columns: int = 3, below: float = 34) -> None:
    """Write the legend below the axes, where it hides nothing; `below` is in points."""
    from matplotlib.transforms import ScaledTranslation

    figure = whole_figure(ax)
    fit = max(1, int(ax.bbox.width / figure.dpi / 1.05))  # inches that an entry takes
    down = ScaledTranslation(0, -below / 72, figure.dpi_scale_trans)
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes + down,
        ncols=min(len(handles), columns, fit),
        frameon=False,
        fontsize=9,
        labelcolor=inks.text,
        handlelength=1.4,
        columnspacing=1.4,
        borderaxespad=0,
    )


def patch(role: str, label: str) -> Any:
    """Give the legend's entry of an area of a role."""
    from matplotlib.patches import Patch

    hatch = HATCH if role == "cut" else None
    return Patch(facecolor=COLOURS[role], edgecolor=HATCH_COLOUR, lw=0, hatch=hatch, label=label)


def shorten(name: str, most: int = 28) -> str:
    """Cut a name in its middle: its beginning and its end tell most."""
    text = "".join(c if c.isprintable() else "?" for c in str(name))
    # A dollar sign would begin a formula.
    text = text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"
    return text.replace("$", r"\$")


def grouped(number: float) -> str:
    """Write a count short: 950, 12.3k, 4.56M."""
    for power, letter in (
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
    ):
        if abs(number) >= power:
            return f"{number / power:.3g}{letter}"
    return f"{number:.3g}"


def whole_ticks(axis: Any, most: int = 6) -> None:
    """Put ticks at whole numbers alone, of small ranges too."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(
        MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )


def empty(ax: Any, inks: Inks, title: str, x: str, y: str) -> None:
    """Say that there is nothing to draw."""
    write(ax, inks, title, "there is nothing to draw", x, y)
    ax.set(xticks=[], yticks=[])


def percent(share: float) -> str:
    """Write a share as percent, with the digits that count, near 0 and near 100 too."""
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    digits = 0 if 10 <= value < 90 else 1 if 1 <= value < 99 else 2
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return "< 0.01 %"
    return "> 99.99 %" if float(text) == 100 and value < 100 else f"{text} %"
