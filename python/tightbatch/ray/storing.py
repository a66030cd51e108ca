"""StoreBatch and LoadBatch: batches that cross the object store as one buffer, and no pickle.

A batch is a row of a table: "batch", the bytes of all its tensors, each beginning at a multiple of
64; "layout", JSON that says where each tensor is, and holds what is no tensor; and "checksum" of
both. Ray keeps such a table in shared memory, where a process on the same machine reads it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data.collate_fn import ArrowBatchCollateFn

from .. import _core
from .._types import Tensors
from ..collate.columns import TENSORS
from .collating import as_tensors, check_settings, is_tensor
from .columns import as_samples, count_rows, read_columns

_ALIGNMENT = 64  # bytes: a cache line, and what Arrow aligns to
_SCHEMA = pa.schema({"batch": pa.large_binary(), "layout": pa.string(), "checksum": pa.uint32()})


@dataclass(frozen=True)
class StoreBatch:
    """Collate in ``map_batches``, into a row of bytes that :class:`LoadBatch` reads in place.

    For nodes without an accelerator: their tasks collate, and the batch goes through Ray's object
    store as one buffer. Tensors that are returned as they are would be pickled.

    Parameters
    ----------
    collator, fill_null
        As for :class:`CollateFn`. Strings, None and nested batches may be in the batch too. With
        ``return_tensors="np"`` tasks need not import torch, and :class:`LoadBatch` gives tensors
        all the same.
    batch_size : int, optional
        Rows in a batch: what Ray hands over, such as a whole block, is cut into batches of so many,
        the last one smaller. None: it is one batch. Cut here, the batches of a block lie in one
        piece of memory, and are read where they lie. Ray copies those that it put together itself.

    Returns
    -------
    pyarrow.Table
        A row for each batch, with columns ``batch``, ``layout`` and ``checksum``.

    Raises
    ------
    TypeError
        When a value of the batch is neither a tensor nor what JSON can hold; and as
        :class:`CollateFn`.
    ValueError
        As :class:`CollateFn`.

    Examples
    --------
    >>> import pyarrow as pa
    >>> import tightbatch as tb
    >>> stored = tb.ray.StoreBatch(tb.PadCollator())(pa.table({"input_ids": [[5, 6], [7]]}))
    >>> stored.num_rows, stored.column_names
    (1, ['batch', 'layout', 'checksum'])
    >>> tb.ray.LoadBatch()(stored)["input_ids"]
    tensor([[5, 6],
            [7, 0]])

    With a Ray Dataset::

        stored = dataset.map_batches(
            tb.ray.StoreBatch(collator, batch_size=32), batch_size=None, batch_format="pyarrow"
        )
        batches = stored.iter_torch_batches(batch_size=1, collate_fn=tb.ray.LoadBatch())
    """

    collator: Callable[[Any], Any]
    fill_null: float | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Read the settings."""
        check_settings("StoreBatch", self.collator, self.fill_null)
        if self.batch_size is not None:
            _core.read_int("StoreBatch", "batch_size", self.batch_size, 1, 2**31 - 1)

    def __call__(self, batch: Any) -> Any:
        """Collate a batch of Ray's, or several, and store what the collator made."""
        columns = read_columns("StoreBatch", batch, self.fill_null)
        rows = count_rows(columns)
        size = self.batch_size or max(rows, 1)
        return join(
            store(
                "StoreBatch", self.collator(as_samples(columns, np.arange(i, min(i + size, rows))))
            )
            for i in range(0, rows, size)
        )


def join(tables: Iterable[Any]) -> Any:
    """Put the rows of batches into one table, in one piece."""
    parts = list(tables)
    return pa.concat_tables(parts).combine_chunks() if parts else _SCHEMA.empty_table()


def store(function: str, batch: Any, **about: Any) -> Any:
    """Write a batch into a row; ``about`` are notes beside it."""
    arrays: list[tuple[Any, int]] = []
    layout = {"batch": _describe(function, None, batch, arrays, [0]), **about}
    size = _aligned(arrays[-1][1] + arrays[-1][0].nbytes) if arrays else 0
    buffer = pa.allocate_buffer(size)
    memory = np.frombuffer(buffer, np.uint8)
    end = 0
    for array, offset in arrays:
        memory[end:offset] = 0
        end = offset + array.nbytes
        memory[offset:end].view(array.dtype)[...] = array.reshape(-1)
    memory[end:] = 0
    text = json.dumps(layout)
    checksum = zlib.crc32(buffer, zlib.crc32(text.encode()))
    offsets = pa.py_buffer(np.array([0, size], np.int64))
    bytes_of_it = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, buffer])
    return pa.table([bytes_of_it, pa.array([text]), pa.array([checksum], pa.uint32())], _SCHEMA)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _describe(
    function: str, path: Any, value: Any, arrays: list[tuple[Any, int]], end: list[int]
) -> Any:
    """Say where a value is, or what it is; add it to the arrays that are to be written."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{function}(): key {_core.show(key)}; expected a string")
        inner = {
            key: _describe(function, key if path is None else f"{path}.{key}", part, arrays, end)
            for key, part in value.items()
        }
        return {"dict": inner}
    if is_tensor(value) or isinstance(value, np.ndarray):
        array, kind = _as_array(value)
        if array.dtype.kind not in "biufcV" or array.dtype.fields:
            raise _not_stored(function, path, value)
        arrays.append((array, end[0]))
        place = {"tensor": kind, "shape": list(array.shape), "offset": end[0]}
        end[0] = _aligned(end[0] + array.nbytes)
        return place
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        parts = [
            _describe(function, f"{path}.{i}", part, arrays, end) for i, part in enumerate(value)
        ]
        return {"tuple": parts}
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise _not_stored(function, path, value) from None
    return {"value": value}


def _not_stored(function: str, path: Any, value: Any) -> TypeError:
    return TypeError(
        f"{function}(): key {_core.show(path)}: the batch has {_core.describe(value)} there; "
        "expected a tensor, a number or text"
    )


def _as_array(value: Any) -> tuple[Any, str]:
    """Give a tensor's memory as an array, and the name of its type."""
    if not is_tensor(value):
        return np.ascontiguousarray(value).reshape(value.shape), str(value.dtype)
    kind = str(value.dtype).removeprefix("torch.")
    value = value.detach().cpu().contiguous()
    if kind == "bfloat16":
        import torch

        value = value.view(torch.int16)
    return value.numpy(), kind


@dataclass(frozen=True)
class LoadBatch(ArrowBatchCollateFn):  # type: ignore[misc]
    """Read batches that :class:`StoreBatch` or :func:`batch_by_length` stored: a ``collate_fn``.

    For ``iter_torch_batches(batch_size=1, collate_fn=tb.ray.LoadBatch())``: a row is a batch.

    Parameters
    ----------
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.

    Returns
    -------
    dict of {str: tensor}
        Views of the object store, without a copy. Treat them as read-only: other processes see the
        same memory. Ray's move to a device copies them, and so does ``tensor.clone()``. Arrays are
        read-only. Numbers become tensors, as for :class:`CollateFn`.

    Raises
    ------
    ValueError
        When the table has not one row: ``batch_size`` is to be 1.
    TypeError
        When the table has no stored batch; and as :class:`CollateFn`.

    Examples
    --------
    >>> import pyarrow as pa
    >>> import tightbatch as tb
    >>> store = tb.ray.StoreBatch(tb.PadCollator(attention_mask=False))
    >>> tb.ray.LoadBatch(return_tensors="np")(store(pa.table({"input_ids": [[5], [6, 7]]})))
    {'input_ids': array([[5, 0],
           [6, 7]])}
    """

    return_tensors: Tensors = "pt"

    def __post_init__(self) -> None:
        """Read the setting."""
        _core.read_choice("LoadBatch", "return_tensors", self.return_tensors, TENSORS)

    def __call__(self, batch: Any) -> Any:
        """Give the batch of a table's only row."""
        made, _ = load("LoadBatch", batch, self.return_tensors)
        return as_tensors("LoadBatch", made)


def load(function: str, table: Any, return_tensors: str) -> tuple[Any, dict[str, Any]]:
    """Read a row: the batch, and the notes beside it."""
    if not isinstance(table, (pa.Table, pa.RecordBatch)) or set(_SCHEMA.names) - set(
        table.column_names
    ):
        found = getattr(table, "column_names", type(table).__name__)
        raise TypeError(
            f"{function}(): found {_core.show(found)}; expected a batch that StoreBatch or "
            "batch_by_length stored, and batch_format='pyarrow'"
        )
    if table.num_rows != 1:
        raise ValueError(
            f"{function}(): found {table.num_rows} stored batches; expected one: pass batch_size=1"
        )
    buffer = _bytes_of(table["batch"])
    layout = json.loads(table["layout"][0].as_py())
    layout["checksum"] = table["checksum"][0].as_py()
    memory = np.asarray(_Memory(buffer)) if buffer.size else np.zeros(0, np.uint8)
    return _restore(layout.pop("batch"), memory, return_tensors), layout


def _bytes_of(column: Any) -> Any:
    """Give the only value of a column, without a copy: a scalar of Arrow's would be one."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    chunk = next(chunk for chunk in chunks if len(chunk))
    _, offsets, values = chunk.buffers()
    begin, end = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + 2].tolist()
    return values.slice(begin, end - begin)


class _Memory:
    """Memory of Arrow's as an array that keeps it; torch takes no array that is read-only."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        self.__array_interface__ = {
            "data": (buffer.address, False),
            "shape": (buffer.size,),
            "typestr": "|u1",
            "version": 3,
        }


def _restore(place: Mapping[str, Any], memory: Any, return_tensors: str) -> Any:
    """Make a value from what a layout says of it."""
    if "dict" in place:
        return {key: _restore(p, memory, return_tensors) for key, p in place["dict"].items()}
    if "tuple" in place:
        return tuple(_restore(part, memory, return_tensors) for part in place["tuple"])
    if "tensor" not in place:
        return place["value"]
    kind, shape, offset = place["tensor"], place["shape"], place["offset"]
    if kind == "bfloat16":
        dtype = _bfloat16() if return_tensors == "np" else np.dtype(np.int16)
    else:
        dtype = np.dtype(kind)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    array = memory[offset : offset + size].view(dtype).reshape(shape)
    if return_tensors == "np":
        array.flags.writeable = False
        return array
    import torch

    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if kind == "bfloat16" else tensor


def _bfloat16() -> Any:
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            "LoadBatch(): return_tensors='np' gives arrays of bfloat16, which NumPy has not: "
            "python -m pip install ml_dtypes"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)
