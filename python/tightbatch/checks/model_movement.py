"""How far each row's outputs are from those of the first run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .model_batch import Layout, Placed, settle
from .model_compare import difference, scale_of
from .model_rows import NAME

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {"token": "for each token", "flat": "for each token"}


class Reference:
    """The first run: its outputs, and how their axes are those of the batch.

    The runs of rows alone, of other widths, tell a width of the batch from a like number that is
    another thing's.
    """

    def __init__(
        self,
        count: int,
        placed: Placed,
        outputs: Mapping[str, Tensor],
        alone: Mapping[int, tuple[Placed, Mapping[str, Tensor]]],
        encoder_decoder: bool,
    ) -> None:
        self.count, self.placed, self.outputs = count, placed, outputs
        self.layouts: dict[str, tuple[Layout, int]] = {}
        self.totals_of: dict[str, float] = {}
        self.kinds: dict[str, str] = {}
        self.scales: dict[str, float] = {}
        self.lengths: dict[tuple[str, int], int] = {}
        for name, output in outputs.items():
            if output.numel() == 1:
                self.totals_of[name] = float(output)
                self.kinds[name] = "for the whole batch, compared where padding changes"
                continue
            seen = [(tuple(output.shape), placed)]
            seen += [(tuple(o[name].shape), p) for p, o in alone.values() if name in o]
            decoder = encoder_decoder and not name.startswith("encoder")
            prefer = "decoder_" if decoder else ""
            layout = settle(name, seen, prefer)
            if layout is None:
                self.kinds[name] = (
                    f"not compared: its shape {list(output.shape)} is not the batch's"
                )
                continue
            self.layouts[name] = layout
            self.kinds[name] = KINDS.get(layout[0].kind, "for each row")
        if not self.layouts:
            found = ", ".join(f"{name} {list(o.shape)}" for name, o in outputs.items()) or "none"
            raise ValueError(
                f"{NAME}(): no output is of single rows or tokens (found {found}); expected logits "
                "or hidden states: pass call=lambda model, batch: ... that gives them"
            )
        self._note_lengths(alone)
        self.parts = {
            (name, row): self._part(name, output, placed, row)
            for name, output in outputs.items()
            if name in self.layouts
            for row in placed.rows
        }
        for name in self.layouts:
            parts = [self.parts[name, row] for row in placed.rows]
            self.scales[name] = max(
                (scale_of(part) for part in parts if part is not None), default=1.0
            )

    def _note_lengths(self, alone: Mapping[int, tuple[Placed, Mapping[str, Tensor]]]) -> None:
        """Note how many steps a row has by itself in outputs with steps of their own."""
        varying = set()
        for row, (placed, outputs) in alone.items():
            for name, (layout, number) in self.layouts.items():
                if layout.kind != "line" or name not in outputs:
                    continue
                part = layout.take(outputs[name], placed, placed.grids[number], row)
                whole = layout.take(self.outputs[name], self.placed, self.placed.grids[number], row)
                if part.dim():
                    self.lengths[name, row] = int(part.shape[0])
                    varying |= {name} if part.shape != whole.shape else set()
        self.lengths = {key: n for key, n in self.lengths.items() if key[0] in varying}

    def _part(self, name: str, output: Tensor, placed: Placed, row: int) -> Tensor | None:
        layout, number = self.layouts[name]
        if number >= len(placed.grids):
            return None
        grid = placed.grids[number]
        shape = tuple(output.shape)
        if row not in grid.owner or not layout.fits(shape, placed, grid):
            return None
        part = layout.take(output, placed, grid, row)
        length = self.lengths.get((name, row))
        if length is not None and length < part.shape[0]:
            line, columns = grid.place(row)
            left = grid.owner[line[0], 0] != row and columns[-1] == grid.shape[1] - 1
            part = part[-length:] if left else part[:length]
        return part

    def moved(
        self, outputs: Mapping[str, Tensor], placed: Placed, rows: Collection[int]
    ) -> NDArray[np.float64]:
        """The largest movement of each of some rows; NaN for all others."""
        found = np.full(self.count, np.nan)
        for name in self.layouts:
            if name not in outputs:
                continue
            for row in rows:
                old = self.parts.get((name, row))
                new = self._part(name, outputs[name], placed, row)
                if old is None or new is None:
                    continue
                by = np.inf if old.shape != new.shape else difference(old, new, self.scales[name])
                found[row] = np.fmax(found[row], by)
        return found

    def totals(self, outputs: Mapping[str, Tensor], limit: float) -> dict[str, float]:
        """The numbers for the whole batch that moved, and how far."""
        found = {}
        for name, old in self.totals_of.items():
            if name in outputs:
                by = abs(float(outputs[name]) - old) / (abs(old) or 1.0)
                if by > limit:
                    found[name] = by
        return found
