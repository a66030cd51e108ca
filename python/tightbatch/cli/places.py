"""Where a row is: in which file, and in which row or line of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .failure import shown
from .lines import line_of
from .sources import PACKED, Source

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Places:
    """Which rows of a source were read, and which of them were left out.

    Rows are counted from 0, as in Python, and lines of text from 1, as in editors.
    """

    source: Source
    kept: int = 0
    nulls: int = 0
    _firsts: list[tuple[int, Path]] = field(default_factory=list)  # the first row of each file
    _left_out: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, file: Path, keep: pa.Array) -> None:
        """Note the next rows, and for each whether it is kept."""
        done = self.kept + self.nulls
        if not self._firsts or self._firsts[-1][1] != file:
            self._firsts.append((done, file))
        if keep.true_count != len(keep):
            left = np.flatnonzero(~keep.to_numpy(zero_copy_only=False))
            self._left_out.append(done + left)
            self.nulls += len(left)
        self.kept += keep.true_count

    def where(self, kept: int) -> str:
        """Say where the row is that has this number among those that were kept."""
        left = np.concatenate([np.zeros(0, np.int64), *self._left_out])
        row = kept + int(np.searchsorted(left - np.arange(len(left)), kept, "right"))
        if self.source.is_saved or not self._firsts:  # a saved dataset is one
            return f"{shown(self.source.path)}: row {row}"
        first, file = next(one for one in reversed(self._firsts) if one[0] <= row)
        if self.source.kind not in PACKED:
            return f"{shown(file)}: row {row - first}"
        return f"{shown(file)}: line {line_of(file, self.source.kind, row - first)}"

    def no_rows(self) -> str:
        """Say that no row was kept, and why."""
        return f"{shown(self.source.path)}: {'every row is null' if self.nulls else 'has no rows'}"
