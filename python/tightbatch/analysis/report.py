"""What analyze found: as numbers, text, HTML and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..plots.style import Theme

__all__ = ["PaddingReport", "Strategy", "Window"]

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Strategy:
    """What one way of making batches costs in an epoch.

    Attributes
    ----------
    name, call : str
        What it is called, and the call that makes it.
    batches : int
        Batches in an epoch, of all ranks together.
    real_tokens, padded_tokens : int
        Tokens of rows, and tokens of batches: these include the padding.
    waste : float
        The part of padded tokens that is padding, from 0 to 1.
    attention : float
        Pairs of positions that attention looks at, in one head of one layer: rows times the square
        of the width. Where rows are kept apart in packs and padding-free batches, the sum of the
        squares of their lengths.
    speed_up, attention_speed_up : float
        Tokens, and attention, of fixed padding, divided by those here.
    widths, shapes : int
        Different widths of batches; different shapes, of rows and width.
    largest_rows, largest_width, largest_tokens, largest_bytes : int
        Of the batch with the most tokens; bytes of one column of int64, 8 a token.
    balance : float
        Of ranks that wait for each other at each step, the part of the time that they work, if time
        grows with tokens: from 0 to 1; 1 for one rank.
    length_std : float
        The standard deviation of the mean lengths of batches (of packs, of packs), as
        ``fairness()`` gives it.
    """

    name: str
    call: str
    batches: int
    real_tokens: int
    padded_tokens: int
    waste: float
    attention: float
    speed_up: float
    attention_speed_up: float
    widths: int
    shapes: int
    largest_rows: int
    largest_width: int
    largest_tokens: int
    largest_bytes: int
    balance: float
    length_std: float


@dataclass(frozen=True)
class Window:
    """What one ``shuffle_window`` costs in padding and in randomness.

    Attributes
    ----------
    rows, batches : int
        The window, in rows and in batches.
    data_rows : int
        All rows, of which this is a window.
    is_chosen : bool
        Whether it is that of the report's strategies.
    padded_tokens, waste, attention, speed_up, length_std
        As in :class:`Strategy`.
    forced : float
        How much wider the mean lengths of batches spread than those of random batches, in tokens:
        the price in randomness. See ``fairness()``.
    mixing : float
        The part of the variance of lengths that lies inside batches, against random batches: 1 is
        as random as these, 0 is batches of one length each.
    """

    rows: int
    batches: int
    data_rows: int
    is_chosen: bool
    padded_tokens: int
    waste: float
    attention: float
    speed_up: float
    length_std: float
    forced: float
    mixing: float


@dataclass(frozen=True, eq=False)
class PaddingReport:
    """What each way of padding and batching costs: the result of :func:`analyze`.

    ``print`` shows it as text as wide as the terminal, rich's ``print`` in colour, a notebook as
    HTML with pictures.

    Attributes
    ----------
    rows, tokens, longest : int
        What is batched: rows, their tokens, and the longest row, after cutting.
    mean_length, median_length : float
    rows_cut, tokens_cut : int
        Rows that `max_length` or ``overlong="truncate"`` cut, and the tokens that they lost.
    rows_dropped : int
        Rows that ``overlong="drop"`` leaves out.
    settings : dict
        As passed to :func:`analyze`.
    strategies : tuple of Strategy
        "fixed", "dynamic", "uniform-length", "optimal buckets", "packed", "padding-free", and "your
        sampler" if one was given. ``report["packed"]`` gives one of them.
    windows : tuple of Window
        What each ``shuffle_window`` costs, from random batches to one window of all rows.
    estimate : Window or None
        With fewer rows than the default window of 100 batches needs: what it would cost on as many
        rows as it needs, if each of these came several times. No other figure is an estimate.
    limit, attention_limit : float
        The largest speed-up against fixed padding that there can be: that without any padding.
    capacity : int
        Tokens in a pack.
    pack_tokens : ndarray of int64, shape [packs]
        Tokens in each pack.
    loads : ndarray of int64, shape [steps, ranks]
        Tokens of each rank at each step, padding included, of "uniform-length"; of one rank in no
        particular order of steps.
    boundaries : ndarray of int64
        The widths of the optimal buckets.
    bucket_waste : ndarray of int64
        The least padding with 1, 2, ... widths, in tokens, if each row had its own bucket's width.
    lengths, counts : ndarray of int64
        The different lengths, ascending, and how many rows have each.
    recommended : str
        The name of the strategy of the verdict.
    verdict : str
        What follows, in a sentence or two.
    code : str
        What to paste. It takes ``lengths``, or ``data`` with a column; padding-free, a ``model``
        too, which has to keep rows apart.

    Examples
    --------
    >>> import tightbatch as tb
    >>> report = tb.analyze([100, 20, 60, 20] * 1000, batch_size=8, shuffle_window=None)
    >>> report["fixed"].waste, report["uniform-length"].waste
    (0.5, 0.0)
    >>> report["uniform-length"].speed_up, report.limit
    (2.0, 2.0)
    >>> print(report.code)
    import tightbatch as tb
    sampler = tb.LengthBatchSampler(lengths, batch_size=8, shuffle_window=None)
    collate_fn = tb.PadCollator()
    """

    rows: int
    tokens: int
    longest: int
    mean_length: float
    median_length: float
    rows_cut: int
    tokens_cut: int
    rows_dropped: int
    settings: dict[str, Any]
    strategies: tuple[Strategy, ...]
    windows: tuple[Window, ...]
    estimate: Window | None
    limit: float
    attention_limit: float
    capacity: int
    pack_tokens: Array
    loads: Array
    boundaries: Array
    bucket_waste: Array
    lengths: Array
    counts: Array
    recommended: str
    verdict: str
    code: str

    def __getitem__(self, strategy: str) -> Strategy:
        """Give a strategy by its name."""
        for one in self.strategies:
            if isinstance(strategy, str) and one.name == strategy:
                return one
        names = ", ".join(repr(one.name) for one in self.strategies)
        found = _core.describe(strategy)
        raise KeyError(f"PaddingReport: no strategy {found}; expected one of {names}")

    def __iter__(self) -> Iterator[Strategy]:
        """Give the strategies."""
        return iter(self.strategies)

    def __len__(self) -> int:
        """The number of strategies."""
        return len(self.strategies)

    def to_dict(self) -> dict[str, Any]:
        """Give everything but `pack_tokens` and `loads` as lists, numbers and strings, for JSON."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name in ("pack_tokens", "loads"):
                continue
            if isinstance(value, np.ndarray):
                found[name] = value.tolist()
            elif name in ("strategies", "windows"):
                found[name] = [asdict(one) for one in value]
            elif isinstance(value, Window):
                found[name] = asdict(value)
            else:
                found[name] = value
        return found

    def to_pandas(self) -> Any:
        """Give a pandas DataFrame with a row for each strategy.

        Raises
        ------
        ImportError
            When pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError(
                "PaddingReport.to_pandas() needs pandas: python -m pip install pandas"
            ) from None
        return pandas.DataFrame([asdict(one) for one in self.strategies]).set_index("name")

    def plot(
        self,
        panel: Literal[
            "all", "strategies", "lengths", "windows", "buckets", "packs", "ranks"
        ] = "all",
        ax: Any = None,
        *,
        theme: Theme = "auto",
    ) -> Any:
        """Draw the report.

        Parameters
        ----------
        panel : str
            "strategies": real tokens and padding of each; "lengths": how many rows have which
            length, with the bounds of the buckets; "windows": padding and mixing against
            `shuffle_window`; "buckets": waste against the number of buckets; "packs": how full they
            are; "ranks": the load of each. "all" draws all of them in one figure.
        ax : matplotlib Axes, optional
            Where to draw one panel; a new figure's otherwise.
        theme : {"auto", "light", "dark", "both"}
            As for :func:`tightbatch.plot_batch`.

        Returns
        -------
        matplotlib Figure

        Raises
        ------
        ValueError
            When there is no such panel or theme, or an `ax` for all panels.
        TypeError
            When `ax` is no Axes.
        ImportError
            When matplotlib is not installed.

        Examples
        --------
        >>> import tightbatch as tb
        >>> report = tb.analyze([5, 9, 3, 7] * 100, batch_size=8)
        >>> report.plot("lengths").axes[0].get_title(loc="left")
        'Lengths of 400 rows'
        """
        names = ("all", "strategies", "lengths", "windows", "buckets", "packs", "ranks")
        chosen = _core.read_choice("PaddingReport.plot", "panel", panel, names)
        from .report_plot import plot

        return plot(self, chosen, ax, theme)

    def __str__(self) -> str:
        """Show tables, the verdict and the code, as wide as the terminal."""
        from .report_text import as_text

        return as_text(self)

    def __repr__(self) -> str:
        """Show the verdict."""
        return f"<PaddingReport: {self.verdict}>"

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from .report_text import as_rich

        return as_rich(self, options.max_width)

    def _repr_html_(self) -> str:
        from .report_text import as_html

        return as_html(self)
