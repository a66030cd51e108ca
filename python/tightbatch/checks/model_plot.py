"""The picture of a ModelReport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .model_compare import written

if TYPE_CHECKING:
    from .model_report import ModelReport

_MOST_NUMBERS = 12  # rows up to which each cell has its number


def plot(report: ModelReport, ax: Any) -> Any:
    """Draw movements as colours: blue within the tolerance, orange beyond it."""
    try:
        import matplotlib.pyplot as plt
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.patches import Patch
    except ImportError as error:
        raise ImportError(
            "ModelReport.plot() draws with matplotlib: pip install matplotlib"
        ) from error
    count = len(report.rows)
    values = np.vstack(
        [report.matrix, report.padding, report.wider, report.alone, report.company, report.again]
    )
    if ax is None:
        size = min(12.0, 4.2 + 0.55 * count)
        ax = plt.subplots(figsize=(size + 1.5, 0.7 * size + 1.6), layout="constrained")[1]
    # Orders of magnitude from the tolerance: two hues that all eyes tell apart, light between them.
    colours = LinearSegmentedColormap.from_list(
        "leaks", ["#0b3c6f", "#5a9bd4", "#f2f2f2", "#f0a050", "#b34700"]
    )
    with np.errstate(divide="ignore"):
        powers = np.log10(values / report.tolerance)
    control = np.zeros(values.shape, bool)
    control[np.arange(count), np.arange(count)] = True
    reach = 3.0
    finite = powers[~control & np.isfinite(powers)]
    if finite.size:
        reach = max(reach, float(np.ceil(finite.max())))
    drawn = np.where(control, np.nan, np.clip(powers, -reach, reach))
    image = ax.imshow(drawn, cmap=colours, vmin=-reach, vmax=reach, aspect="auto")
    _mark(ax, values, control, report.tolerance, count, drawn, reach)
    names = [f"{row} changed" for row in report.rows]
    names += ["padding changed", "more padding", "the row alone"]
    names += ["others longer, reordered", "same batch again"]
    ax.set_yticks(range(len(names)), names)
    ax.set_xticks(range(count), report.rows, rotation=0 if count <= 8 else 90)
    if count > 40:
        step = -(-count // 20)
        ax.set_xticks(range(0, count, step), report.rows[::step], rotation=90)
        rest = [*range(0, count, step), *range(count, count + 5)]
        ax.set_yticks(rest, [names[i] for i in rest])
    for line in (count - 0.5, count + 0.5, count + 3.5):
        ax.axhline(line, color="#444444", linewidth=1)
    ax.set(xlabel="row whose outputs moved", ylabel="what was done")
    ax.set_title(_title(report), fontsize=10)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    ticks = np.arange(-reach, reach + 1, max(1, int(reach // 3)))
    bar.set_ticks(ticks, labels=[f"{report.tolerance * 10.0**tick:.0e}" for tick in ticks])
    bar.set_label("largest movement, of the largest output (white is the tolerance)")
    ax.legend(
        handles=[
            Patch(
                facecolor="#ffffff", edgecolor="#666666", hatch="////", label="control: must move"
            ),
            Patch(facecolor="#b34700", label="leak (also marked !)"),
            Patch(facecolor="#0b3c6f", label="does not move"),
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.12),
        ncols=3,
        fontsize=8,
        frameon=False,
    )
    return ax


def _title(report: ModelReport) -> str:
    text = report.summary()
    verdict, _, bound = text.partition(" (")
    return f"check_model: {verdict}\n({bound}"


def _mark(
    ax: Any, values: Any, control: Any, limit: float, count: int, drawn: Any, reach: float
) -> None:
    """Write numbers into the cells; hatch the controls."""
    from matplotlib.patches import Rectangle

    for i, j in np.argwhere(control):
        ax.add_patch(
            Rectangle(
                (j - 0.5, i - 0.5), 1, 1, facecolor="none", edgecolor="#999999", hatch="////", lw=0
            )
        )
    if count > _MOST_NUMBERS:
        return
    for i, j in np.ndindex(values.shape):
        value, leak = values[i, j], not control[i, j] and values[i, j] > limit
        dark = not np.isnan(drawn[i, j]) and abs(drawn[i, j]) > 0.55 * reach
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1} if control[i, j] else None
        ax.text(
            j,
            i,
            written(value) + "!" * bool(leak),
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
            fontweight="bold" if leak else "normal",
            bbox=box,
        )
