"""Arrow columns as Ragged rows, arrays and text, from any object with the Arrow protocol."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from . import _core
from .ragged import Ragged, is_one, row_indices


class Text(Sequence[Any]):
    """A column of strings, kept as bytes and decoded when they are read; None for a null."""

    def __init__(self, rows: Ragged, missing: NDArray[np.bool_] | None) -> None:
        self.rows, self.missing = rows, missing

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Text: ...
    def __getitem__(self, index: Any) -> Any:
        if is_one(index):
            i = _core.read_index("RaggedDataset", "index", index, len(self))
            if self.missing is not None and self.missing[i]:
                return None
            return self.rows[i].tobytes().decode()
        chosen = row_indices("RaggedDataset", index, len(self))
        return Text(self.rows[chosen], None if self.missing is None else self.missing[chosen])

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def tolist(self) -> list[Any]:
        """Decode all of it."""
        return list(self)


def columns(
    function: str,
    source: Any,
    wanted: Container[str] | None,
    fill_null: Any,
    chosen: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Read the columns of a table: lists as Ragged, numbers as arrays, strings as Text.

    Only the rows ``chosen`` are read; the others are not checked.
    """
    answer: dict[str, Any] = {}
    found = _core.arrow_columns(function, Ragged, source, None, wanted, fill_null, chosen)
    for name, column in found:
        if name is None:
            raise TypeError(f"{function}(): found an Arrow array, expected a table")
        if name in answer:
            raise ValueError(f"{function}(): there are two columns called {name!r}")
        answer[name] = _wrapped(column)
    return answer


def as_column(function: str, name: str, source: Any) -> Any:
    """Read an Arrow array that is given as the column ``name``."""
    found = _core.arrow_columns(function, Ragged, source, name, None, None, None)
    if len(found) != 1 or found[0][0] is not None:
        raise TypeError(f"{function}(): column {name!r} is an Arrow table, expected an array")
    return _wrapped(found[0][1])


def _wrapped(column: Any) -> Any:
    """Make Text of what C gives for a column of strings."""
    return Text(*column) if isinstance(column, tuple) else column
