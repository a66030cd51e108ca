"""Arrow columns as Ragged rows, arrays and text; whatever object offers them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from . import _core

if TYPE_CHECKING:
    from .ragged import Ragged

# Arrow's format strings for what NumPy has.
FORMATS = {
    "bool": "b",
    "int8": "c",
    "int16": "s",
    "int32": "i",
    "int64": "l",
    "uint8": "C",
    "uint16": "S",
    "uint32": "I",
    "uint64": "L",
    "float16": "e",
    "float32": "f",
    "float64": "g",
}

# What the C code makes of a column: form, chunks, starts, lengths, missing rows, null elements;
# or the reason why it makes nothing.
Read = tuple[str, list[NDArray[Any]], Any, Any, Any, list[Any]]


class Text(Sequence[Any]):
    """A column of strings, kept as bytes and decoded when looked at; None where it is null."""

    def __init__(self, rows: Ragged, missing: NDArray[np.bool_] | None) -> None:
        self.rows, self.missing = rows, missing

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Text: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            if self.missing is not None and self.missing[index]:
                return None
            return self.rows[int(index)].tobytes().decode()
        return Text(self.rows[index], None if self.missing is None else self.missing[index])

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def tolist(self) -> list[Any]:
        """Decode all of it."""
        return list(self)


def one_column(function: str, source: Any, column: str | None = None) -> tuple[Any, Read]:
    """Read one column: its name (None where the source is no table) and what is in it."""
    wanted = None if column is None else (column,)
    found = _core.read_arrow(function, source, wanted)
    if column is not None and not (found and found[0][0] == column):
        raise KeyError(f"{function}(): there is no column {column!r}")
    if len(found) != 1:
        names = ", ".join(repr(name) for name, _ in found)
        raise ValueError(f"{function}(): a table of columns {names}; expected column= to name one")
    name, read = found[0]
    return name, accepted(function, name, read)


def accepted(function: str, name: Any, read: Read | str) -> Read:
    """Refuse a column of a type that is none of ours."""
    if isinstance(read, str):
        where = "" if name is None else f"column {name!r} "
        raise TypeError(f"{function}(): {where or 'the data '}{read}")
    return read


def columns(
    function: str,
    source: Any,
    wanted: Container[str] | None,
    fill_null: Any,
    chosen: Any = None,
) -> dict[str, Any]:
    """Read the columns of a table: lists as Ragged, numbers as arrays, strings as Text.

    ``chosen``: of these rows alone; what the others hold is not looked at.
    """
    answer: dict[str, Any] = {}
    for name, read in _core.read_arrow(function, source, wanted):
        if name is None:
            raise TypeError(f"{function}(): found an Arrow array, expected a table")
        if name in answer:
            raise ValueError(f"{function}(): there are two columns {name!r}")
        answer[name] = as_column(function, name, read, fill_null, chosen)
    return answer


def as_column(
    function: str, name: str, read: Read | str, fill_null: Any, chosen: Any = None
) -> Any:
    """Make a Ragged, an array or Text of what was read."""
    from .ragged import Ragged

    read = accepted(function, name, read)
    form, chunks, starts, lengths, missing, nulls = read
    if chosen is not None:
        missing = None if missing is None or not missing[chosen].any() else missing[chosen]
        if form == "flat":
            chunks = [np.concatenate(chunks)[chosen]]
        else:
            starts, lengths = starts[chosen], lengths[chosen]
        read = (form, chunks, starts, lengths, missing, nulls)
    if form == "flat":
        return _numbers(function, name, chunks, missing, fill_null)
    if form == "text":
        return Text(Ragged._of(tuple(chunks), starts, lengths), missing)
    return Ragged._of(*ragged_parts(function, name, read, fill_null))


def ragged_parts(
    function: str, name: Any, read: Read, fill_null: Any
) -> tuple[tuple[NDArray[Any], ...], NDArray[np.int64], NDArray[np.int64]]:
    """Give chunks, starts and lengths of a column of lists, its nulls filled or refused."""
    form, chunks, starts, lengths, missing, nulls = read
    if form != "rows":
        what = "numbers" if form == "flat" else "text"
        where = "the data" if name is None else f"column {name!r}"
        raise TypeError(f"{function}(): {where} holds {what}; expected lists of numbers")
    if missing is not None and fill_null is None:
        _refuse_null(function, name, int(np.argmax(missing)), None)
    begin = 0
    for k, null in enumerate(nulls):
        if null is not None:
            if fill_null is None:
                _refuse_touched(function, name, null, starts - begin, lengths, chunks[k])
            else:
                chunks[k] = _filled(function, name, chunks[k], null, fill_null)
        begin += len(chunks[k])
    return tuple(chunks), starts, lengths


def _numbers(
    function: str, name: str, chunks: list[NDArray[Any]], missing: Any, fill_null: Any
) -> NDArray[Any]:
    array = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    if missing is None:
        return array
    if fill_null is None:
        _refuse_null(function, name, int(np.argmax(missing)), None)
    return _filled(function, name, array, missing, fill_null)


def _refuse_null(function: str, name: Any, row: int, column: int | None) -> None:
    where = "" if name is None else f"key {name!r}, "
    place = f"row {row}" if column is None else f"row {row}, column {column}"
    raise ValueError(f"{function}(): {where}{place}: is null; fill_null= gives it a value")


def _refuse_touched(
    function: str,
    name: Any,
    null: NDArray[np.bool_],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    chunk: NDArray[Any],
) -> None:
    """Refuse a null element of a chunk, if a row holds it. ``starts`` count in the chunk."""
    null = np.any(null.reshape(len(chunk), -1), axis=1)
    before = np.concatenate([[0], np.cumsum(null)])
    here = (starts >= 0) & (starts < len(chunk)) & (lengths > 0)
    first, last = np.where(here, starts, 0), np.where(here, starts + lengths, 0)
    touched = before[last] > before[first]
    if touched.any():
        row = int(np.argmax(touched))
        inside = null[int(starts[row]) : int(starts[row] + lengths[row])]
        _refuse_null(function, name, row, int(np.argmax(inside)))


def _filled(
    function: str, name: Any, array: NDArray[Any], null: NDArray[np.bool_], value: Any
) -> NDArray[Any]:
    """Copy an array with a value, which its type must hold exactly, at the nulls."""
    nothing = [np.empty(0, array.dtype)]
    try:
        fill = _core.pad(
            function, nothing, 1, None, value, "right", "right", None, None, None, False
        )
    except (TypeError, ValueError, OverflowError) as error:
        where = "" if name is None else f"column {name!r}: "
        raise type(error)(
            f"{function}(): {where}fill_null={value!r} is not {array.dtype}"
        ) from error
    filled = array.copy()
    filled.reshape(-1)[null] = fill[0, 0]
    return filled
