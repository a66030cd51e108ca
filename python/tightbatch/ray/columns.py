"""What Ray hands over as a batch, as columns: an Arrow table, a mapping of arrays, a data frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data.extensions import ArrowVariableShapedTensorType

from .. import _arrow, _core
from .._arrow import Text
from .._records import Samples
from ..collate.samples import columns_of
from ..ragged import Ragged

# The column of a tensor's shape, while it is read: no column of a table is called so.
_SHAPE = "\1shape of "


def read_columns(function: str, batch: Any, fill_null: Any) -> dict[str, Any]:
    """Read a batch of any of Ray's formats."""
    if isinstance(batch, (pa.Table, pa.RecordBatch)):
        return _of_table(function, batch, fill_null)
    if hasattr(batch, "iloc") and hasattr(batch, "columns"):  # a data frame
        batch = {name: batch[name].to_numpy() for name in batch.columns}
    if not isinstance(batch, Mapping):
        raise TypeError(
            f"{function}(): batch={_core.describe(batch)}; expected what Ray hands over: an Arrow "
            "table, a mapping of arrays or a pandas DataFrame"
        )
    columns, _ = columns_of(function, batch)
    return columns


def count_rows(columns: Mapping[str, Any]) -> int:
    """Count the rows of a batch."""
    return len(next(iter(columns.values()), ()))


def as_samples(columns: Mapping[str, Any], rows: Any = None) -> Samples:
    """Give the rows of columns, or those chosen, as a collator reads a batch."""
    chosen = {name: _as_values(_take(column, rows)) for name, column in columns.items()}
    return Samples(chosen, count_rows(columns) if rows is None else len(rows))


def _take(column: Any, rows: Any) -> Any:
    if rows is None:
        return column
    if isinstance(column, list):
        return [column[row] for row in rows.tolist()]
    return column[rows]


def _as_values(column: Any) -> Any:
    is_list = isinstance(column, np.ndarray) and column.dtype == object
    return column.tolist() if is_list or isinstance(column, Text) else column


def _of_table(function: str, table: Any, fill_null: Any) -> dict[str, Any]:
    """Read a table; Ray's tensors are read from the lists in which they are stored."""
    stored: dict[str, Any] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        if isinstance(column.type, ArrowVariableShapedTensorType):
            parts = [
                dict(zip(_names_of(chunk), chunk.storage.flatten(), strict=True))
                for chunk in chunks
            ]
            kind = column.type.storage_type
            stored[name] = _chunked([part["data"] for part in parts], kind["data"].type)
            stored[_SHAPE + name] = _chunked([part["shape"] for part in parts], kind["shape"].type)
        elif isinstance(column.type, pa.BaseExtensionType):
            stored[name] = _chunked([chunk.storage for chunk in chunks], column.type.storage_type)
        elif _has_no_type(column.type):  # each row is [], so that Arrow found no type
            stored[name] = column.cast(pa.large_list(pa.int64()))
        else:
            stored[name] = column
    found = _arrow.columns(function, pa.table(stored), None, fill_null)
    shapes = {name: found.pop(name) for name in list(found) if name.startswith(_SHAPE)}
    for name in table.column_names:
        if _SHAPE + name in shapes:
            found[name] = _with_shapes(found[name], shapes[_SHAPE + name])
        elif hasattr(table.schema.field(name).type, "shape"):
            found[name] = _of_one_shape(function, name, table, found[name])
    return found


def _has_no_type(kind: Any) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(is_list and pa.types.is_null(kind.value_type))


def _names_of(chunk: Any) -> list[str]:
    return [field.name for field in chunk.type.storage_type]


def _chunked(chunks: list[Any], kind: Any) -> Any:
    return pa.chunked_array(chunks, type=kind)


def _of_one_shape(function: str, name: str, table: Any, rows: Any) -> Any:
    """Give tensors of one shape as one array, [rows, *shape]."""
    kind = table.schema.field(name).type
    shape, order = tuple(kind.shape), getattr(kind, "permutation", None)
    other = rows.lengths != math.prod(shape)
    if other.any():
        raise ValueError(
            f"{function}(): key {name!r}, row {int(other.argmax())}: is null; expected a tensor of "
            f"shape {shape}: remove such rows first, as with dataset.filter"
        )
    if order is not None and list(order) != sorted(order):
        raise TypeError(
            f"{function}(): key {name!r}: tensors whose dimensions are permuted ({list(order)}); "
            "expected them in order"
        )
    return rows.compact().values.reshape(len(rows), *shape)


def _with_shapes(rows: Any, shapes: Any) -> Any:
    """Give tensors of several shapes: rows, if only the first dimension differs."""
    if len(rows) == 0:
        return rows
    if not shapes.lengths.all():
        shapes = None  # nulls, which fill_null made empty
    found = None if shapes is None else shapes.compact().values.reshape(len(rows), -1)
    if found is None or found.shape[1] == 1:
        return rows
    trailing = tuple(found[0, 1:].tolist())
    size = math.prod(trailing)
    if size > 0 and (found[:, 1:] == found[0, 1:]).all():
        if any(len(chunk) % size for chunk in rows._chunks):
            rows = rows.compact()
        chunks = tuple(chunk.reshape(-1, *trailing) for chunk in rows._chunks)
        return Ragged._of(chunks, rows.starts // size, rows.lengths // size)
    arrays = np.empty(len(rows), object)
    for i, (row, shape) in enumerate(zip(rows, found.tolist(), strict=True)):
        arrays[i] = row.reshape(shape)
    return arrays
