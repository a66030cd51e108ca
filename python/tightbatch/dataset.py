"""A map-style dataset over columns, which gives whole batches to a collator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _arrow, _core
from ._arrow import Text
from ._mapped import MappedFile, opened
from ._records import Samples, check_depth, gather, is_record, join, read_field, refuse_fields
from ._words import counted
from .ragged import Ragged, is_one, row_indices

__all__ = ["RaggedDataset", "lengths"]

# Where columns can come from.
SOURCES = "samples (dicts or dataclasses), an Arrow table, a datasets.Dataset or a RaggedDataset"


class RaggedDataset:
    """A map-style dataset over columns, for a torch DataLoader or a transformers Trainer.

    A DataLoader asks it for a whole batch at a time, and gets columns. With
    :class:`tightbatch.PadCollator` or a collator of :mod:`tightbatch.huggingface`, no Python object
    is made for a row or a token between the file and the batch.

    Parameters
    ----------
    columns : {name: column}, or iterable of samples
        A column is a :class:`tightbatch.Ragged`, an Arrow list array, an array (one dimension:
        numbers; more: rows of one length), a list of rows (copied into a Ragged), a list of numbers
        or a list of strings; or, nested, a mapping of columns or a list of samples. All columns
        have the same length. A tokenizer's BatchEncoding works as such a mapping. Samples are
        dicts, other mappings, dataclasses, attrs classes or pydantic models, all with the same
        keys.

    Raises
    ------
    TypeError
        When a column holds something else, or mixed types (the message names column and row), or
        when a sample has no keys.
    ValueError
        When the columns differ in length.

    Notes
    -----
    Pickling, as for spawned workers, copies the columns. Memory-mapped columns and those that
    :meth:`from_hf` made are not copied: the worker opens the files again and shares their pages.
    Forked workers copy nothing.

    Examples
    --------
    >>> import tightbatch as tb
    >>> data = tb.RaggedDataset({"input_ids": [[5, 6, 7], [8], [9, 9]], "label": [0, 1, 0]})
    >>> data[1]
    {'input_ids': array([8]), 'label': np.int64(1)}
    >>> batch = tb.PadCollator(return_tensors="np")(data.__getitems__([2, 0]))
    >>> batch["input_ids"]
    array([[9, 9, 0],
           [5, 6, 7]])
    """

    def __init__(self, columns: Mapping[str, Any] | Iterable[Any]) -> None:
        given = columns if isinstance(columns, Mapping) else _gather(columns)
        self._set({name: _as_column(name, column) for name, column in given.items()})

    def _set(self, columns: dict[str, Any], source: Any = None, path: Any = None) -> None:
        counts = {name: len(column) for name, column in columns.items()}
        for name, count in counts.items():
            first = next(iter(counts))
            if count != counts[first]:
                raise ValueError(
                    f"RaggedDataset(): column {join(path, name)!r} has {count} rows, expected "
                    f"{counts[first]} as in {join(path, first)!r}"
                )
        self._columns = columns
        self._count = next(iter(counts.values()), 0)
        self._source = source  # what from_hf opens again

    @classmethod
    def _of(cls, columns: dict[str, Any], source: Any = None, path: Any = None) -> RaggedDataset:
        dataset = cls.__new__(cls)
        dataset._set(columns, source, path)
        return dataset

    @classmethod
    def from_arrow(
        cls, table: Any, *, columns: Iterable[str] | None = None, fill_null: Any = None
    ) -> RaggedDataset:
        """Read the columns of an Arrow table without a copy.

        Parameters
        ----------
        table : object with ``__arrow_c_stream__`` or ``__arrow_c_array__``
            A table, record batch or data frame of pyarrow, polars, DuckDB and others. Columns of
            lists become Ragged (see :meth:`tightbatch.Ragged.from_arrow`), columns of numbers
            arrays, columns of strings stay text.
        columns : iterable of str, optional
            The columns to read; by default all.
        fill_null : number, optional
            The value for null numbers and tokens; null rows become empty. Without it a null is an
            error. Null strings are None.

        Returns
        -------
        RaggedDataset
            Pickling it copies its columns out of the table: each spawned worker has a copy.

        Raises
        ------
        TypeError
            When a column has another type; the message names it. ``columns=`` can leave it out.
        ValueError
            When there are nulls without ``fill_null``, or the data is malformed.
        KeyError
            When one of ``columns`` is not there.

        Examples
        --------
        >>> import pyarrow as pa
        >>> import tightbatch as tb
        >>> table = pa.table({"input_ids": [[1, 2], [3]], "text": ["one two", "three"]})
        >>> tb.RaggedDataset.from_arrow(table)[1]
        {'input_ids': array([3]), 'text': 'three'}
        """
        return cls._of(_read("RaggedDataset.from_arrow", table, columns, fill_null))

    @classmethod
    def from_hf(
        cls, dataset: Any, *, columns: Iterable[str] | None = None, fill_null: Any = None
    ) -> RaggedDataset:
        """Read a Hugging Face ``datasets.Dataset`` without a copy.

        Parameters
        ----------
        dataset : datasets.Dataset
            Its rows are taken in its order: as ``select``, ``shuffle``, ``sort`` and ``filter``
            chose them, without a loop over rows.
        columns : iterable of str, optional
            The columns to read; by default those of its format (``set_format(columns=...)``), or
            all.
        fill_null : number, optional
            As for :meth:`from_arrow`.

        Returns
        -------
        RaggedDataset
            Pickling it pickles the dataset, which a worker opens again: workers share the pages of
            its files.

        Raises
        ------
        TypeError
            When it is not a ``datasets.Dataset``, and as :meth:`from_arrow`.
        ValueError
            When it has a transform (``set_transform``), whose results are not stored; and as
            :meth:`from_arrow`.
        KeyError
            When one of ``columns`` is not there.

        Examples
        --------
        >>> import datasets
        >>> import tightbatch as tb
        >>> data = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3], [4, 5]]})
        >>> tb.RaggedDataset.from_hf(data.select([2, 0]))["input_ids"].tolist()
        [[4, 5], [1, 2]]
        """
        function = "RaggedDataset.from_hf"
        columns = None if columns is None else _names(function, columns)
        return cls._of(
            _read_hf(function, dataset, columns, fill_null), (dataset, columns, fill_null)
        )

    @property
    def column_names(self) -> list[str]:
        """The columns' names, in order."""
        return list(self._columns)

    def __len__(self) -> int:
        """Count the samples."""
        return self._count

    def __repr__(self) -> str:
        """Show the number of rows, and the columns."""
        kinds = ", ".join(f"{name}: {_describe(column)}" for name, column in self._columns.items())
        return f"RaggedDataset({counted(self._count, 'row')}, {kinds})"

    def __getitem__(self, index: Any) -> Any:
        """Take a sample, a column, or some rows.

        An int gives a sample as a dict, whose rows are views. A name gives a column. A slice, a
        list or an array of indices, or a mask, gives a RaggedDataset of these rows, without a copy.
        An index or a name that does not exist is an IndexError or a KeyError.
        """
        if isinstance(index, str):
            if index not in self._columns:
                shown = _core.show(self.column_names)
                raise KeyError(f"RaggedDataset(): no column {_core.show(index)} among {shown}")
            return self._columns[index]
        if is_one(index):
            i = _core.read_index("RaggedDataset", "index", index, self._count)
            return {name: column[i] for name, column in self._columns.items()}
        chosen = row_indices("RaggedDataset", index, self._count)
        return self._of({name: column[chosen] for name, column in self._columns.items()})

    def __getitems__(self, indices: Any) -> Samples:
        """Give a batch to a DataLoader: a sequence of dicts, which are made when they are read."""
        chosen = _core.as_indices("RaggedDataset", indices, self._count)
        return Samples(
            {name: _batch_of(column, chosen) for name, column in self._columns.items()},
            len(chosen),
        )

    def __reduce__(self) -> Any:
        """Pickle the columns, or the dataset that they were read from."""
        if self._source is None:
            columns = {name: MappedFile.of(part) or part for name, part in self._columns.items()}
            return _of_columns, (type(self), columns)
        return _of_hf, (type(self), *self._source)


def lengths(sequences: Any, column: str | None = None) -> NDArray[np.int64]:
    """Count the positions of each row, without reading the values.

    Parameters
    ----------
    sequences : iterable of rows, samples, table or dataset
        Rows as for :func:`pad`. With ``column`` also samples (a list of dicts, of dataclasses, or
        what a collator gets), columns (a dict of them, or a tokenizer's BatchEncoding), an Arrow
        table (anything with ``__arrow_c_stream__``), a Hugging Face ``datasets.Dataset`` or a
        :class:`RaggedDataset`. Of tables and datasets only the offsets are read.
    column : str, optional
        The column of rows, if there are columns; "a.b" is column b of the nested column a.

    Returns
    -------
    int64 ndarray of shape (batch,)

    Raises
    ------
    TypeError
        When a row, or the column, is not a sequence of numbers.
    ValueError
        When a row of the column is null.
    KeyError
        When there is no such column.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.lengths([[1, 2, 3], [], [4]])
    array([3, 0, 1])
    >>> tb.lengths([{"input_ids": [1, 2, 3]}, {"input_ids": [4]}], column="input_ids")
    array([3, 1])
    """
    if column is None:
        refuse_fields("lengths", sequences)
        return _core.lengths("lengths", sequences)
    if not isinstance(column, str):
        raise TypeError(f"lengths(): column={_core.describe(column)}; expected a str")
    if isinstance(sequences, (RaggedDataset, Samples, Mapping)):
        return _column_lengths(sequences, column)
    if _core.is_arrow(sequences):
        return _core.arrow_lengths("lengths", sequences, column, None)
    if _is_hf(sequences):
        table = getattr(sequences.data, "table", sequences.data)
        return _core.arrow_lengths("lengths", table, column, _hf_indices("lengths", sequences))
    return _core.lengths("lengths", _rows_of(sequences, column), column)


def _column_lengths(source: Any, column: str) -> NDArray[np.int64]:
    """Give the lengths of one column of a dataset, samples or a mapping."""
    columns = source.columns if isinstance(source, Samples) else source
    names = columns.column_names if isinstance(columns, RaggedDataset) else columns
    if column not in names:
        outer, _, inner = column.partition(".")
        if inner and outer in names:
            return lengths(columns[outer], inner)
        if isinstance(columns, Mapping) and any(map(_is_hf, columns.values())):
            found = type(source).__name__  # a DatasetDict
            raise TypeError(f"lengths(): found {found}, expected {SOURCES}: take one split")
        raise KeyError(f"lengths(): there is no column {_core.show(column)}")
    if isinstance(rows := columns[column], Ragged):
        return rows.lengths.copy()
    is_array = isinstance(rows, np.ndarray) and rows.dtype.kind != "O"  # objects may be rows
    if isinstance(rows, Text) or (is_array and rows.ndim < 2):
        raise TypeError(f"lengths(): column {column!r} is {_describe(rows)}; expected rows")
    return _core.lengths("lengths", rows, column)


def _rows_of(samples: Any, column: str) -> list[Any]:
    """Take one column out of samples."""
    hint = f"a dict that has {column!r}: column={column!r} is for {SOURCES}"
    rows: list[Any] = []
    for i, sample in enumerate(_mappings("lengths", "sequences", samples, SOURCES, hint)):
        row = read_field(sample, column)
        outer, _, inner = column.partition(".")
        if not row and inner:
            inside = read_field(sample, outer)
            row = read_field(inside[0], inner) if inside and is_record(inside[0]) else ()
        if not row:
            raise KeyError(f"lengths(): row {i}: there is no column {_core.show(column)}")
        rows += row
    return rows


def _gather(samples: Any) -> dict[Any, list[Any]]:
    """Turn samples into columns; refuse anything else."""
    if _core.is_arrow(samples) or _is_hf(samples):
        method = "from_hf" if _is_hf(samples) else "from_arrow"
        raise TypeError(
            f"RaggedDataset(): found {type(samples).__name__}; RaggedDataset.{method}() reads it"
        )
    expected = "columns ({name: column}) or samples (dicts)"
    hint = f'{expected}; of rows make a column: {{"input_ids": rows}}'
    samples = _mappings("RaggedDataset", "columns", samples, expected, hint)
    return gather("RaggedDataset", None, samples)


def _mappings(function: str, name: str, samples: Any, expected: str, in_a_row: str) -> list[Any]:
    """Read samples, each with fields; say what is expected as a whole, or of a row."""
    if isinstance(samples, (str, bytes)) or not isinstance(samples, Iterable):
        raise TypeError(f"{function}(): {name}={_core.describe(samples)}; expected {expected}")
    mappings: list[Any] = list(samples)
    for i, sample in enumerate(mappings):
        if not is_record(sample):
            found = type(sample).__name__
            raise TypeError(f"{function}(): row {i}: found {found}, expected {in_a_row}")
    return mappings


def batch_columns(function: str, table: Any) -> dict[str, Any]:
    """Give the columns of an Arrow table that is a batch."""
    return {
        name: column.tolist() if isinstance(column, Text) else column
        for name, column in _arrow.columns(function, table, None, None).items()
    }


def _of_columns(cls: type[RaggedDataset], columns: dict[str, Any]) -> RaggedDataset:
    return cls._of({name: opened(column) for name, column in columns.items()})


def _of_hf(cls: type[RaggedDataset], dataset: Any, columns: Any, fill_null: Any) -> RaggedDataset:
    return cls.from_hf(dataset, columns=columns, fill_null=fill_null)


def _read(
    function: str,
    table: Any,
    columns: Iterable[str] | None,
    fill_null: Any,
    chosen: Any = None,
) -> dict[str, Any]:
    if not _core.is_arrow(table):
        raise TypeError(
            f"{function}(): table={_core.describe(table)}; expected an Arrow table, record batch "
            "or data frame"
        )
    if columns is None:
        return _arrow.columns(function, table, None, fill_null, chosen)
    names = _names(function, columns)
    found = _arrow.columns(function, table, names, fill_null, chosen)
    for name in names:
        if name not in found:
            raise KeyError(f"{function}(): columns: there is no column {_core.show(name)}")
    return {name: found[name] for name in names}


def _names(function: str, columns: Any) -> tuple[str, ...]:
    """Read the names of several columns."""
    is_list = isinstance(columns, Iterable) and not isinstance(columns, (str, bytes))
    names = tuple(columns) if is_list else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"{function}(): columns={_core.describe(columns)}; expected a list of names, as in "
            "columns=['input_ids']"
        )
    return names


def _is_hf(dataset: Any) -> bool:
    return hasattr(dataset, "data") and hasattr(dataset, "features")


def _hf_indices(function: str, dataset: Any) -> Any:
    """Give the rows of its table that a dataset uses, in its order; None for all of them."""
    mapping = dataset._indices
    if mapping is None:
        return None
    table = getattr(mapping, "table", mapping)
    return _arrow.columns(function, table, None, None)["indices"].astype(np.int64)


def _read_hf(
    function: str, dataset: Any, columns: tuple[str, ...] | None, fill_null: Any
) -> dict[str, Any]:
    if not _is_hf(dataset):
        raise TypeError(
            f"{function}(): dataset={_core.describe(dataset)}; expected a datasets.Dataset, or one "
            "split of a DatasetDict"
        )
    form = getattr(dataset, "format", {})
    if form.get("type") == "custom":
        raise ValueError(
            f"{function}(): the dataset has a transform, whose results are not stored; apply it "
            "by map(), or remove it by reset_format()"
        )
    names = columns
    if names is None:  # a format's own list is in no order
        shown = form.get("columns") or dataset.column_names
        names = tuple(name for name in dataset.column_names if name in shown)
    table = getattr(dataset.data, "table", dataset.data)
    return _read(function, table, names, fill_null, _hf_indices(function, dataset))


def _as_column(name: str, column: Any) -> Any:
    """Convert a column to how it is kept: a Ragged, an array or strings."""
    function = "RaggedDataset"
    if isinstance(column, (Ragged, Text)):
        return column
    if isinstance(column, Mapping):
        return _as_nested(name, column)
    if _core.is_arrow(column):
        return _arrow.as_column(function, name, column)
    if isinstance(column, np.ndarray) or hasattr(column, "untyped_storage"):
        column = _core.as_array(function, name, column)
    if isinstance(column, np.ndarray) and column.ndim > 0 and column.dtype != object:
        if column.dtype.kind in "biuf" or column.dtype.isbuiltin == 2:
            return column
        column = column.tolist() if column.dtype.kind == "U" else column.dtype
    no_rows = isinstance(column, (str, bytes)) or not isinstance(column, Iterable)
    if no_rows or getattr(column, "ndim", 1) == 0:
        raise TypeError(
            f"{function}(): column {name!r} is {column!r:.40}; expected rows, numbers or strings"
        )
    values = list(column)
    first = next((value for value in values if value is not None), None)
    if first is None or isinstance(first, str):
        _check_strings(name, values)
        return _Strings(values)
    if isinstance(first, (bool, int, float)) or getattr(first, "ndim", None) == 0:
        return _core.as_numbers(function, name, values)
    if is_record(first):
        return _as_nested(name, gather(function, name, values))
    return _core.flatten(function, Ragged, name, values, None)


def _as_nested(path: str, columns: Mapping[Any, Any]) -> RaggedDataset:
    check_depth("RaggedDataset", path)
    if not columns:
        raise TypeError(f"RaggedDataset(): key {path!r}, row 0: found no keys, expected some")
    given = {name: _as_column(join(path, name), column) for name, column in columns.items()}
    return RaggedDataset._of(given, path=path)


def _check_strings(name: str, values: list[Any]) -> None:
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise TypeError(
                f"RaggedDataset(): key {name!r}, row {row}: found {type(value).__name__}, "
                "expected a str or None, as in the rows before it"
            )


class _Strings(list[Any]):
    """A list of strings that can be indexed by an array."""

    def __getitem__(self, index: Any) -> Any:
        if is_one(index):
            return super().__getitem__(_core.read_index("RaggedDataset", "index", index, len(self)))
        chosen = row_indices("RaggedDataset", index, len(self))
        if isinstance(chosen, slice):
            return _Strings(super().__getitem__(chosen))
        return _Strings([super(_Strings, self).__getitem__(i) for i in chosen.tolist()])


def _batch_of(column: Any, chosen: Any) -> Any:
    if isinstance(column, Ragged):
        return column._take(chosen)
    if isinstance(column, RaggedDataset):
        return column.__getitems__(chosen)
    part = column[chosen]
    return part.tolist() if type(part) is not np.ndarray and isinstance(part, Text) else part


def _describe(column: Any) -> str:
    if isinstance(column, Ragged):
        return f"rows of {column.dtype}{column.trailing or ''}"
    if isinstance(column, RaggedDataset):
        return f"columns {', '.join(column.column_names)}"
    return str(column.dtype) if isinstance(column, np.ndarray) else "text"
