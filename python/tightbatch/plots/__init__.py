"""Pictures of lengths, waste, packs, ranks and batches, of plain numbers, with matplotlib.

Each function takes arrays, and the axes to draw on, if there are some. It returns the figure. A new
figure belongs to the caller alone: pyplot does not know it, and there is nothing to close.
"""

from __future__ import annotations

from .exponents import plot_exponents
from .leaks import plot_leaks
from .lengths import plot_lengths
from .packs import plot_packs, plot_ranks
from .rows import Cells, plot_rows
from .waste import knee, plot_buckets, plot_strategies, plot_windows

__all__ = [
    "Cells",
    "knee",
    "plot_buckets",
    "plot_exponents",
    "plot_leaks",
    "plot_lengths",
    "plot_packs",
    "plot_ranks",
    "plot_rows",
    "plot_strategies",
    "plot_windows",
]
