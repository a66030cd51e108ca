"""What check_model found: as numbers, text, HTML and a picture."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._html import Cell, paragraphs, table
from .._words import counted
from ..plots.style import Theme, check_place
from .model_compare import written
from .model_where import Place

_SHOWN = 12  # rows of the text's matrix
_PADDING, _WIDER, _ALONE, _COMPANY, _AGAIN = (
    "padding changed",
    "more padding",
    "the row alone",
    "others longer, reordered",
    "the same batch again",
)
_LEGEND = (
    "A column for each row of the batch: how far its outputs moved, of the largest output. ( ) is "
    "the control that must move, ! is over the tolerance, - was not tried."
)


@dataclass(frozen=True, eq=False)
class ModelReport:
    """Whose outputs moved, and by how much: the result of :func:`check_model`.

    All movements are the largest difference of any number of a row's outputs, divided by the
    largest magnitude of that output in the batch. NaN is what was not tried.

    Attributes
    ----------
    holds : bool
        Whether nothing leaks and the controls are as they must be: then padding and other rows did
        not affect what the model gives for these rows, within the tolerance.
    rows : tuple of str
        The names of the rows: "row 0", of a pack "row 0.1".
    matrix : ndarray, float64 [rows, rows]
        ``[i, j]``: how far the outputs of row j moved when the tokens of row i were replaced. On
        the diagonal are the controls: a row must move its own outputs.
    padding : ndarray, float64 [rows]
        How far they moved when the padding was replaced. A loss of the whole batch that moves is
        counted for each row here, and in `wider`; not where labels that padding predicts, of
        left-padded rows' first tokens, move it alone: then a note says so.
    wider : ndarray, float64 [rows]
        How far they moved when the batch got more padding.
    alone : ndarray, float64 [rows]
        How far they are from the outputs for the row alone, without padding.
    company : ndarray, float64 [rows]
        How far they moved when other rows were made longer and the order was reversed.
    again : ndarray, float64 [rows]
        How far they moved when the same batch was given again: a control.
    tolerance : float
        What rounding alone may do.
    dtype : str
        The coarsest floating type that a module gave.
    depth : int
        Calls of modules with weights.
    outputs : dict of str to str
        What each output is: "for each token", "for each row", "for the whole batch", or "not
        compared".
    scales : dict of str to float
        The largest magnitude of each output that was compared.
    place : Place or None
        The first module where numbers of a row moved.
    notes : tuple of str

    Examples
    --------
    >>> import tightbatch as tb, torch
    >>> class Mean(torch.nn.Module):
    ...     def forward(self, x, mask):
    ...         return x.mean(1)  # the mean over the padding too
    >>> samples = [{"x": [[1.0], [2.0]]}, {"x": [[3.0]]}]
    >>> def collate(samples):
    ...     batch = tb.PadCollator({"x": 0})(samples)
    ...     return {"x": batch["x"], "mask": batch["attention_mask"]}
    >>> report = tb.check_model(Mean(), collate, samples)
    >>> report.holds, report.leaks[:3]
    (False, ('padding -> row 1', 'more padding -> row 0', 'more padding -> row 1'))
    """

    holds: bool
    rows: tuple[str, ...]
    matrix: NDArray[np.float64]
    padding: NDArray[np.float64]
    wider: NDArray[np.float64]
    alone: NDArray[np.float64]
    company: NDArray[np.float64]
    again: NDArray[np.float64]
    tolerance: float
    dtype: str
    depth: int
    outputs: dict[str, str]
    scales: dict[str, float]
    place: Place | None
    notes: tuple[str, ...]

    @property
    def leaks(self) -> tuple[str, ...]:
        """What moved a row's outputs that must not: "row 0 -> row 1", "padding -> row 1", ..."""
        found = [
            f"{self.rows[i]} -> {self.rows[j]}"
            for i, j in np.argwhere(self.matrix > self.tolerance)
            if i != j
        ]
        for name, moved, sign in (
            ("padding", self.padding, " -> "),
            ("more padding", self.wider, " -> "),
            ("alone", self.alone, ": "),
            ("company", self.company, ": "),
        ):
            found += [f"{name}{sign}{self.rows[j]}" for j in np.flatnonzero(moved > self.tolerance)]
        return tuple(found)

    @property
    def largest(self) -> float:
        """The largest movement that must not be; 0 if nothing was tried."""
        others = self.matrix[~np.eye(len(self.rows), dtype=bool)]
        every = np.concatenate([others, self.padding, self.wider, self.alone, self.company])
        return float(np.nanmax(every, initial=0.0))

    @property
    def unmoved(self) -> tuple[str, ...]:
        """Rows whose own tokens do not move their outputs: nothing is shown for them."""
        own = np.diagonal(self.matrix)
        return tuple(self.rows[i] for i in np.flatnonzero(~(own > self.tolerance)))

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings and lists, for JSON; None for what was not tried."""
        found: dict[str, Any] = {"holds": self.holds, "rows": list(self.rows)}
        for name in ("matrix", "padding", "wider", "alone", "company", "again"):
            found[name] = _plain(getattr(self, name))
        for name in ("tolerance", "dtype", "depth", "largest"):
            found[name] = getattr(self, name)
        found |= {"outputs": dict(self.outputs), "scales": dict(self.scales)}
        found |= {"leaks": list(self.leaks), "unmoved": list(self.unmoved)}
        place = self.place
        found["place"] = None if place is None else {**vars(place), "between": list(place.between)}
        return {**found, "notes": list(self.notes)}

    def __str__(self) -> str:
        """The verdict, the matrix, and where to look."""
        table = [["", *(self.rows[j] for j in self._shown())], *self._lines()]
        widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        return "\n".join([self.summary(), "", *lines, "", *self._rest()])

    def __repr__(self) -> str:
        """Show the verdict."""
        return f"<ModelReport: {self.summary()}>"

    def _repr_html_(self) -> str:
        shown = self._shown()
        rows = ((Cell(line[0], is_head=True), *map(_cell, line[1:])) for line in self._lines())
        shown_rows = table(["", *map(self._name, shown)], rows)
        verdict = f"<p><b>{html.escape(self.summary())}</b></p>"
        return verdict + shown_rows + self._picture() + paragraphs(self._rest())

    def _picture(self) -> str:
        """The plot, for HTML, where a table does not show all rows."""
        from ..plots.inline import inline

        return inline(lambda: self._draw(None, "both")) if len(self.rows) > _SHOWN else ""

    def summary(self) -> str:
        """The verdict in a line."""
        bound = f"tolerance {self.tolerance:.1e} of the largest output: {self.dtype}, "
        bound += f"depth {self.depth}"
        if self.holds:
            rows, largest = counted(len(self.rows), "row"), written(self.largest)
            held = f"holds: {rows} stay as they are, within {largest} ({bound})"
            if np.isnan(self.padding).all():
                held += "; the batch has no padding: nothing of padding was tried"
            return held
        if np.nanmax(self.again, initial=0.0) > self.tolerance:
            return f"SHOWS NOTHING: the same batch gives other outputs each time ({bound})"
        if self.leaks:
            return f"LEAKS: {len(self.leaks)} found, up to {written(self.largest)} ({bound})"
        if self.unmoved:
            names = ", ".join(self.unmoved[:5])
            return f"SHOWS NOTHING for {names}: their own tokens do not move them ({bound})"
        return f"NOT COMPARED: no row could be compared with the row alone ({bound})"

    def _name(self, row: int) -> str:
        return self.rows[row]

    def _shown(self) -> list[int]:
        """The rows that are shown: those that moved most, in order."""
        count = len(self.rows)
        if count <= _SHOWN:
            return list(range(count))
        others = np.where(np.eye(count, dtype=bool), np.nan, self.matrix)
        every = np.vstack([others, self.padding, self.wider, self.alone, self.company])
        worst = np.nan_to_num(np.fmax.reduce(every, axis=0))
        caused = np.nan_to_num(np.fmax.reduce(others, axis=1))
        order = np.argsort(-np.maximum(worst, caused), kind="stable")
        return sorted(order[:_SHOWN].tolist())

    def _lines(self) -> list[list[str]]:
        """The matrix and what follows it, as text."""
        shown, limit = self._shown(), self.tolerance
        lines = []
        for i in shown:
            cells = [
                f"({written(self.matrix[i, j])})" + "!" * (not self.matrix[i, j] > limit)
                if i == j
                else _marked(self.matrix[i, j], limit)
                for j in shown
            ]
            lines.append([f"{self.rows[i]} changed", *cells])
        for name, moved in (
            (_PADDING, self.padding),
            (_WIDER, self.wider),
            (_ALONE, self.alone),
            (_COMPANY, self.company),
            (_AGAIN, self.again),
        ):
            lines.append([name, *(_marked(moved[j], limit) for j in shown)])
        return lines

    def _rest(self) -> list[str]:
        lines = [_LEGEND]
        if len(self.rows) > _SHOWN:
            lines.append(
                f"Shown are the {_SHOWN} of {len(self.rows)} rows that move or are moved most."
            )
        lines.append(
            "outputs: " + "; ".join(f"{name}: {kind}" for name, kind in self.outputs.items())
        )
        if self.place is not None:
            lines.append(f"where: {self.place}")
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def plot(self, ax: Any = None) -> Any:
        """Draw the matrix: what was changed, whose outputs moved, and how far.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure's otherwise.

        Returns
        -------
        matplotlib Figure

        Raises
        ------
        ImportError
            When matplotlib is not installed.
        """
        check_place("ModelReport.plot", ax, "auto")
        return self._draw(ax, "auto")

    def _draw(self, ax: Any, theme: Theme) -> Any:
        from ..plots.leaks import plot_leaks

        tried = (self.matrix, self.padding, self.wider, self.alone, self.company, self.again)
        verdict, _, bound = self.summary().partition(" (")
        return plot_leaks(
            self.rows,
            np.vstack(tried),
            self.tolerance,
            title=f"check_model: {verdict}",
            note=bound.replace(")", "", 1) if bound.count(")") > bound.count("(") else bound,
            ax=ax,
            theme=theme,
        )


def _plain(array: NDArray[np.float64]) -> Any:
    if array.ndim > 1:
        return [_plain(part) for part in array]
    return [float(x) if np.isfinite(x) else None if np.isnan(x) else "inf" for x in array]


def _marked(value: float, limit: float) -> str:
    return written(value) + "!" * bool(value > limit)


def _cell(text: str) -> Cell:
    if text.endswith("!"):
        return Cell(text, "background:#d55e00;color:#fff")
    return Cell(text, "color:#777" if text.startswith("(") else "")
