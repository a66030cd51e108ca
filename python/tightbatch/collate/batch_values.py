"""Make the columns of any library's batch into what the C code reads."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .batch_roles import Role

__all__ = ["Unreadable", "flatten", "is_nested", "readable"]

MOST_DEPTH = 4
# What an integer beyond 64 bits is found as.
LARGE = {
    Role.IDS: "id_range",
    Role.POSITIONS: "position_range",
    Role.MASK: "mask_value",
    Role.LABELS: "label_range",
    Role.SHIFTED_LABELS: "label_range",
    Role.TARGETS: "label_range",
    Role.DECODER_LABELS: "label_range",
    Role.ROW_LABELS: "label_range",
    Role.LENGTHS: "length",
    Role.SEQ_LENGTHS: "length",
}


class Unreadable(Exception):
    """Lists that are no array of numbers: the kind of finding, where, and what was found."""

    def __init__(self, kind: str, row: int, column: int | None, message: str) -> None:
        super().__init__(kind, row, column, message)
        self.kind, self.row, self.column, self.message = kind, row, column, message


def is_nested(value: Any) -> bool:
    """Tell whether a value of a batch has columns of its own."""
    if hasattr(value, "dtype"):
        return False  # quickly, as nearly always
    if isinstance(value, Mapping):
        return True
    if isinstance(value, (list, tuple)):
        return any(isinstance(item, Mapping) for item in value[:2])
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def flatten(batch: Any, function: str) -> dict[Any, Any]:
    """Give the columns of a batch by name; of nested ones "query.input_ids" or "0.input_ids"."""
    if not isinstance(batch, Mapping) and not is_nested(batch) and not hasattr(batch, "_fields"):
        raise TypeError(
            f"{function}(): batch is {_core.describe(batch)}, expected columns by name: a dict or "
            "BatchEncoding, or a tuple or dataclass of them"
        )
    return dict(_walk(batch, "", MOST_DEPTH))


def _walk(value: Any, path: str, depth: int) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        items = list(value.items())
    elif hasattr(value, "_fields"):
        items = list(zip(value._fields, value, strict=True))
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    else:
        items = [(each.name, getattr(value, each.name)) for each in dataclasses.fields(value)]
    for key, inner in items:
        name = f"{path}.{key}" if path else str(key)
        if depth > 0 and is_nested(inner):
            yield from _walk(inner, name, depth - 1)
        else:
            yield name, inner


def readable(value: Any, role: Role, name: str, notes: list[str]) -> Any:
    """Give a column as a tensor or array that the C code reads, or None; say why in `notes`."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _read_tensor(value, name, notes)
    if value is None or isinstance(value, (str, bytes)):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, (list, tuple)) or _is_object_array(value):
        return _read_rows(list(value), role, name)
    if not hasattr(value, "__array__") and not hasattr(value, "__dlpack__"):
        notes.append(f"{name}: a {type(value).__name__} is not looked at")
        return None
    return _of_numbers(np.ma.asanyarray(value) if _is_masked(value) else np.asarray(value))


def _is_masked(value: Any) -> bool:
    return isinstance(value, np.ma.MaskedArray)


def _is_object_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 1


def _of_numbers(array: NDArray[Any]) -> NDArray[Any] | None:
    return array if array.dtype.kind in "biufV" else None


def _read_tensor(tensor: Any, name: str, notes: list[str]) -> Any:
    import torch

    try:
        if tensor.is_nested or tensor.layout != torch.strided or tensor.is_meta:
            notes.append(f"{name}: a nested, sparse or meta tensor is not looked at")
            return None
        if tensor.device.type != "cpu":
            notes.append(f"{name}: copied from {tensor.device} to be looked at")
        plain = tensor.detach().to("cpu").as_subclass(torch.Tensor)
        if plain.dtype == torch.bfloat16 or plain.dtype.is_complex:
            plain = plain.to(torch.float32) if plain.dtype == torch.bfloat16 else None
        return None if plain is None else plain.resolve_neg().contiguous().numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        notes.append(f"{name}: not looked at: {str(error).splitlines()[0]:.200}")
        return None


def _read_rows(rows: list[Any], role: Role, name: str) -> Any:
    """Make an array of lists; the lengths of segments may be lists of different lengths."""
    if rows and all(hasattr(row, "shape") and getattr(row, "ndim", 0) > 0 for row in rows):
        rows = [np.asarray(row) for row in rows]
    if role is Role.SEQ_LENGTHS and rows and all(hasattr(row, "__len__") for row in rows):
        # Zeros fill the shorter lists; a zero of the user's own is marked.
        width = max(len(row) for row in rows)
        rows = [[n if n != 0 else -1 for n in row] + [0] * (width - len(row)) for row in rows]
    try:
        array = np.asarray(rows)
    except (ValueError, RecursionError):
        raise _explain(rows, role, name) from None
    if array.dtype == object and (odd := _find_large(rows, role)):
        raise odd
    return _of_numbers(array)


def _explain(rows: list[Any], role: Role, name: str) -> Unreadable:
    """Say why rows are no array: one nests lists, or has another length than the first."""
    depths = [[isinstance(item, (list, tuple)) for item in row]
              if isinstance(row, (list, tuple)) else [] for row in rows]  # fmt: skip
    for i, nests in enumerate(depths):
        if any(nests) and not all(nests):
            return Unreadable(
                "shape", i, nests.index(True), "found a list among numbers, expected a number"
            )
    lengths = [len(row) if hasattr(row, "__len__") else -1 for row in rows]
    other = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if other is not None:
        message = f"found a row of another length than row 0, expected {name} padded to one width"
        return Unreadable("shape", other, None, message)
    return Unreadable("shape", 0, None, "found lists of different depths, expected rows of numbers")


def _find_large(rows: list[Any], role: Role) -> Unreadable | None:
    """Find the first integer that has more than 64 bits."""
    kind = LARGE.get(role, "shape")
    for i, row in enumerate(rows):
        items = row if isinstance(row, (list, tuple)) else [row]
        for k, item in enumerate(items):
            if isinstance(item, int) and item.bit_length() > 63:
                message = f"found an integer of {item.bit_length()} bits, expected at most 64"
                return Unreadable(kind, i, k if items is row else None, message)
    return None
