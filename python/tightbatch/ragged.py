"""Rows of different lengths in one buffer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._html import Text, left, paragraphs, table
from ._mapped import MappedFile, as_it_is, open_again
from ._split import documents
from ._words import counted

__all__ = ["Ragged"]

SHOWN = 5  # rows that a notebook shows


class Ragged(_core.RaggedBuffers):
    """Rows of different lengths in one buffer: an array of lists without the lists.

    A row is a start and a length in ``values``. So choosing and reordering rows copies no values,
    and reading Arrow data, a memory-mapped file or a padded array copies none either. Every
    function of tightbatch that takes rows takes a Ragged.

    Parameters
    ----------
    values : array or CPU tensor of shape (positions, *trailing)
        The rows' elements. An array that is C-contiguous is not copied (a memory map stays one);
        any other array is.
    offsets : integer array of shape (rows + 1,)
        Row i is ``values[offsets[i] : offsets[i + 1]]``. With ``lengths`` it is where each row
        starts, of shape (rows,); then rows may lie anywhere, overlap and leave gaps.
    lengths : integer array of shape (rows,), optional
        Positions of each row.

    Raises
    ------
    TypeError
        When ``values`` is not an array of numbers, or offsets are not integers.
    ValueError
        When offsets decrease or point outside the values; the message names the row.

    See Also
    --------
    Ragged.from_sequences : from lists, arrays or tensors.
    Ragged.from_arrow : from Arrow data, without a copy.

    Notes
    -----
    The layout is Arrow's list view. Pickling copies only the values of its own rows. If the values
    are memory maps, it stores the files' names instead, and unpickling maps them again, read-only.

    Examples
    --------
    >>> import numpy as np
    >>> import tightbatch as tb
    >>> rows = tb.Ragged(np.array([1, 2, 3, 4, 5, 6]), [0, 3, 3, 6])
    >>> rows.tolist()
    [[1, 2, 3], [], [4, 5, 6]]
    >>> rows[[2, 0]].pad(padding_value=-1)
    array([[4, 5, 6],
           [1, 2, 3]])
    """

    # RaggedBuffers, in C, has the arrays: chunks, bounds, starts and lengths. Chunk k holds the
    # positions from bounds[k] to bounds[k + 1]; starts count through all chunks.
    __slots__ = ("__weakref__",)

    def __init__(self, values: Any, offsets: Any = None, *, lengths: Any = None) -> None:
        if offsets is None:
            raise TypeError(
                "Ragged(): offsets is missing; expected where the rows begin and end in values. "
                "Ragged.from_sequences() takes rows"
            )
        array = _as_values(values)
        starts = _core.read_offsets("Ragged", "offsets", offsets)
        if lengths is None:
            if len(starts) == 0:
                raise ValueError("Ragged(): offsets is empty, expected one more than rows: [0]")
            starts, counts = starts[:-1].copy(), np.diff(starts)
        else:
            counts = _core.read_offsets("Ragged", "lengths", lengths)
            if len(starts) != len(counts):
                raise ValueError(
                    f"Ragged(): {len(starts)} offsets but {len(counts)} lengths; expected one of "
                    "each for every row"
                )
        _check_rows(starts, counts, len(array))
        super().__init__((array,), starts, counts)

    @classmethod
    def _of(
        cls,
        chunks: tuple[NDArray[Any], ...],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> Ragged:
        """Make a Ragged from arrays that are known to be right."""
        ragged = cls.__new__(cls)
        _core.RaggedBuffers.__init__(ragged, chunks, starts, lengths)
        return ragged

    # --- made from ---------------------------------------------------------------------------

    @classmethod
    def from_sequences(cls, sequences: Iterable[Any], *, dtype: Any = None) -> Ragged:
        """Copy rows into one buffer, in one pass.

        Parameters
        ----------
        sequences : iterable of rows
            As for :func:`tightbatch.pad`.
        dtype : dtype, optional
            The element type; by default what :func:`tightbatch.pad` would give.

        Returns
        -------
        Ragged

        Raises
        ------
        TypeError, OverflowError, ValueError, RuntimeError
            As :func:`tightbatch.pad`.

        Examples
        --------
        >>> import tightbatch as tb
        >>> tb.Ragged.from_sequences([[1, 2], [3]], dtype="int32")
        Ragged(2 rows, 3 positions, int32)
        """
        return _core.flatten("Ragged.from_sequences", cls, None, sequences, dtype)

    @classmethod
    def from_arrow(cls, source: Any, *, column: str | None = None, fill_null: Any = None) -> Ragged:
        """Read an Arrow list column without a copy, in a time that does not depend on its tokens.

        Parameters
        ----------
        source : object with ``__arrow_c_array__`` or ``__arrow_c_stream__``
            An array, a chunked array, a table or a stream of pyarrow, polars, nanoarrow, DuckDB
            and others; pyarrow itself is not needed. Lists (also large, fixed-size and views) of
            integers, floats, halves or bools, or of fixed-size lists of these.
        column : str, optional
            The column of a table; needed if it has several.
        fill_null : number, optional
            The value for null tokens; null rows become empty. Without it a null is an error.

        Returns
        -------
        Ragged
            It keeps the Arrow memory alive. Bools, which Arrow packs, and chunks with filled nulls
            are copies.

        Raises
        ------
        TypeError
            When the type is not a list of numbers; the message names it.
        ValueError
            When there are nulls without ``fill_null``, or offsets decrease or point outside the
            values.
        KeyError
            When the table has no such column.

        Examples
        --------
        >>> import pyarrow as pa
        >>> import tightbatch as tb
        >>> tb.Ragged.from_arrow(pa.array([[1, 2], [3]]))[0]
        array([1, 2])
        """
        function = "Ragged.from_arrow"
        if not _core.is_arrow(source):
            raise TypeError(
                f"{function}(): source={_core.describe(source)}; expected an Arrow array, table or "
                "stream, with __arrow_c_array__ or __arrow_c_stream__"
            )
        return _core.arrow_rows(function, cls, source, column, fill_null)

    @classmethod
    def from_tokens(
        cls, tokens: Any, end: Any = None, *, start: Any = None, keep_token: bool = True
    ) -> Ragged:
        """Find the documents of one long row of tokens, such as a memory-mapped ``.bin`` file.

        Parameters
        ----------
        tokens : integer array or CPU tensor of shape (tokens,)
            A C-contiguous one is not copied: the rows are views, and a memory map stays one.
        end : int or sequence of int
            The token id that ends each document. Several are an order: these, one after another.
        start : int or sequence of int, optional
            Instead of ``end``: what begins each document.
        keep_token : bool
            Whether the documents keep these tokens.

        Returns
        -------
        Ragged
            A row for each document, also for empty ones. What is left after the last end, or lies
            before the first start, is one more.

        Raises
        ------
        ValueError
            When the token is nowhere, or its id does not fit into the type of the tokens.
        TypeError
            When tokens are not integers, and without one of ``end`` and ``start``.

        See Also
        --------
        tightbatch.split_report : which token ends documents, and which the turns of a chat.

        Examples
        --------
        >>> import numpy as np
        >>> import tightbatch as tb
        >>> tb.Ragged.from_tokens(np.array([5, 6, 0, 7, 0, 8], "uint16"), end=0).tolist()
        [[5, 6, 0], [7, 0], [8]]
        """
        rows: Ragged = documents("Ragged.from_tokens", cls, tokens, end, start, keep_token)
        return rows

    @classmethod
    def concatenate(cls, parts: Iterable[Ragged]) -> Ragged:
        """Join the rows of several Ragged, in order, without a copy.

        Parameters
        ----------
        parts : iterable of Ragged
            At least one; all have one element type and one trailing shape.

        Returns
        -------
        Ragged

        Raises
        ------
        ValueError
            When there is none, or when element types or trailing shapes differ.

        Examples
        --------
        >>> import tightbatch as tb
        >>> a = tb.Ragged.from_sequences([[1, 2], [3]])
        >>> tb.Ragged.concatenate([a, a[:1]]).tolist()
        [[1, 2], [3], [1, 2]]
        """
        given = parts
        parts = list(parts) if isinstance(parts, Iterable) else [parts]
        if not all(isinstance(part, Ragged) for part in parts):
            raise TypeError(
                f"Ragged.concatenate(): parts={_core.describe(given)}; expected a list of Ragged"
            )
        if not parts:
            raise ValueError("Ragged.concatenate(): parts is empty; expected at least one Ragged")
        shapes = [(part.dtype, part.trailing) for part in parts]
        for i, shape in enumerate(shapes):
            if shape != shapes[0]:
                raise ValueError(
                    f"Ragged.concatenate(): part {i} has positions of {shape[0]} {shape[1]}, "
                    f"expected {shapes[0][0]} {shapes[0][1]} as in part 0"
                )
        chunks = tuple(chunk for part in parts for chunk in part._chunks)
        bases = np.cumsum([0] + [int(part._bounds[-1]) for part in parts])
        starts = [part.starts + base for part, base in zip(parts, bases, strict=False)]
        return cls._of(
            chunks, np.concatenate(starts), np.concatenate([part.lengths for part in parts])
        )

    # --- what it is --------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""
        return self._chunks[0].dtype

    @property
    def trailing(self) -> tuple[int, ...]:
        """The shape of one position: ``()`` for tokens, ``(80,)`` for rows of shape (T, 80)."""
        return self._chunks[0].shape[1:]

    @property
    def values(self) -> NDArray[Any]:
        """The buffer, of shape (positions, *trailing), which may hold more than the rows.

        If the rows lie in several buffers (Arrow chunks, or after :meth:`concatenate`), it is a
        copy of all of them, one after another; :meth:`compact` copies only the rows.
        """
        return self._chunks[0] if len(self._chunks) == 1 else np.concatenate(self._chunks)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.starts)

    def __repr__(self) -> str:
        """Show sizes and type."""
        trailing = f" {self.trailing}" if self.trailing else ""
        rows = counted(len(self), "row")
        positions = counted(int(self.lengths.sum()), "position")
        return f"Ragged({rows}, {positions}, {self.dtype}{trailing})"

    def _repr_html_(self) -> str:
        """Show the first rows in a notebook."""
        rows: list[tuple[Text, ...]] = [
            (str(i), str(len(row)), left(np.array2string(row, threshold=12, edgeitems=4)))
            for i, row in enumerate(self[:SHOWN])
        ]
        rows += [("\N{HORIZONTAL ELLIPSIS}", "", "")] if len(self) > SHOWN else []
        return table(("row", "length", left("values")), rows) + paragraphs([repr(self)])

    def __eq__(self, other: object) -> bool:
        """Tell whether rows, one by one, have equal lengths and equal values (NaN is unequal)."""
        if not isinstance(other, Ragged):
            return NotImplemented
        if self.trailing != other.trailing or not np.array_equal(self.lengths, other.lengths):
            return False
        return np.array_equal(self.compact()._chunks[0], other.compact()._chunks[0])

    __hash__ = None  # type: ignore[assignment]

    # --- rows --------------------------------------------------------------------------------

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice | list[int] | NDArray[Any]) -> Ragged: ...
    def __getitem__(self, index: Any) -> Any:
        """Take one row (a view of its values), or a Ragged of the rows of a slice, list or array.

        An array of bools, one for each row, chooses the rows where it is True. Negative numbers
        count from the end. A row that does not exist is an IndexError with the index.
        """
        if type(index) is int or is_one(index):
            return self._row(_core.read_index("Ragged", "index", index, len(self.starts)))
        chosen = row_indices("Ragged", index, len(self))
        if isinstance(chosen, slice):
            return self._with_rows(self.starts[chosen].copy(), self.lengths[chosen].copy())
        return self._take(chosen)

    def _row(self, i: int) -> NDArray[Any]:
        start, length, k = int(self.starts[i]), int(self.lengths[i]), 0
        if len(self._chunks) > 1:
            k = int(np.searchsorted(self._bounds, start, side="right")) - 1
            k = min(k, len(self._chunks) - 1)  # an empty row may start at the very end
            start -= int(self._bounds[k])
        return self._chunks[k][start : start + length]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Give the rows, each a view of its values."""
        return (self._row(i) for i in range(len(self)))

    def tolist(self) -> list[list[Any]]:
        """Give the rows as lists of Python numbers."""
        return [row.tolist() for row in self]

    def compact(self) -> Ragged:
        """Give a Ragged whose buffer holds only its rows, one after another.

        Returns
        -------
        Ragged
            It is not a copy if the rows lie one after another already. torch's
            ``nested_tensor_from_jagged`` takes ``compact().values`` with ``lengths``.
        """
        if len(self._chunks) == 1:
            ends = self.starts + self.lengths
            if np.array_equal(ends[:-1], self.starts[1:]):
                begin, end = (int(self.starts[0]), int(ends[-1])) if len(self) else (0, 0)
                values = self._chunks[0]
                if end > len(values):
                    raise RuntimeError("Ragged.compact(): the values were resized")
                if (begin, end) == (0, len(values)):
                    return self
                return self._of((values[begin:end],), self.starts - begin, self.lengths)
        return _core.flatten("Ragged.compact", type(self), None, self, None)

    def pad(
        self,
        *,
        width: int | None = None,
        max_length: int | None = None,
        padding_value: float = 0,
        padding_side: str = "right",
        truncation_side: str = "right",
        pad_to_multiple_of: int | None = None,
        dtype: Any = None,
        out: Any = None,
        return_mask: bool = False,
    ) -> Any:
        """Pad the rows into one array, as :func:`tightbatch.pad` does, with its options."""
        return _core.pad(
            "Ragged.pad",
            self,
            width,
            max_length,
            padding_value,
            padding_side,
            truncation_side,
            pad_to_multiple_of,
            dtype,
            out,
            return_mask,
        )

    # --- out ---------------------------------------------------------------------------------

    def to_arrow(self) -> Any:
        """Give the rows as a pyarrow large_list array, over the same memory.

        A selection of rows is made compact first; bools are packed. It raises ImportError without
        pyarrow, and TypeError for an element type that Arrow does not have (bfloat16).
        """
        import pyarrow as pa

        return pa.array(self)

    def __arrow_c_schema__(self) -> Any:
        """Give the Arrow type, by the PyCapsule protocol."""
        return self[:0].__arrow_c_array__()[0]

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]:
        """Give the rows to any Arrow library, by the PyCapsule protocol."""
        return _core.export_arrow(self.compact())

    def __reduce__(self) -> Any:
        """Pickle the rows; or, over memory maps, where the files are."""
        files = [MappedFile.of(chunk) for chunk in self._chunks]
        if all(file is not None for file in files):
            return open_again, (type(self), files, self.starts, self.lengths)
        rows = self.compact()
        return open_again, (type(self), list(rows._chunks), rows.starts, rows.lengths)


def is_one(index: Any) -> bool:
    """Tell whether an index is meant for one row; :func:`tightbatch._core.read_index` reads it."""
    return isinstance(index, (int, np.integer, np.bool_)) or (
        hasattr(index, "__index__") and getattr(index, "ndim", 0) == 0
    )


def row_indices(function: str, index: Any, count: int) -> Any:
    """Read an index of rows: give a slice, or int64 indices from 0 on."""
    if isinstance(index, slice):
        _check_slice(function, index, count)
        return index
    if hasattr(index, "untyped_storage"):  # a tensor
        index = _core.as_array(function, None, index)
    if isinstance(index, list) and index and all(isinstance(item, bool) for item in index):
        index = np.asarray(index)
    if getattr(index, "dtype", None) == np.bool_ and np.ndim(index) > 0:
        if np.shape(index) != (count,):
            raise IndexError(
                f"{function}(): index is a mask of shape {np.shape(index)}; expected ({count},), "
                "one for each row"
            )
        return np.nonzero(index)[0]
    return _core.as_indices(function, index, count)


def _check_slice(function: str, index: slice, count: int) -> None:
    """Refuse a slice with a bound that is no integer, which NumPy refuses without a name."""
    bounds = (index.start, index.stop, index.step)
    try:
        if any(isinstance(bound, (bool, np.bool_)) for bound in bounds):
            raise TypeError("a bool")
        index.indices(count)
    except (TypeError, ValueError) as error:
        shown = ", ".join(_core.show(bound) for bound in bounds)
        expected = "a step other than 0" if isinstance(error, ValueError) else "integers or None"
        raise type(error)(f"{function}(): index=slice({shown}); expected {expected}") from None


def _as_values(values: Any) -> NDArray[Any]:
    array = _core.as_array("Ragged", None, values)
    _core.lengths("Ragged", (array,))  # refuses what no row may be
    return as_it_is(array)


def _check_rows(starts: NDArray[Any], lengths: NDArray[Any], count: int) -> None:
    """Refuse the first row that does not lie within ``count`` positions."""
    wrong = (lengths < 0) | (starts < 0) | (starts > count) | (lengths > count - starts)
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    start, length = int(starts[row]), int(lengths[row])
    if length < 0 and start >= 0:
        raise ValueError(f"Ragged(): row {row}: has length {length}: offsets go backwards")
    raise ValueError(
        f"Ragged(): row {row}: positions {start} to {start + length} are not all within the "
        f"{count} of values"
    )
