"""The pictures of a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..plots.inline import inline
from ..plots.lengths import plot_lengths
from ..plots.packs import plot_packs, plot_ranks
from ..plots.style import INKS, Theme, check_place
from ..plots.waste import plot_buckets, plot_strategies, plot_windows

if TYPE_CHECKING:
    from .report import PaddingReport

__all__ = ["PANELS", "as_images", "plot"]

NAME = "PaddingReport.plot"
MOST_PACKS = 100_000  # that are drawn: of more, as many that are spread evenly


def _strategies(report: PaddingReport, **place: Any) -> Any:
    tokens = {
        one.name: {
            "real": one.real_tokens,
            "padding": one.padded_tokens - one.real_tokens,
            "cut": report.tokens_cut,
        }
        for one in report.strategies
    }
    return plot_strategies(tokens, **place)


def _lengths(report: PaddingReport, **place: Any) -> Any:
    bounds = report.boundaries
    return plot_lengths(report.lengths, counts=report.counts, boundaries=bounds, **place)


def _windows(report: PaddingReport, **place: Any) -> Any:
    # Two windows of about as many batches are one point.
    shown = {one.batches: one for one in report.windows}
    shown |= {one.batches: one for one in report.windows if one.is_chosen}
    (chosen,) = (batches for batches, one in shown.items() if one.is_chosen)
    points = sorted(shown.items())
    return plot_windows(
        [batches for batches, _ in points],
        [one.waste for _, one in points],
        [one.mixing for _, one in points],
        chosen=chosen,
        label="mixing of lengths in a batch",
        **place,
    )


def _buckets(report: PaddingReport, **place: Any) -> Any:
    count = len(report.boundaries)
    return plot_buckets(report.bucket_waste, real=report.tokens, chosen=count, **place)


def _packs(report: PaddingReport, **place: Any) -> Any:
    packs = report.pack_tokens
    if len(packs) > MOST_PACKS:
        packs = packs[np.linspace(0, len(packs) - 1, MOST_PACKS).astype(np.int64)]
    return plot_packs(packs, report.capacity, **place)


def _ranks(report: PaddingReport, **place: Any) -> Any:
    return plot_ranks(report.loads, **place)


PANELS: dict[str, Callable[..., Any]] = {
    "strategies": _strategies,
    "lengths": _lengths,
    "windows": _windows,
    "buckets": _buckets,
    "packs": _packs,
    "ranks": _ranks,
}


def plot(report: PaddingReport, panel: str, ax: Any, theme: Theme) -> Any:
    """Draw one panel, or all of them."""
    if panel != "all":
        check_place(NAME, ax, theme)
        return PANELS[panel](report, ax=ax, theme=theme)
    if ax is not None:
        raise ValueError(f"{NAME}(): ax with panel='all'; expected one panel, or no ax")
    names = list(PANELS)[: 6 if report.settings["num_replicas"] > 1 else 5]
    new_figure = check_place(NAME, None, theme)
    ground = {} if theme == "auto" else {"facecolor": INKS[theme].background}
    figure = new_figure(figsize=(11.6, 3.9 * 3), **ground)
    places = figure.subplots(3, 2).flat
    for name, place in zip(names, places, strict=False):
        PANELS[name](report, ax=place, theme=theme)
    for place in places:  # without ranks to draw
        place.remove()
    return figure


def as_images(report: PaddingReport) -> str:
    """Give pictures as HTML, legible in light and dark; "" without matplotlib."""
    return "".join(
        inline(lambda panel=panel: plot(report, panel, None, "both"))  # type: ignore[misc]
        for panel in ("strategies", "lengths", "windows")
    )
