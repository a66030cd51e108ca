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

__all__ = ["flatten", "is_nested", "readable"]

MOST_DEPTH = 4


class Ragged(Exception):
    """Rows of different lengths, where one shape is expected."""


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
    except ValueError:
        raise Ragged(_first_ragged(rows)) from None
    return _of_numbers(array)


def _first_ragged(rows: list[Any]) -> int:
    """Give the first row whose length is not the first one's."""
    lengths = [len(row) if hasattr(row, "__len__") else -1 for row in rows]
    return next((i for i, length in enumerate(lengths) if length != lengths[0]), 0)
