"""Nested samples, batches and outputs: their leaves by path, and copies with other leaves."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[Any, ...]  # keys, fields and positions, from the outermost


def leaves(value: Any, *, lists: bool, path: Path = ()) -> dict[Path, Any]:
    """Give what is in a nested value by its path, in order.

    Mappings, dataclasses (also of attrs and pydantic), namedtuples and an outermost tuple hold
    leaves. With ``lists``, as in batches and outputs, so do all lists and tuples; in samples these
    are rows.
    """
    parts = _parts(value, lists, not path)
    if parts is None:
        return {path: value}
    found: dict[Path, Any] = {}
    for key, part in parts:
        found |= leaves(part, lists=lists, path=(*path, key))
    return found


def replaced(value: Any, new: Mapping[Path, Any], *, lists: bool, path: Path = ()) -> Any:
    """Copy a nested value, with other leaves at the paths of ``new``; nothing is written into."""
    if path in new:
        return new[path]
    parts = _parts(value, lists, not path)
    if parts is None:
        return value
    made = {key: replaced(part, new, lists=lists, path=(*path, key)) for key, part in parts}
    if isinstance(value, Mapping):
        return _mapping_like(value, made)
    if isinstance(value, (tuple, list)):
        if hasattr(value, "_replace"):
            return value._replace(**made)
        return type(value)(made.values())
    other = copy.copy(value)
    for name, part in made.items():
        object.__setattr__(other, name, part)  # frozen ones too
    return other


def named(path: Path) -> str:
    """Write a path as messages do: "input_ids", "query.input_ids", "0"."""
    return ".".join(str(part) for part in path)


def _parts(value: Any, lists: bool, outermost: bool) -> Iterator[tuple[Any, Any]] | None:
    if isinstance(value, Mapping):
        return iter(value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return iter(zip(value._fields, value, strict=True))
    if isinstance(value, tuple) and (lists or outermost):
        return iter(enumerate(value))
    if isinstance(value, list) and lists:
        return iter(enumerate(value))
    names = _fields(value)
    return None if names is None else ((name, getattr(value, name)) for name in names)


def _fields(value: Any) -> list[str] | None:
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return [attribute.name for attribute in attributes]
    if hasattr(value, "model_dump"):
        fields = getattr(type(value), "model_fields", None)
        return list(fields) if isinstance(fields, Mapping) else None
    return None


def _mapping_like(value: Any, made: dict[Any, Any]) -> Any:
    if type(value) is dict:
        return made
    try:
        other = copy.copy(value)
        for key, part in made.items():
            other[key] = part
    except Exception:  # a mapping that cannot be copied or written
        return made
    return other
